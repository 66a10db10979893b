"""The likelihood board: exact negative log-likelihoods and upper bounds on them, in one partial order."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from functools import cached_property
from typing import Any

from harness.boards.published import MeasuredFigure, PublishedFigure, Verdict, verdict
from harness.records.record import RunRecord
from harness.report.audits import AUDIT_COLUMNS
from harness.report.gap import GAP_COLUMNS, gap_of, gap_values
from harness.report.ranking import Ranks, rank_figures
from harness.report.rows import BoardRow, Figure, PerImage, figure_of, mean_of

BOUND = re.compile(r"negative-elbo|bits-per-dim-bound|iwae-[1-9]\d*")
EXACT = ("nll", "bits-per-dim")
# One draw of the bound is what a paper means by the bits a dimension of a density on dequantized pixels.
_AS_BITS_PER_DIM = ("nll", "bits-per-dim", "negative-elbo", "bits-per-dim-bound")

LIKELIHOOD_COLUMNS = {
    "dataset": "string", "rank_best": "Int64", "rank_worst": "Int64", "label": "string", "model": "string",
    "status": "string", **AUDIT_COLUMNS, "nll_nats": "float64", "nll_nats_sd": "float64", "nll_nats_se": "float64",
    **GAP_COLUMNS,
    "bits_per_dim": "float64", "bits_per_dim_sd": "float64", "kind": "string", "metric": "string", "seeds": "Int64",
    "seeds_planned": "Int64", "images": "Int64", "draw_share_of_variance": "float64", "parameters_sampling": "Int64",
    "parameters_training": "Int64", "budget": "string", "fit_epochs": "float64", "fit_steps": "float64",
    "fit_seconds": "float64", "checkpoint": "string", "configurations_tried": "Int64", "published_slug": "string",
    "published_value": "float64", "published_metric": "string", "published_kind": "string", "published_tags": "string",
    "published_source": "string", "verdict": "string", "verdict_reason": "string", "protocol": "string",
    "tests_rest_on": "string", "problems": "string",
}  # fmt: skip


@dataclass(frozen=True)
class LikelihoodEntry:
    """A row with its figure in nats an image, what it is published as and the verdict, and its gap to the entropy."""

    row: BoardRow
    figure: Figure
    published: PublishedFigure | None
    verdict: Verdict | None
    gap: Figure | None = None

    @cached_property
    def values(self) -> dict[str, Any]:
        """The cells of ``LIKELIHOOD_COLUMNS`` that the row's own records give."""
        row, figure = self.row, self.figure
        bits = figure.in_unit("bits/dim", 1 / nats_a_bit_per_dim(row))
        values: dict[str, Any] = {
            "nll_nats": figure.mean, "nll_nats_sd": figure.standard_deviation, "nll_nats_se": figure.standard_error,
            "bits_per_dim": bits.mean, "bits_per_dim_sd": bits.standard_deviation, "kind": figure.kind,
            "metric": figure.metric, "seeds": len(figure.values), "images": figure.num_images,
            "draw_share_of_variance": _detail(row, figure.metric, "draw_share_of_variance"),
            "protocol": protocol(row, figure.metric), **training_values(row), **row.audit.values,
            **gap_values(self.gap),
        }  # fmt: skip
        if self.published is not None and self.verdict is not None:
            theirs = self.published
            values |= {
                "published_slug": theirs.slug, "published_value": theirs.value, "published_metric": theirs.metric,
                "published_kind": theirs.kind, "published_tags": " ".join(theirs.tags),
                "published_source": theirs.source, "verdict": self.verdict.judgement,
                "verdict_reason": self.verdict.reason,
            }  # fmt: skip
        return values


def is_likelihood(metric: str) -> bool:
    """Tells whether a metric is the negative log-likelihood of the test images, or an upper bound on it."""
    return metric in EXACT or BOUND.fullmatch(metric) is not None


def likelihood_entries(
    rows: Sequence[BoardRow],
    metrics: Sequence[str],
    per_image: PerImage,
    published: Mapping[str, PublishedFigure] | None,
) -> tuple[list[LikelihoodEntry], Ranks]:
    """Returns the rows that have a likelihood or a bound, each with its best figure, in order, and their ranks.

    Raises:
        ValueError: a row names a published figure that there is not.
    """
    entries = []
    for row in rows:
        figure = _best_figure(row, metrics, per_image)
        theirs = _published(row, published)
        if figure is not None:
            judged = None if theirs is None else verdict(_measured(row, figure, theirs, per_image), theirs)
            entries.append(LikelihoodEntry(row, figure, theirs, judged, gap_of(row, per_image)))
    ranks = rank_figures([entry.figure for entry in entries])
    order = sorted(range(len(entries)), key=lambda k: (ranks.intervals[k].best, entries[k].figure.mean))
    intervals = tuple(ranks.intervals[k] for k in order)
    ordered = [replace(entries[k], figure=entries[k].figure.without_matrix()) for k in order]
    return ordered, Ranks(intervals, ranks.bases, ranks.num_pairs, ranks.untested)


def likelihood_values(entry: LikelihoodEntry) -> dict[str, Any]:
    """Returns the cells of ``LIKELIHOOD_COLUMNS`` that a row's own records give."""
    return entry.values


def training_values(row: BoardRow) -> dict[str, Any]:
    """Returns how the row was trained, means over seeds, and the size of the model."""
    return row.training


def protocol(row: BoardRow, metric: str) -> str:
    """Returns the protocol of a figure as ``key=value`` pairs; where seeds differ, each once."""
    protocols = [score.protocol for _, score in row.scores(metric)]
    if protocols and all(other == protocols[0] for other in protocols):
        return ", ".join(f"{key}={value}" for key, value in sorted(protocols[0].items()))
    found: dict[str, set[str]] = {}
    for of_seed in protocols:
        for key, value in of_seed.items():
            found.setdefault(key, set()).add(value)
    return ", ".join(f"{key}={'/'.join(sorted(values))}" for key, values in sorted(found.items()))


def nats_a_bit_per_dim(row: BoardRow) -> float:
    """D ln 2.

    Raises:
        ValueError: no record of the row says the images' shape.
    """
    for record in row.records:
        if record.image_shape is not None:
            return math.prod(record.image_shape[:3]) * math.log(2)
    raise ValueError(f"{row.label!r} on {row.dataset!r}: no record has the image_shape that bits a dimension need")


def _best_figure(row: BoardRow, metrics: Sequence[str], per_image: PerImage) -> Figure | None:
    """The exact value if there is one, else the lowest of the bounds that most seeds have."""
    names = [metric for metric in metrics if is_likelihood(metric) and row.scores(metric)]
    most = max((len(row.scores(name)) for name in names), default=0)
    exact = [name for name in EXACT if name in names]
    complete = exact[:1] or [name for name in names if len(row.scores(name)) == most]
    figures = [figure for name in complete if (figure := figure_of(row, name, per_image)) is not None]
    in_nats = [figure.in_unit("nats", nats_a_bit_per_dim(row)) for figure in figures]
    return min(in_nats, key=lambda figure: figure.mean, default=None)


def _published(row: BoardRow, published: Mapping[str, PublishedFigure] | None) -> PublishedFigure | None:
    if row.published is None or published is None:
        return None
    if row.published not in published:
        close = get_close_matches(row.published, published, n=1)
        hint = f"; did you mean {close[0]!r}?" if close else ""
        raise ValueError(f"{row.label!r}: there is no published figure {row.published!r}{hint}")
    return published[row.published]


def _measured(row: BoardRow, figure: Figure, theirs: PublishedFigure, per_image: PerImage) -> MeasuredFigure:
    """The row's figure by the metric that was published, where there is one; its best one otherwise."""
    same = figure_of(row, theirs.metric, per_image)
    ours, name = same or figure, (same or figure).metric
    if same is None and theirs.metric == "bits-per-dim" and figure.metric in _AS_BITS_PER_DIM:
        ours, name = figure.in_unit("bits/dim", 1 / nats_a_bit_per_dim(row)), "bits-per-dim"
    elif same is None and theirs.metric == "nll" and figure.metric == "bits-per-dim":
        name = "nll"
    records: list[RunRecord] = [record for record, _ in row.scores(figure.metric)]
    epochs = mean_of([record.fit.epochs for record in records if record.fit is not None and record.fit.steps > 0])
    return MeasuredFigure(
        model=row.model, dataset=row.dataset, metric=name, split="test", kind=ours.kind, value=ours.mean,
        standard_deviation=ours.standard_deviation,
        hyperparameters=records[0].hyperparameters, epochs=epochs,
    )  # fmt: skip


def _detail(row: BoardRow, metric: str, name: str) -> float | None:
    return mean_of([score.details[name] for _, score in row.scores(metric) if name in score.details])
