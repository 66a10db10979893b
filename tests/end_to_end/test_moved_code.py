"""Runs and the code they depend on: to move a module or to comment it leaves them hits, to change a line does not."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import harness

EDITS = [
    ("hit", "import torch\n", "import torch  # a comment\n"),
    ("stale", "import torch\n", "import torch\n\nCHANGED = True\n"),
]
NAMES = ["moved, and a comment", "moved, and a changed line"]


@pytest.fixture(scope="module")
def trained(make_lab):
    """A lab where ``suite.toml`` has been run: a model, and one that imports its module. Not to be changed."""
    lab = make_lab()
    lab.done("run", lab.suite(["tilted", "edited"]))
    return lab


def move(package, old, new, edit):
    """Moves a module of a copied package, with all words that name it, and edits it."""
    for file in package.rglob("*.py"):
        text = file.read_text(encoding="utf-8")
        if old in text:
            file.write_text(text.replace(old, new), encoding="utf-8")
    source, target = (package.parent / f"{name.replace('.', '/')}.py" for name in (old, new))
    text = source.read_text(encoding="utf-8")
    assert edit[0] in text
    target.write_text(text.replace(*edit, 1), encoding="utf-8")
    source.unlink()


def states(lab, *path):
    """The states of a plan by a process of its own that imports from ``path`` first."""
    command = [
        sys.executable,
        "-c",
        "from harness.cli import main; main()",
        "--artifacts",
        lab.artifacts,
        "run",
        lab.root / "suite.toml",
    ]
    done = subprocess.run(
        [*command, "--dry-run", "--json"],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(map(str, path))},
        capture_output=True,
        check=True,
        cwd=lab.root,
    )
    return {item["state"] for item in json.loads(done.stdout)}


@pytest.mark.parametrize(("state", "old", "new"), EDITS, ids=NAMES)
def test_a_plugins_module(trained, site, tmp_path, state, old, new):
    copy = tmp_path / "site"
    shutil.copytree(site, copy, ignore=shutil.ignore_patterns("__pycache__"))
    move(copy / "harness_tinker", "harness_tinker.tilted", "harness_tinker.slanted", (old, new))
    assert states(trained, copy) == {state}


@pytest.mark.parametrize(("state", "old", "new"), EDITS, ids=NAMES)
def test_the_training_loops_module(trained, site, tmp_path, state, old, new):
    core = tmp_path / "core" / "harness"
    shutil.copytree(Path(harness.__file__).parent, core, ignore=shutil.ignore_patterns("__pycache__"))
    move(core, harness.Trainer.__module__, "harness.loop", (old, new))
    assert states(trained, core.parent, site) == {state}
