"""Feature networks of plugins: which names of metrics they make, and what becomes of wrong ones."""

from __future__ import annotations

import pytest

from harness import Dataset, Evaluation, ImageSpec, Model, NetworkEntry, Split
from harness.builtin.features import ENTRIES
from harness.builtin.features.network import load_network as network_of
from harness.discovery import loading
from harness.discovery.manager import PluginManager, UnknownName

INK = """
    import harness

    def nothing(evaluation):
        return "no network"

    @harness.hookimpl
    def register_networks():
        return [harness.NetworkEntry("ink", nothing), harness.NetworkEntry("ink-wash", nothing)]
"""
MEAN = """
    import harness

    @harness.hookimpl
    def register_metrics():
        return [harness.MetricEntry("fid-ink", "harness_mean:Mean")]
"""


@pytest.fixture
def ink(install_plugin):
    install_plugin("harness-ink", {"harness_ink.py": INK}, entry_points={"ink": "harness_ink"})


def evaluation():
    import torch

    split = Split(torch.zeros(30, 1, 2, 2, dtype=torch.uint8))
    data = Dataset("tiny", ImageSpec(1, 2, 2, 2), split, split, split)

    class Nothing(Model):
        def fit(self, data, trainer): ...

        def sample(self, num_samples):
            raise AssertionError("nothing is drawn here")

    return Evaluation(Nothing(data.spec), data)


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("fid-ink", {"network": "ink"}),
        ("kid-ink-n50", {"network": "ink", "num_samples": "50"}),
        ("fid-ink-wash-n50", {"network": "ink-wash", "num_samples": "50"}),
    ],
)
def test_a_registered_network_is_part_of_the_name_of_any_metric_of_features(ink, name, arguments):
    assert PluginManager().find("metric", name)[1] == arguments
    with pytest.raises(UnknownName, match=f"unknown metric '{name}'"):
        PluginManager(entry_points=[]).find("metric", name)


def test_a_metric_that_is_named_as_another_one_of_a_network_is_a_conflict(ink, install_plugin):
    install_plugin("harness-mean", {"harness_mean.py": MEAN}, entry_points={"mean": "harness_mean"})
    assert "metric 'fid-ink' is registered by" in PluginManager().broken["mean"][0]


def test_what_a_target_gives_must_be_a_network(ink):
    with pytest.raises(ValueError, match=r"network 'ink': .* gave str, not a harness\.FeatureNetwork"):
        loading.load_network(PluginManager(), "ink", evaluation())


def test_an_evaluation_of_ones_own_says_that_it_knows_the_networks_of_the_core_alone(ink):
    with pytest.raises(ValueError, match=r"'ink' is none of pixels, lenet\[-DATASET\], inception, and this evaluation"):
        network_of("ink", evaluation())


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.name)
def test_a_network_of_the_core_is_one_by_its_name(entry):
    assert isinstance(entry, NetworkEntry)
    assert entry.match(entry.name) == {}
    assert callable(entry.load())
