"""Quality at equal compute: the best validation scores within shares of a budget that rows share."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial

from harness import Board, BoardRow, Cell, Column, Rows, RunRecord, ScoreRecord

_SHARES = (1, 3, 10, 30, 100)  # percent of the budget
_METRIC = "valid within {} %"
_PARTS = {"": "float64", "_sd": "float64", "_seeds": "Int64", "_ended": "float64"}
_UNITS = {"flops": "FLOPs", "seconds": "s"}
_KINDS = {"exact": "exact likelihood", "upper bound": "bounds", "no likelihood": "no likelihood, rows do not compare"}


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
    images. Rows of different kinds, and of no likelihood, are in tables of their own.

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
        return list(map(_column, _SHARES))

    def ranked_by(self, columns: Sequence[Column], rows: Rows) -> Column | None:
        """What rows are sorted by: what they reach within the whole budget."""
        return columns[-1]

    def parts(self, rows: Rows) -> Sequence[tuple[str, Mapping[str, str], Rows]]:
        """A table for each budget, of FLOPs and of each machine's seconds, and kind of likelihood."""
        found: dict[tuple[str, str, str], dict[str, list[RunRecord]]] = {}
        spent: dict[tuple[str, str, str], float] = {}
        curves = [(row, curve) for row in rows for curve in row.curves if curve.has_validation]
        groups = [
            ((cost, row.likelihood_kind, curve.machine if cost == "seconds" else ""), row, curve, last)
            for cost in _UNITS
            for row, curve in curves
            if (last := curve.columns[cost][-1])
        ]
        for group, _, _, last in groups:
            spent[group] = max(last, spent.get(group, 0.0))
        for group, row, curve, _ in groups:
            points = list(zip(curve.columns[group[0]], curve.columns["valid"], strict=True))
            scores = curve.record.scores | _scores(points, spent[group])
            scored = curve.record.model_copy(update={"scores": scores})
            found.setdefault(group, {}).setdefault(row.label, []).append(scored)
        parts = []
        for group in sorted(found, key=lambda it: (list(_UNITS).index(it[0]), it)):
            (cost, kind, machine), records = group, found[group]
            size = f"{spent[group]:.2e}".replace("e+", "e") if cost == "flops" else f"{spent[group]:,.4g}"
            budget = f"{size} {_UNITS[cost]}" + f" on {machine}" * bool(machine)
            items = [replace(row, records=tuple(records[row.label])) for row in rows if row.label in records]
            keys = {"common_budget": budget, "kind": kind}
            parts.append((f"{_KINDS.get(kind, kind)}: 100 % = {budget}", keys, replace(rows, items=tuple(items))))
        return parts


def _scores(points: Sequence[tuple[float | None, float | None]], budget: float) -> dict[str, ScoreRecord]:
    """The best of a training's (spent, validation score) within each share, as scores of metrics of their own."""
    known = [(spent, valid) for spent, valid in points if spent is not None and valid is not None]
    last, found = points[-1][0] or 0.0, dict[str, ScoreRecord]()
    for share in _SHARES:
        name, limit = _METRIC.format(share), budget * share / 100
        if within := [valid for spent, valid in known if spent <= limit]:
            found[name] = ScoreRecord(metric=name, key="", value=min(within), details={"ended": float(last < limit)})
    return found


def _column(share: int) -> Column:
    figure = partial(BoardRow.figure, metric=_METRIC.format(share))
    made = Column(
        f"within_{share}", f"within {share} %", higher_is_better=False, decimals=(2, 3), parts=_PARTS, figure=figure
    )

    def cell(row: BoardRow) -> Cell | None:
        if (of := figure(row)) is None:
            return None
        return made.cell_of(of, " ended" if of.detail("ended") == 1 else "")

    return replace(made, cell=cell)
