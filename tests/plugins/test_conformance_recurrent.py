"""The recurrent models of harness-pixelcnn pass the audit and the conformance suite, at small widths."""

from __future__ import annotations

from harness.testing import ModelConformance

# with fewer units, more of what is far away is too faint to be seen
SMALL = {"channels": 16, "layers": 1}


class TestRowLSTM(ModelConformance):
    model = "row-lstm"
    hyperparameters = SMALL


class TestDiagonalBiLSTM(ModelConformance):
    model = "diagonal-bilstm"
    hyperparameters = SMALL
