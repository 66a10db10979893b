"""A run whose metric, feature network and model are of three packages."""

from __future__ import annotations

REGISTER = """
import harness

@harness.hookimpl
def register_networks():
    return [harness.NetworkEntry("ink", "harness_ink_network.ink:ink", "mean and spread of the values")]
"""
INK = """
import torch
import harness

class Ink(harness.FeatureNetwork):
    name, num_features, digest = "ink", 2, "none"

    def __call__(self, images, spec):
        values = images.flatten(1).double()
        return torch.stack([values.mean(1), values.std(1)], 1)

def ink(evaluation):
    return Ink()
"""


def test_a_network_of_another_package_is_imported_when_a_figure_needs_it(lab, install_plugin):
    files = {"harness_ink_network/__init__.py": REGISTER, "harness_ink_network/ink.py": INK}
    install_plugin("harness-ink-network", files, entry_points={"ink-network": "harness_ink_network"})
    lab.done("run", lab.suite(["uniform"], metrics='["fid-ink-n30", "precision-ink-n30"]'))
    scores = lab.record("uniform").scores
    for name in ("fid-ink-n30", "precision-ink-n30"):
        assert scores[name].status == "done"
        assert scores[name].protocol["features"] == "ink, 2 dimensions"
