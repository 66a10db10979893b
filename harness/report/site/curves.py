"""Learning curves as they are drawn: a chart for each kind of likelihood, with a panel for each pair of axes."""

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from itertools import product
from typing import NamedTuple

import pandas as pd

from harness.boards.curves import TrainingCurve
from harness.boards.row import BoardRow
from harness.boards.table import Table
from harness.report.files import to_csv
from harness.report.site.charts import Axis, axis_of
from harness.support.numbers import NOTHING, scaled, seconds, short, significant

_UP, _ACROSS = ("valid", "loss"), ("epoch", "seconds", "flops")
_POINT = ("label", "dataset", "seed", "step", "epoch", "images", "seconds", "flops", "loss", "valid")
_SPREAD = 3.0  # of the points of several rows, as of rows
_MOST_ROWS = 60
_RANGE = 10.0  # an axis is logarithmic if the longest line is so many times the shortest
_APART = (3.0, 3.8)  # percent of the box that the numbers of two lines are apart, in one direction or the other

Line = list[tuple[float, float, float]]  # across, up, and half of the bar there


class Mark(NamedTuple):
    """The lines of one row: which row, a path in thousandths of the box, and in percent where one ends, and its number.

    Numbers stand apart, and so not always at the height of the line.
    """

    row: int
    path: str
    x: float
    end: float
    y: float


class Panel(NamedTuple):
    """A pair of axes, and the rows that have nothing on them, or nothing on the scale."""

    across: str
    up: str
    x: Axis
    y: Axis
    marks: list[Mark]
    absent: list[str]


class Chart(NamedTuple):
    """Rows whose scores share an axis; the best first."""

    title: str
    rows: list[BoardRow]
    panels: list[Panel]
    machines: list[str]
    table: Table | None
    more: int = 0


def learning_curves(rows: Iterable[BoardRow]) -> list[Chart]:
    """Returns a chart for each kind of likelihood that rows with curves have."""
    kinds: dict[str, list[BoardRow]] = {}
    for row in sorted((row for row in rows if row.curves), key=_best):
        kinds.setdefault(row.likelihood_kind, []).append(row)
    return [_chart(kind, kinds[kind]) for kind in sorted(kinds, key=lambda kind: (kind != "exact likelihood", kind))]


def share_chart(table: Table) -> Chart | None:
    """Returns how rows do with a growing share of a budget, from a table of quality at equal compute."""
    columns = [column for column in table.columns if column.key.startswith("within_")]
    all_rows = [line.row for line in table.models if line.row is not None]
    lines, rows = list[list[Line]](), all_rows[:_MOST_ROWS]
    for cells in (line.cells for line in table.models[:_MOST_ROWS]):
        found = [(float(it.key.rpartition("_")[2]), cells[it.key]) for it in columns if it.key in cells]
        lines.append([[(share, float(cell.value or 0.0), cell.sd or 0.0) for share, cell in found]])
    panel = _panel("valid", "share", rows, lines)
    title, more = "Best validation score by the share of the budget", len(all_rows) - len(rows)
    return None if panel is None else Chart(title, rows, [panel], [], None, more)


def points_csv(rows: Iterable[BoardRow]) -> str:
    """Returns the points of all curves as CSV; empty if there are none."""
    points = [
        (row.label, row.dataset, curve.record.spec.seed, *point)
        for row in rows
        for curve in row.curves
        for point in zip(*curve.columns.values(), strict=True)
    ]
    return to_csv([pd.DataFrame(points, columns=list(_POINT))] if points else [])


def _best(row: BoardRow) -> float:
    """The mean of its trainings' best validation scores, by which rows are sorted; the last where there are none."""
    found = [min(it for it in curve.columns["valid"] if it is not None) for curve in row.curves if curve.has_validation]
    return sum(found) / len(found) if found else float("inf")


def _chart(kind: str, rows: list[BoardRow]) -> Chart:
    shown = rows[:_MOST_ROWS]
    made = [
        _panel(up, across, shown, [[_points(curve, across, up) for curve in row.curves] for row in shown])
        for up, across in product(_UP, _ACROSS)
    ]
    machines = sorted({curve.machine for row in shown for curve in row.curves})
    table = Table.of_texts(_HEADERS, [_summary(row, curve) for row in shown for curve in row.curves], numeric=_NUMERIC)
    return Chart(kind.capitalize(), shown, [panel for panel in made if panel], machines, table, len(rows) - len(shown))


def _points(curve: TrainingCurve, across: str, up: str) -> Line:
    pairs = zip(curve.columns[across], curve.columns[up], strict=True)
    return [(a, b, 0.0) for a, b in pairs if a is not None and a > 0 and b is not None]


_NUMERIC = ("Seed", "Best validation score", "Last loss", "Epochs", "Time", "FLOPs")
_HEADERS = ("Row", *_NUMERIC)
_FIVE_DIGITS = partial(significant, digits=5)
_FORMS: tuple[Callable[[float], str], ...] = (_FIVE_DIGITS, _FIVE_DIGITS, short, seconds, scaled)


def _summary(row: BoardRow, curve: TrainingCurve) -> list[str]:
    """How a training went, in words: when it had its best validation score, or else when it ended."""
    of = curve.columns
    scores = [(score, place) for place, score in enumerate(of["valid"]) if score is not None]
    best, place = min(scores) if scores else (None, -1)
    found = [best, of["loss"][-1], *(of[name][place] for name in ("epoch", "seconds", "flops"))]
    texts = [NOTHING if value is None else form(value) for value, form in zip(found, _FORMS, strict=True)]
    return [row.label, str(curve.record.spec.seed), *texts]


def _panel(up: str, across: str, rows: Sequence[BoardRow], lines: Sequence[Sequence[Line]]) -> Panel | None:
    known = [line for of_row in lines for line in of_row if line]
    if not known:
        return None
    ends = [line[-1][0] for line in known]
    is_log = across in ("flops", "share") or max(ends) > _RANGE * min(ends)
    points, first = [point for line in known for point in line], [1.0, 100.0] if across == "share" else [0.0]
    x = Axis.around([*(first if across == "share" or not is_log else []), *(it[0] for it in points)], is_log=is_log)
    y = axis_of([it[1] for it in points], higher_is_better=False, spread=_SPREAD if len(rows) > 1 else 3 * _SPREAD)
    bars = [it[1] + side * it[2] for it in points if y.holds(it[1]) for side in (-1, 1)]
    y = Axis.around([y.low, y.high, *bars])
    ended = [(number, [it for line in of_row for it in line if y.holds(it[1])]) for number, of_row in enumerate(lines)]
    taken, marks = list[tuple[float, float]](), list[Mark]()
    for number, there in sorted((it for it in ended if it[1]), key=lambda it: it[1][-1][1]):
        at, end = x.at(there[-1][0]), y.at(there[-1][1])
        height = end
        while any(abs(at - a) < _APART[0] and abs(height - b) < _APART[1] for a, b in taken):
            height = round(height + 0.2, 2)
        taken.append((at, height))
        marks.append(Mark(number, "".join(_path(x, y, line) for line in lines[number]), at, end, height))
    return Panel(across, up, x, y, marks, [rows[number].label for number, there in ended if not there])


def _path(x: Axis, y: Axis, line: Line) -> str:
    """A line with its bars; broken where it leaves the scale, and a dot where one point is alone."""
    path, pen = list[str](), "M"
    for across, up, half in line:
        at, top, bottom, height = (round(10 * it) for it in (x.at(across), *map(y.at, (up + half, up - half, up))))
        if not y.holds(up):
            pen = "M"
            continue
        path.append(f"{pen}{at} {1000 - height}")
        pen = " " if not half else "L"
        path += [f"M{at} {1000 - top}V{1000 - bottom}M{at} {1000 - height}"] if half else []
    return "".join(path) + "h0" if path else ""
