"""The digest of a model's code: changes with what the code does, and with nothing else."""

from __future__ import annotations

import importlib
import inspect
import os
import sys
from pathlib import Path

import pytest

import harness
from harness.discovery.code_digest import code_digest

MODEL = '''
"""A model."""

from __future__ import annotations

import torch

from zoo.helper import scale
from . import cycle
from .parts import block as renamed
from zoo_layers import masks


class Made:
    """Masked."""

    def forward(self, x):
        """Goes forward."""
        return scale(x) + 1  # the bias
'''

FILES = {
    "zoo/__init__.py": "",
    "zoo/model.py": MODEL,
    "zoo/helper.py": "import math\n\ndef scale(x):\n    return 2 * x\n",
    "zoo/unrelated.py": "A = 1\n",
    "zoo/cycle.py": "from . import model\nfrom .deeper import B\n",
    "zoo/deeper.py": "B = 1\n",
    "zoo/parts/__init__.py": "from .inner import block\n",
    "zoo/parts/inner.py": "from .. import relative\n\ndef block():\n    return 0\n",
    "zoo/relative.py": "C = 1\n",
    "zoo_layers/__init__.py": "",
    "zoo_layers/masks.py": "import missing_dependency\nfrom missing.too import name\n\nD = 1\n",
    "elsewhere.py": "E = 1\n",
}


class Zoo:
    """A plugin's source, which can be edited."""

    def __init__(self, root):
        self.root, self.edits = root, 0

    def write(self, name, text):
        file = self.root / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
        self.edits += 1
        os.utime(file, ns=(self.edits * 10**9, self.edits * 10**9))  # two edits within one tick of the clock

    def append(self, name, text):
        self.write(name, (self.root / name).read_text() + text)

    def replace(self, name, old, new):
        text = (self.root / name).read_text()
        assert old in text
        self.write(name, text.replace(old, new))

    def digest(self, packages=("zoo_layers",)):
        return code_digest("zoo.model", packages)


@pytest.fixture
def zoo(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    made = Zoo(tmp_path)
    for name, text in FILES.items():
        made.write(name, text)
    return made


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("# the bias", "# another comment"),
        ('"""A model."""', '"""Another model."""'),
        ('    """Masked."""\n', ""),
        ('"""Goes forward."""', "'''Goes\n        forward.'''"),
        ("scale(x) + 1", "(scale( x )\n            +\n\n            1)"),
        ("\n\n\nclass", "\n\n\n\n\nclass"),
    ],
    ids=["comment", "module docstring", "class docstring", "function docstring", "layout", "blank lines"],
)
def test_what_does_not_change_the_code_keeps_the_digest(zoo, old, new):
    before = zoo.digest()
    assert old in MODEL
    zoo.write("zoo/model.py", MODEL.replace(old, new))
    assert zoo.digest() == before


@pytest.mark.parametrize(
    ("old", "new"),
    [("+ 1", "+ 2"), ("Made", "Nade"), ("(self, x)", "(self, x, y=0)"), ("return scale", "return 'scale', scale")],
)
def test_a_change_in_the_models_code_changes_the_digest(zoo, old, new):
    before = zoo.digest()
    zoo.write("zoo/model.py", MODEL.replace(old, new))
    assert zoo.digest() != before


@pytest.mark.parametrize(
    "name",
    [
        "zoo/helper.py",
        "zoo/cycle.py",
        "zoo/deeper.py",
        "zoo/parts/__init__.py",
        "zoo/parts/inner.py",
        "zoo/relative.py",
        "zoo_layers/masks.py",
    ],
)
def test_a_change_in_what_the_model_imports_changes_the_digest(zoo, name):
    before = zoo.digest()
    zoo.append(name, "\nCHANGED = True\n")
    assert zoo.digest() != before


@pytest.mark.parametrize("name", ["zoo/unrelated.py", "elsewhere.py"])
def test_a_change_in_what_the_model_does_not_import_keeps_the_digest(zoo, name):
    before = zoo.digest()
    zoo.append(name, "\nCHANGED = True\n")
    assert zoo.digest() == before


@pytest.mark.parametrize(
    "name",
    ["zoo/weights.npz", "zoo/parts/fast.cpython-311.so", "zoo/tables/words", "zoo_layers/a.json"],
)
def test_a_change_in_a_data_file_or_compiled_module_of_the_packages_changes_the_digest(zoo, name):
    before = zoo.digest()
    zoo.write(name, "1")
    written = zoo.digest()
    zoo.write(name, "2")
    assert len({before, written, zoo.digest()}) == 3
    (zoo.root / name).unlink()
    assert zoo.digest() == before


def test_data_in_a_linked_folder_count_whatever_their_names_and_a_link_that_leads_back_ends(zoo):
    zoo.write("away/tables/a.bin", "1")
    (zoo.root / "zoo" / "tables").symlink_to(zoo.root / "away" / "tables")
    (zoo.root / "away" / "tables" / "back").symlink_to(zoo.root / "zoo")
    Path(os.fsdecode(os.fsencode(zoo.root / "zoo") + b"/\xff.bin")).write_text("1")
    before = zoo.digest()
    zoo.write("away/tables/a.bin", "2")
    assert zoo.digest() != before


@pytest.mark.parametrize("name", ["zoo/README.md", "zoo/kernel.cpp", "zoo/.cache/fast.so", "beside.npz", "other/a.npz"])
def test_a_file_that_is_no_data_or_lies_elsewhere_keeps_the_digest(zoo, name):
    before = zoo.digest()
    zoo.write(name, "1")
    assert zoo.digest() == before


def test_a_change_in_a_compiled_module_beside_the_package_that_it_imports_changes_the_digest(zoo):
    zoo.write("zoo_fast.so", "1")
    zoo.append("zoo/model.py", "import zoo_fast\n")
    before = zoo.digest(("zoo_layers", "zoo_fast"))
    zoo.write("zoo_fast.so", "2")
    assert zoo.digest(("zoo_layers", "zoo_fast")) != before


def test_of_a_file_that_is_very_large_a_bounded_part_is_read(zoo):
    zoo.write("zoo/huge.bin", "")
    os.truncate(zoo.root / "zoo/huge.bin", 2**40)
    before = zoo.digest()
    os.truncate(zoo.root / "zoo/huge.bin", 2**40 + 1)
    assert zoo.digest() != before


def test_a_package_that_is_not_listed_is_not_followed(zoo):
    before = zoo.digest(())
    zoo.append("zoo_layers/masks.py", "\nCHANGED = True\n")
    assert zoo.digest(()) == before


def test_undoing_a_change_restores_the_digest(zoo):
    before = zoo.digest()
    zoo.append("zoo/helper.py", "\nCHANGED = True\n")
    zoo.write("zoo/helper.py", FILES["zoo/helper.py"])
    assert zoo.digest() == before


def test_a_model_whose_module_is_renamed_keeps_its_digest(zoo):
    before = zoo.digest()
    zoo.write("zoo/twin.py", MODEL)
    zoo.write("zoo/cycle.py", FILES["zoo/cycle.py"].replace("model", "twin"))
    assert code_digest("zoo.twin", ["zoo_layers"]) == before


@pytest.mark.parametrize(
    ("old", "new", "importers"),
    [
        ("zoo/helper.py", "zoo/tools.py", {"zoo/model.py": ("zoo.helper", "zoo.tools")}),
        ("zoo/cycle.py", "zoo/rounds.py", {"zoo/model.py": ("import cycle", "import rounds")}),
        ("zoo/deeper.py", "zoo/below/here.py", {"zoo/cycle.py": (".deeper", ".below.here")}),
        ("zoo/parts/inner.py", "zoo/inner.py", {"zoo/parts/__init__.py": (".inner", "..inner"),
                                                "zoo/inner.py": ("from ..", "from .")}),
        ("zoo_layers/masks.py", "zoo/masks.py", {"zoo/model.py": ("from zoo_layers", "from zoo")}),
    ],
)  # fmt: skip
def test_a_module_that_is_renamed_with_its_importers_keeps_the_digest(zoo, old, new, importers):
    before = zoo.digest()
    zoo.write(new, FILES[old])
    (zoo.root / old).unlink()
    for name, words in importers.items():
        zoo.replace(name, *words)
    assert zoo.digest() == before


@pytest.mark.parametrize(
    ("imported", "used"),
    [
        ("import zoo.helper", "zoo.helper.scale(1)"),
        ("import zoo.helper as h", "h.scale(1)"),
        ("from zoo import helper", "helper.scale(1)"),
        ("from . import helper as h", "h.scale(1)"),
    ],
)
def test_however_a_module_is_named_where_it_is_used_its_content_counts(zoo, imported, used):
    zoo.write("zoo/model.py", f"{imported}\nX = {used}\n")
    before = zoo.digest()
    zoo.write("zoo/renamed.py", FILES["zoo/helper.py"])
    (zoo.root / "zoo/helper.py").unlink()
    zoo.replace("zoo/model.py", "helper", "renamed")
    assert zoo.digest() == before
    zoo.replace("zoo/renamed.py", "2 * x", "3 * x")
    assert zoo.digest() != before


def test_the_same_name_from_a_module_of_other_content_changes_the_digest(zoo):
    zoo.write("zoo/other.py", "def scale(x):\n    return x\n")
    zoo.append("zoo/model.py", "\nfrom zoo import other\n")
    before = zoo.digest()
    zoo.replace("zoo/model.py", "zoo.helper import scale", "zoo.other import scale")
    zoo.replace("zoo/model.py", "import other", "import helper")
    assert zoo.digest() != before


def test_another_name_from_the_same_module_changes_the_digest(zoo):
    before = zoo.digest()
    zoo.replace("zoo/model.py", "import scale", "import shift as scale")
    assert zoo.digest() != before


def test_the_order_of_imports_is_layout(zoo):
    before = zoo.digest()
    zoo.replace(
        "zoo/model.py",
        "from zoo.helper import scale\nfrom . import cycle",
        "from . import cycle\nfrom zoo.helper import scale",
    )
    assert zoo.digest() == before


def test_another_package_of_somebody_elses_changes_the_digest(zoo):
    before = zoo.digest()
    zoo.replace("zoo/model.py", "import torch", "import jax as torch")
    assert zoo.digest() != before


@pytest.mark.parametrize("line", ["from harness.elsewhere import Model", "from harness.interface.model import Model"])
def test_where_the_core_keeps_a_name_does_not_matter(zoo, line):
    zoo.append("zoo/model.py", "\nfrom harness import Model\n")
    before = zoo.digest()
    zoo.replace("zoo/model.py", "from harness import Model", line)
    assert zoo.digest() == before


def test_imports_for_type_checkers_do_not_count(zoo):
    zoo.append("zoo/model.py", "\nfrom typing import TYPE_CHECKING\n")
    before = zoo.digest()
    zoo.append("zoo/model.py", "\nif TYPE_CHECKING:\n    from zoo import unrelated\n")
    changed = zoo.digest()
    zoo.append("zoo/unrelated.py", "B = 2\n")
    assert zoo.digest() == changed == before


@pytest.mark.parametrize(
    ("old", "new", "same"),
    [
        ("", "", True),
        ("self.step += 1\n", "self.step += 1  # one batch\n", True),
        ("self.step += 1\n", "self.step += 2\n", False),
    ],
    ids=["moved", "moved, and a comment", "a changed line"],
)
def test_the_training_loop_counts_by_its_content(zoo, monkeypatch, old, new, same):
    before = zoo.digest()
    text = Path(inspect.getfile(harness.Trainer)).read_text(encoding="utf-8")
    assert old in text
    zoo.write("moved_training.py", text.replace(old, new))
    monkeypatch.setattr(harness, "Trainer", importlib.import_module("moved_training").Trainer, raising=False)
    try:
        assert (zoo.digest() == before) is same
    finally:
        del sys.modules["moved_training"]


def test_nothing_is_imported(zoo):
    for name in ("zoo/__init__.py", "zoo/helper.py", "zoo/parts/__init__.py", "zoo_layers/__init__.py"):
        zoo.append(name, "\nraise RuntimeError('imported')\n")
    zoo.digest()
    assert not [name for name in sys.modules if name.partition(".")[0] in ("zoo", "zoo_layers")]


def test_a_module_that_is_not_there_has_the_digest_of_the_trainer_alone():
    assert code_digest("nowhere.at.all", []) == code_digest("nowhere_else", [])


def test_source_in_a_declared_encoding_is_read(zoo):
    (zoo.root / "zoo/latin.py").write_bytes("# -*- coding: latin-1 -*-\nNAME = 'é'\n".encode("latin-1"))
    zoo.append("zoo/model.py", "\nfrom . import latin\n")
    before = zoo.digest()
    (zoo.root / "zoo/latin.py").write_bytes("# -*- coding: latin-1 -*-\nNAME = 'è'\n".encode("latin-1"))
    os.utime(zoo.root / "zoo/latin.py", (5, 5))
    assert zoo.digest() != before
