"""The public names: explained, enough for plugins and documents, and all that they use."""

from __future__ import annotations

import ast
import dataclasses
import inspect
import re
from pathlib import Path

import pytest
from torch import Tensor

import harness

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCK = re.compile(r"^```python\n(.*?)^```$", flags=re.DOTALL | re.MULTILINE)
SHAPE = re.compile(r"\(\w+,")  # such as (N, C, H, W)
PUBLIC_MODULES = {"harness", "harness.testing"}
CLASSES = [name for name in harness.__all__ if inspect.isclass(getattr(harness, name))]
FUNCTIONS = [name for name in harness.__all__ if inspect.isfunction(getattr(harness, name))]


def imported(text):
    """Yields the modules of the harness that a source imports, and the names that it takes from ``harness``."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.partition(".")[0] == "harness":
            yield node.module, [alias.name for alias in node.names]
        elif isinstance(node, ast.Import):
            yield from ((alias.name, []) for alias in node.names if alias.name.partition(".")[0] == "harness")


def not_public(text):
    """What a source uses of the harness that is no public name."""
    found = []
    for module, names in imported(text):
        found += [module] if module not in PUBLIC_MODULES else []
        found += [name for name in names if module == "harness" and name not in (*harness.__all__, "testing")]
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "harness":
            found += [] if node.attr in (*harness.__all__, "testing") else [node.attr]
    return found


def first_paragraph(value):
    return inspect.cleandoc(value.__doc__ or "").partition("\n\n")[0]


def own_methods(name):
    """Yields the public functions and properties that a class defines itself."""
    for key, value in vars(getattr(harness, name)).items():
        function = getattr(value, "fget", None) or getattr(value, "__func__", value)
        if not key.startswith("_") and inspect.isfunction(function) and function.__module__.startswith("harness."):
            yield function


def test_a_source_that_uses_more_than_public_names_is_noticed():
    assert not_public("import harness\nfrom harness.testing import Lab\nharness.run") == []
    assert not_public("from harness.interface.model import Model") == ["harness.interface.model"]
    assert not_public("from harness import Modle") == ["Modle"]
    assert not_public("import harness\nharness.rnu") == ["rnu"]


@pytest.mark.parametrize("file", sorted((ROOT / "plugins").rglob("*.py")), ids=lambda file: file.stem)
def test_plugins_use_public_names_alone(file):
    assert not_public(file.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize("file", sorted((ROOT / "harness/builtin").rglob("*.py")), ids=lambda file: file.stem)
def test_what_is_built_in_uses_public_names_alone(file):
    found = not_public(file.read_text(encoding="utf-8"))
    assert [name for name in found if not name.startswith("harness.builtin")] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_documents_use_public_names_alone(page):
    text = page.read_text(encoding="utf-8")
    assert [found for block in BLOCK.findall(text) for found in not_public(block)] == []
    if page.stem != "architecture":
        named = set(re.findall(r"`harness\.(\w+)[`.(]", text))
        assert named <= {*harness.__all__, "testing"}


@pytest.mark.parametrize("name", [*CLASSES, *FUNCTIONS])
def test_every_public_class_and_function_begins_with_a_sentence(name):
    value = getattr(harness, name)
    sentence = first_paragraph(value)
    assert sentence[:1].isupper()
    assert re.search(r"[.:]$", sentence)
    assert not (dataclasses.is_dataclass(value) and sentence.startswith(f"{name}(")), "made by dataclass"


@pytest.mark.parametrize("name", CLASSES)
def test_every_method_of_a_public_class_is_explained(name):
    assert [method.__name__ for method in own_methods(name) if not method.__doc__] == []


@pytest.mark.parametrize("name", CLASSES)
def test_a_method_with_tensors_says_their_shape(name):
    whole = inspect.getdoc(getattr(harness, name)) or ""
    with_tensors = [method for method in own_methods(name) if {"Tensor", Tensor} & set(method.__annotations__.values())]
    assert [method.__name__ for method in with_tensors if not SHAPE.search(method.__doc__ + whole)] == []


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_function_of_several_arguments_explains_each(name):
    function = getattr(harness, name)
    arguments = list(inspect.signature(function).parameters)
    if len(arguments) > 2:
        assert [argument for argument in arguments if not re.search(rf"\b{argument}\b", function.__doc__)] == []
