"""The bounds board: one column a bound, so that different numbers of samples never share one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from harness.boards.statistics import RankInterval
from harness.report.audits import AUDIT_COLUMNS
from harness.report.likelihood import BOUND, protocol, training_values
from harness.report.ranking import Ranks, rank_figures
from harness.report.rows import BoardRow, Figure, PerImage, figure_of

_FIRST = {
    "dataset": "string", "rank_best": "Int64", "rank_worst": "Int64", "label": "string", "model": "string",
    "status": "string", **AUDIT_COLUMNS, "ranked_by": "string",
}  # fmt: skip
_LAST = {
    "active_units": "float64", "active_units_sd": "float64", "latent_units": "Int64", "seeds": "Int64",
    "seeds_planned": "Int64", "images": "Int64", "budget": "string", "fit_epochs": "float64", "fit_seconds": "float64",
    "checkpoint": "string", "configurations_tried": "Int64", "protocol": "string", "tests_rest_on": "string",
    "problems": "string",
}  # fmt: skip


@dataclass(frozen=True)
class BoundsEntry:
    """A row with its figures, by metric, and its rank; None where it lacks the bound that the board ranks by."""

    row: BoardRow
    figures: dict[str, Figure]
    active_units: Figure | None
    rank: RankInterval | None


def bound_metrics(metrics: Sequence[str]) -> list[str]:
    """Returns those metrics that are bounds, in their order."""
    return [metric for metric in metrics if BOUND.fullmatch(metric)]


def tightest(metrics: Sequence[str]) -> str | None:
    """Returns the bound that a board ranks by: of the most importance samples, or the first where there is none."""
    bounds = bound_metrics(metrics)
    weighted = [metric for metric in bounds if metric.startswith("iwae-")]
    return max(weighted, key=lambda metric: int(metric.removeprefix("iwae-")), default=bounds[0] if bounds else None)


def bounds_columns(metrics: Sequence[str]) -> dict[str, str]:
    """Returns the columns and their types: three a bound, in its unit."""
    between = {
        f"{_column(metric)}{suffix}": "float64" for metric in bound_metrics(metrics) for suffix in ("", "_sd", "_se")
    }
    return {**_FIRST, **between, **_LAST}


def bounds_entries(
    rows: Sequence[BoardRow], metrics: Sequence[str], per_image: PerImage
) -> tuple[list[BoundsEntry], Ranks]:
    """Returns the rows that have a bound, those with a rank first, in order, and the ranks."""
    by = tightest(metrics)
    found = []
    for row in rows:
        figures = {metric: figure_of(row, metric, per_image) for metric in bound_metrics(metrics)}
        known = {metric: figure for metric, figure in figures.items() if figure is not None}
        if known:
            found.append((row, known, figure_of(row, "active-units", per_image)))
    ranked = [item for item in found if by in item[1]]
    ranks = rank_figures([figures[by] for _, figures, _ in ranked if by is not None])
    order = sorted(
        zip(ranked, ranks.intervals, strict=True),
        key=lambda item: (item[1].best, item[1].worst, item[0][1][str(by)].mean),
    )
    entries = [BoundsEntry(*item, interval) for item, interval in order]
    entries += [BoundsEntry(*item, None) for item in found if by not in item[1]]
    return entries, Ranks(tuple(interval for _, interval in order), ranks.bases, ranks.num_pairs, ranks.untested)


def bounds_values(entry: BoundsEntry, metrics: Sequence[str]) -> dict[str, Any]:
    """Returns the cells of ``bounds_columns`` that a row's own records give."""
    values: dict[str, Any] = {}
    for metric, figure in entry.figures.items():
        name = _column(metric)
        values |= {
            name: figure.mean,
            f"{name}_sd": figure.standard_deviation,
            f"{name}_se": figure.standard_error,
        }
    by = tightest(metrics)
    main = by if by in entry.figures else next(iter(entry.figures))
    training = training_values(entry.row)
    figure = entry.figures[main]
    values |= {name: training[name] for name in _LAST if name in training}
    values |= {
        **entry.row.audit.values,
        "ranked_by": by if entry.rank is not None else None,
        "seeds": len(figure.values), "images": figure.num_images,
        "protocol": "; ".join(f"{metric}: {protocol(entry.row, metric)}" for metric in entry.figures),
    }  # fmt: skip
    if entry.active_units is not None:
        units = [score.details.get("units") for _, score in entry.row.scores("active-units")]
        values |= {
            "active_units": entry.active_units.mean,
            "active_units_sd": entry.active_units.standard_deviation,
            "latent_units": units[0],
        }
    return values


def _column(metric: str) -> str:
    unit = "" if metric.startswith("bits-per-dim") else "_nats"
    return metric.replace("-", "_") + unit
