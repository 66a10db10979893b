"""Quality at equal compute: the best validation scores within shares of a budget that rows share."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from itertools import product

from harness import Board, BoardRow, Cell, Column, Rows, RunRecord, ScoreRecord, Table

_SHARES = (1, 3, 10, 30, 100)  # percent of the budget
_METRIC = "valid within {} %"
_PARTS = {"": "float64", "_sd": "float64", "_seeds": "Int64", "_ended": "float64"}
_COSTS = ("flops", "seconds")
_ROUNDING = 1e-9  # of a share of a budget
_KEPT = ("audit", "flops-training", "parameters-sampling", "parameters-training")  # what is shown beside its own


class EqualCompute(Board):
    """What rows reach with the same FLOPs, or in the same time; sorted by what they reach in the end, not ranked."""

    name = "equal-compute"
    title = "quality at equal compute"
    is_ranked = False
    shows = frozenset({"audit", "seeds"})
    nothing = "no validation score during the training"
    reading = """
    The best score on the validation split that a training had reached within a share of a budget; lower is better. It
    is what the model's own training validates by: of a bound it is what the model trains on, not the tightest that is
    known of it. It was used to choose the weights, so it is no test of anything; the likelihood board has the test
    images. Rows of different kinds, and of no likelihood, are in tables of their own; without a likelihood the scores
    of two models do not compare.

    The budget, 100 %, is the most that a training of the table had spent when it validated last. Ended: all trainings
    of the row were over before, and the last best score stands. An empty cell: no training had validated yet.
    FLOPs are counted, and the same on any machine: a training's share is that of its steps. Seconds compare on one
    machine alone, hold validation and whatever else ran there, and each machine has a table. Trainings in closed form
    and those that do not validate, such as those of GANs, have no row.

    a ± b: mean and standard deviation over seeds. Rows are sorted by the last column, and not ranked: there are no
    scores per image to test.
    """

    def stands(self, rows: Rows) -> bool:
        """Whether a training has a curve with validation scores."""
        return any(curve.has_validation for row in rows for curve in row.curves)

    def columns(self, rows: Rows) -> Sequence[Column]:
        """One for each share."""
        made = [
            Column(f"within_{share}", f"within {share} %", higher_is_better=False, decimals=(2, 3), parts=_PARTS,
                   figure=partial(BoardRow.figure, metric=_METRIC.format(share)))
            for share in _SHARES
        ]  # fmt: skip
        return [replace(column, cell=partial(_cell, column)) for column in made]

    def ranked_by(self, columns: Sequence[Column], rows: Rows) -> Column | None:
        """What rows are sorted by: what they reach within the whole budget."""
        return columns[-1]

    def parts(self, rows: Rows) -> Sequence[tuple[str, Mapping[str, str], Rows]]:
        """A table for each budget, of FLOPs and of each machine's seconds, and kind of likelihood."""
        found: dict[tuple[str, str, str], list[tuple[str, RunRecord, list[tuple[float, float | None]]]]] = {}
        for cost, row in product(_COSTS, rows):
            for curve in (curve for curve in row.curves if curve.has_validation):
                pairs = zip(curve.columns[cost], curve.columns["valid"], strict=True)
                if points := [(spent, valid) for spent, valid in pairs if spent is not None and spent >= 0]:
                    group = cost, row.likelihood_kind, curve.machine if cost == "seconds" else ""
                    found.setdefault(group, []).append((row.label, curve.record, points))
        parts = []
        for cost, kind, machine in sorted(found, key=lambda it: (it[0], it[1] != "exact likelihood", it)):
            trainings, records = found[cost, kind, machine], dict[str, list[RunRecord]]()
            most = max(spent for *_, points in trainings for spent, _ in points)
            for label, record, points in trainings:
                scores = {name: record.scores[name] for name in _KEPT if name in record.scores} | _scores(points, most)
                records.setdefault(label, []).append(record.model_copy(update={"scores": scores}))
            flops = f"{most:.2e} FLOPs".replace("e+", "e")
            budget = flops if cost == "flops" else f"{most:,.4g} s on {machine}"
            items = tuple(replace(row, records=tuple(records[row.label])) for row in rows if row.label in records)
            keys = {"common_budget": budget, "kind": kind}
            parts.append((f"{kind}: 100 % = {budget}", keys, replace(rows, items=items)))
        return parts

    def notes(self, table: Table) -> Sequence[str]:
        """Whose FLOPs were not all counted."""
        figures = {row.label: row.figure("flops-training") for row in table.rows if "FLOPs" in table.title}
        rows = [label for label, figure in figures.items() if figure and figure.kind == "lower bound"]
        return [f"FLOPs are at least so many, for want of a rule for an operation: {'; '.join(rows)}."] if rows else []


def _scores(points: Sequence[tuple[float, float | None]], budget: float) -> dict[str, ScoreRecord]:
    """The best of a training's (spent, validation score) within each share, as scores of metrics of their own."""
    found = {}
    for name, limit in ((_METRIC.format(share), budget * share / 100) for share in _SHARES):
        if within := [valid for spent, valid in points if valid is not None and spent <= limit * (1 + _ROUNDING)]:
            ended = {"ended": float(max(spent for spent, _ in points) < limit * (1 - _ROUNDING))}
            found[name] = ScoreRecord(metric=name, key="", value=min(within), details=ended)
    return found


def _cell(column: Column, row: BoardRow) -> Cell | None:
    if column.figure is None or (figure := column.figure(row)) is None:
        return None
    return column.cell_of(figure, " ended" if figure.detail("ended") == 1 else "")
