"""The gap to the entropy on the likelihood board: on datasets whose true distribution is known, and on no other."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from harness.records.record import ScoreRecord
from harness.report.rows import BoardRow, Figure, PerImage, figure_of
from harness.report.values import KIND_SIGNS, fixed, nats_decimals, with_spread

GAP = "entropy-gap"
GAP_HEADER = "Gap to the entropy"
GAP_COLUMNS = {
    "entropy_gap": "float64", "entropy_gap_sd": "float64", "entropy_gap_se": "float64", "entropy_gap_kind": "string",
}  # fmt: skip

_IMPOSSIBLE = 4.0  # standard errors below zero
_BELOW = "✗ below the entropy"


def gap_of(row: BoardRow, per_image: PerImage) -> Figure | None:
    """Returns a row's gap over its seeds; None if none has one."""
    figure = figure_of(row, GAP, per_image)
    return None if figure is None else figure.without_matrix()


def gap_values(gap: Figure | None) -> dict[str, Any]:
    """Returns the cells of ``GAP_COLUMNS``."""
    if gap is None:
        return {}
    spread = (gap.mean, gap.standard_deviation, gap.standard_error, gap.kind)
    return dict(zip(GAP_COLUMNS, spread, strict=True))


def gap_cell(row: BoardRow, gap: Figure | None) -> str:
    """Returns the figure with its sign and spreads; empty without one."""
    if gap is None:
        return ""
    text = with_spread(gap.mean, gap.standard_deviation, gap.standard_error, nats_decimals([gap.mean]))
    return KIND_SIGNS[gap.kind] + text + f" {_BELOW}" * is_impossible(row)


def is_impossible(row: BoardRow) -> bool:
    """Whether a seed's exact gap lies so far below zero as no right likelihood's does."""
    return any(
        score.kind == "exact" and score.standard_error is not None and score.value < -_IMPOSSIBLE * score.standard_error
        for _, score in row.scores(GAP)
        if score.value is not None
    )


def gap_lead(rows: Iterable[BoardRow]) -> str:
    """Returns in a sentence the entropy of a dataset, and what the truth scores; empty where neither is known."""
    details = [score.details for score in _scores(rows) if "true_nll" in score.details]
    if not details:
        return ""
    truth = f"the true distribution scores the test images at {fixed(details[0]['true_nll'], 3)} nats"
    entropies = [found["entropy"] for found in details if "entropy" in found]
    if entropies:
        return f"Entropy: {fixed(entropies[0], 3)} nats an image, exact; {truth}."
    return f"{truth[0].upper()}{truth[1:]}."


def gap_notes(rows: Iterable[BoardRow]) -> list[str]:
    """Returns how to read the column, and which rows cannot be right."""
    rows = list(rows)
    if not _scores(rows):
        return []
    reading = (
        f"{GAP_HEADER}: the mean over test images of log p_true - log p_model, nats an image; its expectation is the "
        "Kullback-Leibler divergence from the model to the truth, zero for a perfect model."
    )
    notes = [reading]
    impossible = [row.label for row in rows if is_impossible(row)]
    if impossible:
        notes.append(
            f"{_BELOW}: an exact gap below zero by more than {_IMPOSSIBLE:g} standard errors is impossible for a right "
            f"likelihood: {'; '.join(impossible)}."
        )
    return notes


def _scores(rows: Iterable[BoardRow]) -> list[ScoreRecord]:
    return [score for row in rows for _, score in row.scores(GAP)]
