"""The figure that stands for a row's likelihood, and what became of the published figure beside it."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from harness.boards.figures import Figure
from harness.boards.published import MeasuredFigure, PublishedFigure, Verdict, verdict
from harness.records.record import ScoreRecord

if TYPE_CHECKING:
    from harness.boards.rows import BoardRow

_EXACT = ("nll", "bits-per-dim")
_UNITS = ("nats", "bits/dim")
# One draw of the bound is what a paper means by the bits a dimension of a density on dequantized pixels.
_AS_BITS_PER_DIM = ("nll", "bits-per-dim", "negative-elbo", "bits-per-dim-bound")


def is_likelihood(score: ScoreRecord) -> bool:
    """Tells whether a score is the negative log-likelihood of the test images, or an upper bound on it.

    Unit and kind do not say so: what else a plugin measures in nats, exactly, is a figure of its own. A bound is
    whatever upper bound a metric puts on the board of bounds.
    """
    is_bound = score.board == "bounds" and score.unit in _UNITS and score.kind == "upper bound"
    return is_bound or (score.metric in _EXACT and score.kind in ("exact", "upper bound"))


def best_likelihood(row: BoardRow) -> Figure | None:
    """Returns the exact value if there is one, else the lowest of the bounds that most seeds have, in nats.

    Raises:
        ValueError: no record says the images' shape, which bits a dimension need.
    """
    names = [metric for metric in row.metrics if any(is_likelihood(score) for _, score in row.scores(metric))]
    figures = [figure for name in names if (figure := row.figure(name)) is not None]
    exact = [figure for figure in figures if figure.kind == "exact"]
    most = max((len(figure.values) for figure in figures), default=0)
    complete = exact[:1] or [figure for figure in figures if len(figure.values) == most]
    in_nats = [figure.in_unit("nats", nats_per_bit_per_dim(row)) for figure in complete]
    return min(in_nats, key=lambda figure: figure.mean, default=None)


def nats_per_bit_per_dim(row: BoardRow) -> float:
    """D ln 2.

    Raises:
        ValueError: no record of the row says the images' shape.
    """
    for record in row.records:
        if record.image_shape is not None:
            return math.prod(record.image_shape[:3]) * math.log(2)
    raise ValueError(f"{row.label!r} on {row.dataset!r}: no record has the image_shape that bits a dimension need")


def verdict_of(row: BoardRow, figure: Figure, theirs: PublishedFigure) -> Verdict:
    """Judges a row by the metric that was published, where the row has it; by its best likelihood otherwise."""
    same = row.figure(theirs.metric)
    ours = same or figure
    name = ours.metric
    if same is None and theirs.metric == "bits-per-dim" and figure.metric in _AS_BITS_PER_DIM:
        ours, name = figure.in_unit("bits/dim", 1 / nats_per_bit_per_dim(row)), "bits-per-dim"
    elif same is None and theirs.metric == "nll" and figure.metric == "bits-per-dim":
        name = "nll"
    fits = [record.fit for record in figure.records if record.fit is not None and record.fit.steps > 0]
    measured = MeasuredFigure(
        model=row.model, dataset=row.dataset, metric=name, split="test", kind=ours.kind, value=ours.mean,
        standard_deviation=ours.standard_deviation, hyperparameters=figure.records[0].hyperparameters,
        epochs=sum(fit.epochs for fit in fits) / len(fits) if fits else None,
    )  # fmt: skip
    return verdict(measured, theirs)
