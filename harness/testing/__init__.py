"""For the tests of plugins: conformance suites to subclass, and fixtures. A pytest plugin; loads no torch by itself.

    from harness.testing import ModelConformance

    class TestKDE(ModelConformance):
        model = "kde"
        expected_failures = {"dependence": "every pixel sees the row above alone: that is the model"}

runs every check of the audit, and what a benchmark asks of a plugin beyond it, one test each. ``DatasetConformance``
and ``MetricConformance`` do the same for the other two nouns. The classes work by being imported. The fixtures
``harness_lab`` (a whole suite in a temporary folder) and ``harness_tiny_dataset`` need the plugin to be loaded, as an
installed ``genharness`` is, else by ``pytest -p harness.testing``.

In comes what a plugin registers, by name or class; out go test results. All of ``harness`` but the command may be
imported here, inside the functions where it needs torch. It needs pytest, which no other room does.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from harness.testing.conformance import Conformance, DatasetConformance, MetricConformance, ModelConformance

if TYPE_CHECKING:
    from harness.boards.leaderboard import Leaderboard
    from harness.interface.dataset import Dataset
    from harness.interface.metric import Metric
    from harness.records.record import RunRecord
    from harness.running.planning import Settings
    from harness.suites.suite import Suite

__all__ = [
    "Conformance", "DatasetConformance", "Lab", "MetricConformance", "ModelConformance", "registered_dataset",
    "registered_metric",
]  # fmt: skip


def registered_dataset(name: str) -> Dataset:
    """Returns a dataset by its name, as a suite writes it; nothing is downloaded."""
    from harness.discovery.loading import load_dataset
    from harness.discovery.manager import plugin_manager
    from harness.interface.data_folder import DataFolder

    return load_dataset(plugin_manager(), name, DataFolder.resolve(offline=True))


def registered_metric(name: str) -> Metric:
    """Returns a metric by its name, as a suite writes it."""
    from harness.discovery.loading import load_metric
    from harness.discovery.manager import plugin_manager

    return load_metric(plugin_manager(), name)


class Lab:
    """Runs whole suites in the folder ``root``, which is made, with real child processes, as ``harness run`` does."""

    def __init__(self, root: Path) -> None:
        self.root = root
        root.mkdir(parents=True, exist_ok=True)
        self._suite: Suite | None = None

    def run(self, suite: str | Mapping[str, Any]) -> list[RunRecord]:
        """Does what is missing of a suite, and returns the records of all its runs.

        ``suite`` is the text of a TOML file, or its content; without a title or seeds it gets them. A training that
        fails is a record that says so; an unknown name, a wrong hyperparameter or missing data are a ValueError.
        """
        from harness.running.coordinator import plan_suite, run_plan
        from harness.suites.suite import Suite

        content = tomllib.loads(suite) if isinstance(suite, str) else dict(suite)
        self._suite = Suite.parse({"title": "lab", "seeds": [0], **content}, name="lab", source="harness_lab")
        return run_plan(plan_suite(self._suite, self._settings)).records

    def record(self, suite: str | Mapping[str, Any]) -> RunRecord:
        """Runs a suite of one run, and returns its record; ValueError for one of several runs."""
        records = self.run(suite)
        if len(records) != 1:
            raise ValueError(f"the suite has {len(records)} runs, not one")
        return records[0]

    def board(self) -> Leaderboard:
        """Returns the leaderboard of the suite that was run last; ValueError if none was."""
        from harness.boards.leaderboard import Leaderboard
        from harness.records.archive import collect
        from harness.running.coordinator import plan_suite

        if self._suite is None:
            raise ValueError("run a suite before you ask for its board")
        planned = plan_suite(self._suite, self._settings).runs()
        archive = collect(self._suite, self._settings.artifacts, [run.record for run in planned])
        return Leaderboard(archive.records, suite=self._suite, per_image=archive.per_image)

    def close(self) -> None:
        """Closes the store."""
        settings = vars(self).get("_settings")
        if settings is not None and "store" in vars(settings.artifacts):
            settings.artifacts.store.close()

    @cached_property
    def _settings(self) -> Settings:
        from harness.records.store import Artifacts
        from harness.running.planning import Settings

        return Settings(Artifacts(self.root / "artifacts"), jobs=1, device="cpu", redo_stale=True)


@pytest.fixture
def harness_lab(tmp_path: Path) -> Iterator[Lab]:
    """A temporary folder that runs suites: ``run({...})`` gives the records, ``board()`` ranks them."""
    lab = Lab(tmp_path / "harness-lab")
    yield lab
    lab.close()


@pytest.fixture
def harness_tiny_dataset() -> Dataset:
    """Three templates with noise, 4x4, two levels, labelled: something that a model can learn in a second."""
    from harness.interface.spec import ImageSpec
    from harness.testing.tiny import tiny_dataset

    return tiny_dataset(ImageSpec(1, 4, 4, 2, num_classes=3))


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """Tells xdist's workers how tests are shared out: only where a class stays together is its audit made in one go."""
    node.workerinput["harness_dist"] = node.config.getoption("dist", "no")
