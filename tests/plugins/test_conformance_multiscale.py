"""harness-multiscale passes the audit and the conformance suite, at small widths."""

from __future__ import annotations

from typing import ClassVar

from harness.testing import ModelConformance


class TestMultiscale(ModelConformance):
    model = "multiscale"
    hyperparameters: ClassVar = {"base": 2, "base_channels": 6, "base_layers": 1, "channels": 8, "blocks": 1, "head": 6}
