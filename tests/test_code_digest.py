"""The digest of a model's code: changes with what the code does, and with nothing else."""

from __future__ import annotations

import os
import sys

import pytest

from harness.code_digest import code_digest

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

    def digest(self, packages=("zoo_layers",), drawing=False):
        return code_digest("zoo.model", packages, drawing=drawing)


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


def test_a_package_that_is_not_listed_is_not_followed(zoo):
    before = zoo.digest(())
    zoo.append("zoo_layers/masks.py", "\nCHANGED = True\n")
    assert zoo.digest(()) == before


def test_undoing_a_change_restores_the_digest(zoo):
    before = zoo.digest()
    zoo.append("zoo/helper.py", "\nCHANGED = True\n")
    zoo.write("zoo/helper.py", FILES["zoo/helper.py"])
    assert zoo.digest() == before


def test_the_same_code_under_another_module_name_has_another_digest(zoo):
    zoo.write("zoo/twin.py", MODEL)
    assert code_digest("zoo.twin", ["zoo_layers"]) != zoo.digest()


def test_the_trainers_code_is_part_of_every_digest(zoo, monkeypatch, tmp_path):
    before = zoo.digest()
    zoo.write("trainer.py", "TRAINER = 1\n")
    monkeypatch.setattr("harness.code_digest._CORE", ("trainer",))
    assert zoo.digest() != before


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


def test_what_samplers_import_counts_for_drawing_alone(zoo):
    with_samplers = MODEL + "\n    def samplers(self):\n        from zoo.fast import draw\n\n        return draw\n"
    zoo.write("zoo/model.py", with_samplers)
    zoo.write("zoo/fast.py", "def draw():\n    return 1\n")
    before = zoo.digest(), zoo.digest(drawing=True)
    zoo.write("zoo/fast.py", "def draw():\n    return 2\n")
    assert zoo.digest() == before[0]
    assert zoo.digest(drawing=True) != before[1]


def test_without_samplers_of_its_own_a_models_code_for_drawing_is_its_code(zoo):
    assert zoo.digest(drawing=True) == zoo.digest()
