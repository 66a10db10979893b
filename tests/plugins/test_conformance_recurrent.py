"""The recurrent models of harness-pixelcnn pass the audit and the conformance suite, at small widths."""

from __future__ import annotations

from harness import ImageSpec
from harness.testing import ModelConformance

# Few units forget: over 28 rows, what is far away changes a conditional by less than the audit can see.
DIGITS = ImageSpec(channels=1, height=8, width=8, levels=17)
SMALL = {"channels": 16, "layers": 1}


class TestRowLSTM(ModelConformance):
    model = "row-lstm"
    hyperparameters = SMALL
    benchmark = DIGITS


class TestDiagonalBiLSTM(ModelConformance):
    model = "diagonal-bilstm"
    hyperparameters = SMALL
    benchmark = DIGITS
