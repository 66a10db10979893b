"""Fixtures for the tests of the core: third-party distributions, made of real files."""

from __future__ import annotations

import importlib
import os
import sys
import textwrap

import pytest

from harness import distributions, plugins
from harness.record import RunRecord, ScoreRecord
from harness.spec import RunSpec


def _forget_caches():
    importlib.invalidate_caches()
    plugins.plugin_manager.cache_clear()
    distributions.shared_packages.cache_clear()


@pytest.fixture
def install_plugin(tmp_path, monkeypatch):
    """Returns a function that installs a distribution, for this process and for its children.

    ``install(distribution, files, entry_points={name: value})`` writes the files (texts by path, dedented), and a
    ``.dist-info`` beside them, into one folder that is on ``sys.path`` and ``PYTHONPATH``; it returns that folder.
    ``entry_points`` may be the text of the file instead.
    """
    site = tmp_path / "site"
    site.mkdir()
    monkeypatch.setattr(sys, "path", [str(site), *sys.path])
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, [str(site), os.environ.get("PYTHONPATH")])))
    monkeypatch.delenv(plugins.BLOCK_VARIABLE, raising=False)
    before = set(sys.modules)

    def install(distribution, files, *, entry_points=(), version="0.1", requires=("genharness",)):
        for name, text in files.items():
            (site / name).parent.mkdir(parents=True, exist_ok=True)
            (site / name).write_text(textwrap.dedent(text), encoding="utf-8")
        info = site / f"{distribution.replace('-', '_')}-{version}.dist-info"
        info.mkdir()
        lines = ["Metadata-Version: 2.1", f"Name: {distribution}", f"Version: {version}"]
        (info / "METADATA").write_text("\n".join([*lines, *(f"Requires-Dist: {item}" for item in requires), ""]))
        if not isinstance(entry_points, str):
            entry_points = "[harness]\n" + "".join(f"{name} = {value}\n" for name, value in dict(entry_points).items())
        (info / "entry_points.txt").write_text(entry_points)
        _forget_caches()
        return site

    yield install
    _forget_caches()
    for name in set(sys.modules) - before:
        # the fake plugins' modules alone: what they made the core import stays
        if str(getattr(sys.modules[name], "__file__", "")).startswith(str(site)):
            del sys.modules[name]


@pytest.fixture
def make_score():
    """Returns a function that makes a score that is done."""

    def make(metric="nll", value=1.5, **changes):
        return ScoreRecord(**{"metric": metric, "key": "k", "value": value, "unit": "nats", "kind": "exact", **changes})

    return make


@pytest.fixture
def make_record(make_score):
    """Returns a function that makes a record that is done, with scores given by name and value."""

    def make(run="made-digits-s0-0000000000", *, scores=None, **changes):
        content = {
            "run": run,
            "key": f"key of {run}",
            "identity": "i",
            "spec": RunSpec(model="made", dataset="digits", hyperparameters={"hidden": [5]}),
            "hyperparameters": {"hidden": [5], "learning_rate": 1e-3},
            "provider": "harness-made 0.1",
            "code": "c",
            "dataset_digest": "d",
            "status": "done",
            "scores": {name: make_score(name, value) for name, value in (scores or {}).items()},
        }
        return RunRecord(**{**content, **changes})

    return make
