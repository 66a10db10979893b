"""The bounds board: one column for each bound, so that different numbers of samples never share one."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

from harness import Board, Cell, Column

if TYPE_CHECKING:
    from harness import BoardRow, Rows

ACTIVE = "active-units"


class Bounds(Board):
    """Upper bounds on the negative log-likelihood, ranked by that of the most importance samples."""

    name = "bounds"
    nothing = "no bound"
    shows = frozenset({"audit", "seeds", "training"})
    reading = """
    Upper bounds on the negative log-likelihood of the test images, in nats an image unless the column says bits;
    lower is better. They are compared with one another as the promises that they are. IWAE, K: the
    importance-weighted bound of K samples an image. It falls to the negative log-likelihood as K grows, so bounds
    of different K are different quantities, each with a column of its own.

    Active units: latent units whose posterior mean varies over test images, of all.
    """

    def columns(self, rows: Rows) -> Sequence[Column]:
        """The bounds, whatever else belongs here, and the active units."""
        metrics = [metric for metric in self.metrics(rows) if metric != ACTIVE]
        bounds = [metric for metric in metrics if _is_bound(rows, metric)]
        mean = {"": "float64", "_sd": "float64"}
        return [
            *(rows.column(metric, key=_key(rows, metric), decimals=(2, 3)) for metric in bounds),
            *rows.columns_by_protocol([metric for metric in metrics if metric not in bounds]),
            Column("active_units", "Active units", decimals=(0, 1), parts=mean, cell=_active, required=False),
            Column("latent_units", parts={"": "Int64"}, cell=_latent, required=False),
            Column("protocol", parts={"": "string"}, cell=partial(_protocols, bounds), required=False),
        ]

    def ranked_by(self, columns: Sequence[Column], rows: Rows) -> Column | None:
        """The bound of the most importance samples that the suite has, or the first where there is none."""
        bounds = [column for column in columns if column.figure is not None]
        weighted = {int(found[1]): column for column in bounds if (found := re.match(r"iwae_(\d+)", column.key))}
        return weighted[max(weighted)] if weighted else bounds[0] if bounds else None


def _is_bound(rows: Rows, metric: str) -> bool:
    facts = rows.facts.get(metric)
    return facts is None or facts.kind in (None, "upper bound")


def _key(rows: Rows, metric: str) -> str:
    facts = rows.facts.get(metric)
    unit = "" if metric.startswith("bits-per-dim") or (facts is not None and facts.unit != "nats") else "_nats"
    return metric.replace("-", "_") + unit


def _active(row: BoardRow) -> Cell | None:
    figure = row.figure(ACTIVE)
    if figure is None:
        return None
    units = figure.detail("units")
    return Cell(figure.mean, figure.standard_deviation, note="" if units is None else f" of {units:,.0f}")


def _latent(row: BoardRow) -> Cell | None:
    figure = row.figure(ACTIVE)
    return None if figure is None else Cell(figure.scores[0].details.get("units"))


def _protocols(bounds: Sequence[str], row: BoardRow) -> Cell:
    found = [(metric, figure) for metric in bounds if (figure := row.figure(metric)) is not None]
    return Cell("; ".join(f"{metric}: {figure.protocol}" for metric, figure in found) or None)
