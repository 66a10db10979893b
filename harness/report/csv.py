"""CSV: full precision, one header, and no cell that a spreadsheet would run as a formula."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from typing import Any

import pandas as pd

# The wide forms are read as the others where texts are Chinese or Japanese.
_FORMULA = ("=", "+", "-", "@", "\uff1d", "\uff0b", "\uff0d", "\uff20")


def to_csv(frames: Sequence[pd.DataFrame]) -> str:
    """Writes tables of equal columns one under the other; what is missing is an empty cell.

    Numbers are written so that reading them gives the same float64. Texts are one line each; one that begins as a
    formula does is preceded by an apostrophe.
    """
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    for index, frame in enumerate(frames):
        if index == 0:
            writer.writerow(frame.columns)
        for line in frame.itertuples(index=False, name=None):
            writer.writerow([_cell(value) for value in line])
    return out.getvalue()


def _cell(value: Any) -> str:
    if pd.isna(value):
        return ""
    if isinstance(value, str):
        text = " ".join(value.split())
        return f"'{text}" if text.startswith(_FORMULA) else text
    return repr(float(value)) if isinstance(value, float) else str(int(value))
