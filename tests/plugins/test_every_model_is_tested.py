"""No installed model is left out of the conformance tests."""

from __future__ import annotations

from pathlib import Path

from harness.discovery.manager import plugin_manager


def test_models_of_families_that_name_theirs_are_all_named():
    text = "".join(file.read_text(encoding="utf-8") for file in Path(__file__).parent.glob("test_conformance_*.py"))
    manager = plugin_manager()
    for entry in manager.entries("model"):
        if manager.provider_of("model", entry).distribution in ("harness-multiscale", "harness-pixelcnn"):
            assert f'model = "{entry.name}"' in text
