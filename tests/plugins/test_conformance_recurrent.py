"""The recurrent models of harness-pixelcnn pass the audit and the conformance suite, at small widths."""

from __future__ import annotations

from harness.testing import ModelConformance

SMALL = {"channels": 6, "layers": 1, "head": 6}


class TestRowLSTM(ModelConformance):
    model = "row-lstm"
    hyperparameters = SMALL


class TestDiagonalBiLSTM(ModelConformance):
    model = "diagonal-bilstm"
    hyperparameters = SMALL
