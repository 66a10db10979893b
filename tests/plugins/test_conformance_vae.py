"""Every model of harness-vae passes the audit and the conformance suite."""

from __future__ import annotations

from harness.discovery.manager import plugin_manager
from harness.testing import ModelConformance

for entry in plugin_manager().entries("model"):
    if plugin_manager().provider_of("model", entry).distribution == "harness-vae":
        name = "Test" + "".join(part.capitalize() for part in entry.name.split("-"))
        globals()[name] = type(name, (ModelConformance,), {"model": entry.name})
