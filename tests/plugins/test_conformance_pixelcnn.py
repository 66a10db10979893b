"""Every model of harness-pixelcnn and harness-multiscale passes audit and conformance suite, at small widths."""

from __future__ import annotations

from harness.plugins import plugin_manager
from harness.testing import ModelConformance

SMALL = {
    "pixelcnn": {"channels": 6, "layers": 2, "head": 6},
    "gated-pixelcnn": {"channels": 6, "layers": 2, "head": 6},
    "gated-pixelcnn-conditional": {"channels": 6, "layers": 1, "head": 6},
    "row-lstm": {"channels": 6, "layers": 1, "head": 6},
    "diagonal-bilstm": {"channels": 6, "layers": 1, "head": 6},
    "multiscale": {"base": 2, "base_channels": 6, "base_layers": 1, "channels": 8, "blocks": 1, "head": 6},
}

for entry in plugin_manager().entries("model"):
    if plugin_manager().provider_of("model", entry).distribution in ("harness-pixelcnn", "harness-multiscale"):
        name = "Test" + "".join(part.capitalize() for part in entry.name.split("-"))
        attributes = {"model": entry.name, "hyperparameters": SMALL[entry.name]}
        globals()[name] = type(name, (ModelConformance,), attributes)
