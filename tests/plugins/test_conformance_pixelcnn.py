"""The convolutional models of harness-pixelcnn pass the audit and the conformance suite, at small widths."""

from __future__ import annotations

from typing import ClassVar

from harness.testing import ModelConformance

SMALL = {"channels": 6, "layers": 2, "head": 6}


class TestPixelCNN(ModelConformance):
    model = "pixelcnn"
    hyperparameters = SMALL


class TestGatedPixelCNN(ModelConformance):
    model = "gated-pixelcnn"
    hyperparameters = SMALL


class TestConditionalGatedPixelCNN(ModelConformance):
    model = "gated-pixelcnn-conditional"
    hyperparameters: ClassVar = {**SMALL, "layers": 1}
