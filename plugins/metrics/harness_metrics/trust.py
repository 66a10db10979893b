"""The board of metric trust: which metrics of samples fall as samples get worse, and which order models as KL does."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import numpy.typing as npt

from harness import Agreement, Board, BoardRow, Cell, Column, Rows, Table, agreement_along, agreement_between

TRIED = "corrupted-images"
DAMAGES = ("noise", "speckle", "blur", "saturation", "rotation", "mode-dropping", "mode-invention", "memorisation")
_NONE = ("none", 0.0)
_SIZE = re.compile(r"(.+)-n(\d+)")
_INTERVAL = {"": "float64", "_low": "float64", "_high": "float64"}


@dataclass(frozen=True)
class Trust:
    """What is known of one metric on one dataset; values are signed so that larger is worse.

    Attributes:
        curves: a value for each seed, by damage and strength; those of strength 0 are the same for every damage.
        spread: the standard deviation over seeds, pooled over the undamaged and the least damaged images.
        error: the root mean square of their standard errors by resampling.
        effect: how far the least strength moves the mean, in either direction: the median over the damages.
        models: of each model of exact likelihood, the divergence from the truth, and the figure.
        bias: how much worse it is than the figure of the most samples, in standard deviations over seeds.
    """

    curves: Mapping[str, Mapping[float, tuple[float, ...]]]
    spread: float | None
    error: float | None
    effect: float | None
    models: Sequence[tuple[float, float]]
    bias: float | None

    def follows(self, damage: str) -> Agreement | None:
        """Returns how the metric follows the strength of a damage; None where it was not tried."""
        curve = self.curves.get(damage, {})
        return agreement_along(sorted(curve), [curve[strength] for strength in sorted(curve)])


def trust_in(rows: Rows, metric: str) -> Trust:
    """Returns what the rows of one dataset say of a metric of samples."""
    sign = -1.0 if rows.facts[metric].higher_is_better else 1.0
    figures = [(row, figure) for row in rows if (figure := row.figure(metric)) is not None]
    tried = {damage_of(row): figure for row, figure in figures if row.model == TRIED}
    undamaged = tried.get(_NONE)
    curves, near = {}, [] if undamaged is None else [undamaged]
    for damage in DAMAGES if undamaged is not None else ():
        strengths = sorted(strength for of, strength in tried if of == damage)
        if strengths and undamaged is not None:
            of = {0.0: undamaged} | {strength: tried[damage, strength] for strength in strengths}
            curves[damage] = {strength: tuple((sign * it.values).tolist()) for strength, it in of.items()}
            near.append(of[strengths[0]])
    errors = [score.standard_error for figure in near for score in figure.scores]
    return Trust(
        curves,
        _pooled([figure.values for figure in near]),
        _root_mean_square([error for error in errors if error is not None]),
        float(np.median([abs(figure.mean - near[0].mean) for figure in near[1:]])) if curves else None,
        [(gap, sign * figure.mean) for row, figure in figures if (gap := gap_of(row)) is not None],
        None if (bias := _bias(rows, metric)) is None else sign * bias,
    )


def damage_of(row: BoardRow) -> tuple[str, float]:
    """Returns the damage and the strength of a row of corrupted images; a strength of 0 is no damage."""
    said = row.records[0].hyperparameters
    damage, strength = str(said["damage"]), float(said["strength"])
    return (damage, strength) if strength > 0 and damage != "none" else _NONE


def gap_of(row: BoardRow) -> float | None:
    """Returns a model's divergence from the truth, exactly, but for a constant that all rows of a dataset share.

    That is the gap to the entropy where it is known, else the negative log-likelihood, which orders models alike; None
    for bounds, and for what is no model.
    """
    figures = (row.figure(metric) for metric in ("entropy-gap", "nll"))
    exact = [figure for figure in figures if figure is not None and figure.kind == "exact"]
    return exact[0].mean if exact and row.role == "model" else None


def metrics_of(rows: Rows) -> list[str]:
    """Returns the metrics by which corrupted images were scored, in the suite's order."""
    tried = [row for row in rows if row.model == TRIED]
    return [metric for metric in rows.metrics if any(row.figure(metric) is not None for row in tried)]


class MetricTrust(Board):
    """A row for each metric: how it follows each damage, its bias and spread, and how it orders models of known KL."""

    name = "metric-trust"
    title = "metric trust"
    row_noun = "Metric"
    is_ranked = False
    shows = frozenset[str]()
    nothing = "what the metrics are tried on"
    reading = """
    Whether metrics of samples fall as samples get worse. Real images, which neither the reference nor the training
    split holds, are damaged more and more, from strength 0 to 1; docs/metrics.md says how. A column of a damage has
    Somers' D of the metric given the strength: of all pairs of runs of two strengths, the share in which the more
    damaged images score worse, less the share in which they score better. +1.00: every time. In brackets, a 95 %
    interval by drawing seeds anew; of three seeds it is too narrow rather than too wide. Wrong way: damaged images
    score better. Does not move: the interval holds zero.

    Not every metric should follow every damage. Distances know nothing of training images, and precision nothing of
    classes that are missing. But a metric that moves the wrong way rewards the fault, and a board that is ranked by it
    does.

    Reseeding: the standard deviation over seeds, each with draws of its own, over the change that the least strength
    makes, the median over damages. Resampling: the same with the metric's own standard error. Above about a half, such
    damage is not seen in one run. Bias: how much worse the figure is than that of the most samples, of the same
    run, in standard deviations over seeds; the mean over rows.

    KL: Somers' D of the metric given the divergence from model to truth, over the models whose likelihood is exact:
    the gap to the entropy on data of known entropy, elsewhere the negative log-likelihood, which orders models alike.
    The interval is by drawing models anew. Samples may be good where a likelihood is not, and the other way round
    (Theis, van den Oord & Bethge 2016, arXiv 1511.01844): this says how far it is so here.
    """

    def metrics(self, rows: Rows) -> list[str]:
        """None belongs here: it is made of those of another board."""
        return []

    def stands(self, rows: Rows) -> bool:
        """Whether metrics were tried on damaged images."""
        return any(row.model == TRIED for row in rows)

    def columns(self, rows: Rows) -> Sequence[Column]:
        """How the metric follows each damage, and the rest."""
        on = {dataset: rows.on(dataset) for dataset in rows.datasets}
        found = {(name, it): trust_in(on[name], it) for name in on for it in metrics_of(on[name])}

        def column(key: str, header: str, make: Callable[[Trust], Cell | None], parts: Mapping[str, str]) -> Column:
            def cell(row: BoardRow) -> Cell | None:
                trust = found.get((row.dataset, row.label))
                return None if trust is None else make(trust)

            return Column(key, header, parts=parts, cell=cell)

        number = {"": "float64"}
        return [
            column("falls", "Falls with", _count, {"": "Int64", "_wrong_way": "Int64", "_tried": "Int64"}),
            *(
                column(
                    damage.replace("-", "_"),
                    damage.replace("-", " ").capitalize(),
                    partial(_follows, damage),
                    _INTERVAL,
                )
                for damage in DAMAGES
            ),
            column("reseeding", "Reseeding", lambda it: _share(it.spread, it.effect), number),
            column("resampling", "Resampling", lambda it: _share(it.error, it.effect), number),
            column("bias", "Bias", lambda it: _share(it.bias, 1.0, "+"), number),
            column("kl", "KL", _orders, {**_INTERVAL, "_models": "Int64"}),
        ]

    def ranked_by(self, columns: Sequence[Column], rows: Rows) -> Column | None:
        """Nothing: the order is the suite's."""
        return None

    def parts(self, rows: Rows) -> Sequence[tuple[str, Mapping[str, str], Rows]]:
        """One table, with a row for each metric."""
        [dataset] = rows.datasets
        items = tuple(BoardRow(metric, dataset, "", (), ()) for metric in metrics_of(rows))
        return [("", {}, replace(rows, items=items))]

    def notes(self, table: Table) -> Sequence[str]:
        """Which metrics reward a damage."""
        notes = []
        for column in (column for column in table.columns if column.key.replace("_", "-") in DAMAGES):
            cells = {str(line.cells["label"].value): line.cells.get(column.key) for line in table.models}
            wrong = [label for label, cell in cells.items() if cell is not None and (cell.part("_high") or 0) < 0]
            notes += [f"{column.header} is rewarded by {', '.join(wrong)}."] if wrong else []
        return notes


def _follows(damage: str, trust: Trust) -> Cell | None:
    found = trust.follows(damage)
    return None if found is None else _cell(found, "does not move")


def _orders(trust: Trust) -> Cell | None:
    found = agreement_between([gap for gap, _ in trust.models], [value for _, value in trust.models])
    if found is None:
        return None
    cell = _cell(found, "not told")
    return replace(cell, more={**cell.more, "_models": len(trust.models)})


def _cell(found: Agreement, neither: str) -> Cell:
    words = "wrong way " if found.high < 0 else f"{neither} " if found.low <= 0 else ""
    return Cell(found.value, text=f"{words}{found}", more={"_low": found.low, "_high": found.high})


def _count(trust: Trust) -> Cell | None:
    found = [agreement for damage in DAMAGES if (agreement := trust.follows(damage)) is not None]
    right, wrong = sum(it.low > 0 for it in found), sum(it.high < 0 for it in found)
    text = f"{right} of {len(found)}" + (f", {wrong} the wrong way" if wrong else "")
    return Cell(right, text=text, more={"_wrong_way": wrong, "_tried": len(found)}) if found else None


def _share(value: float | None, of: float | None, sign: str = "") -> Cell | None:
    """``value`` in units of another one; None where that is zero, or one of them is not known."""
    if value is None or not of:
        return None
    share = float(f"{value / of:.10g}")
    return Cell(share, text=f"{share:{sign}.2f}")


def _bias(rows: Rows, metric: str) -> float | None:
    """The metric less that of the most samples, in deviations over seeds, the mean over rows; None for that itself."""
    named = {name: found for name in rows.metrics if (found := _SIZE.fullmatch(name))}
    if metric not in named:
        return None
    alike = [name for name, found in named.items() if found[1] == named[metric][1]]
    most = max(alike, key=lambda name: int(named[name][2]))
    differences, values = [], []
    for row in rows:
        ours, theirs = ({it.spec.seed: score.value or 0.0 for it, score in row.scores(name)} for name in (metric, most))
        if seeds := ours.keys() & theirs.keys():
            differences.append(sum(ours[seed] - theirs[seed] for seed in sorted(seeds)) / len(seeds))
            values.append([ours[seed] for seed in sorted(seeds)])
    spread = _pooled(values)
    return float(np.mean(differences)) / spread if differences and spread and most != metric else None


def _pooled(groups: Sequence[Sequence[float] | npt.NDArray[np.float64]]) -> float | None:
    """The root mean square of the standard deviations of groups of equal sizes; those of one value are left out."""
    return _root_mean_square([float(np.std(group, ddof=1)) for group in groups if len(group) > 1])


def _root_mean_square(values: Sequence[float]) -> float | None:
    return math.sqrt(float(np.mean(np.square(values)))) if values else None
