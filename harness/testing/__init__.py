"""For the tests of plugins: conformance suites to subclass, and fixtures. A pytest plugin; loads no torch by itself.

    from harness.testing import ModelConformance

    class TestKDE(ModelConformance):
        model = "kde"
        expected_failures = {"dependence": "every pixel sees the row above alone: that is the model"}

runs every check of the audit, and what a benchmark asks of a plugin beyond it, one test each. ``DatasetConformance``
and ``MetricConformance`` do the same for the other two nouns. The classes work by being imported. The fixtures
``harness_lab`` (a whole suite in a temporary folder) and ``harness_tiny_dataset`` need the plugin to be loaded, as an
installed ``genharness`` is, else by ``pytest -p harness.testing``.

In comes what a plugin registers, by name or class; out go test results, and from ``scaffold`` the files of a new
plugin. All of ``harness`` but the command may be imported here, inside the functions where it needs torch.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from harness.testing.conformance import Conformance, DatasetConformance, MetricConformance, ModelConformance
from harness.testing.lab import Lab

if TYPE_CHECKING:
    from harness.interface.dataset import Dataset
    from harness.interface.metric import Metric

__all__ = [
    "Conformance",
    "DatasetConformance",
    "Lab",
    "MetricConformance",
    "ModelConformance",
    "registered_dataset",
    "registered_metric",
]


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
