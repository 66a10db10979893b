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


@pytest.fixture
def packages(site, tmp_path):
    """Copies of the plugin and of the core, to be edited, each under its name; what is imported first comes first."""
    core = tmp_path / "core" / "harness"
    plugin = tmp_path / "site" / "harness_tinker"
    for source, target in ((Path(harness.__file__).parent, core), (site, plugin.parent)):
        shutil.copytree(source, target)
    return {"the plugin's module": plugin, "the training loop's": core}


MOVES = {
    "the plugin's module": ("harness_tinker.tilted", "harness_tinker.slanted"),
    "the training loop's": (harness.Trainer.__module__, "harness.loop"),
}


def test_modules_that_are_moved_and_commented_are_the_same_code(trained, packages):
    for name, (old, new) in MOVES.items():
        move(packages[name], old, new, ("import torch\n", "import torch  # a comment\n"))
    assert states(trained, *(package.parent for package in packages.values())) == {"hit"}


@pytest.mark.parametrize("name", MOVES)
def test_a_line_that_is_changed_in_what_is_moved_makes_runs_stale(trained, packages, name):
    move(packages[name], *MOVES[name], ("import torch\n", "import torch\n\nCHANGED = True\n"))
    assert states(trained, *(package.parent for package in packages.values())) == {"stale"}
