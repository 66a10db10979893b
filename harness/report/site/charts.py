"""What charts are drawn from: axes, and which rows. Templates draw them as SVG, in shares of a box.

Without a drawing library the same records give the same bytes on every machine, and charts follow the page's width.
"""

import math
import re
from collections.abc import Sequence
from typing import NamedTuple, Self

from harness.boards.figures import Figure
from harness.boards.leaderboard import Leaderboard
from harness.boards.row import BoardRow, nats_per_bit_per_dim
from harness.boards.table import Line, Table
from harness.interface.board import Column
from harness.report.grid import grid_of
from harness.support.numbers import fixed, scaled

_ROUNDING, _TINY = 1e-12, 1e-90  # what is no further apart, in shares or by itself, has no axis of its own
_MARGIN = 3.0  # percent of the box, on both sides
_SPREAD = 3.0  # what lies further from the best than so many times the median row does is off the scale
_MOST_BARS = 60
_COSTS = (  # what stands on one axis: a row's figure of the first that it has
    ("fastest-sampling", "sampling-throughput"),
    *((metric,) for metric in ("parameters-sampling", "fit-seconds", "flops-sampling", "flops-training")),
)
_DRAWN = {
    "fastest-sampling": "Each by the fastest sampler whose images are confirmed.",
    "sampling-throughput": "Each by its default sampler.",
}


class Axis(NamedTuple):
    """From values to percent of a box."""

    low: float
    high: float
    is_log: bool = False

    @classmethod
    def around(cls, values: Sequence[float], *, is_log: bool = False) -> Self:
        """Returns the axis that has all values on it; those of a logarithmic one are positive."""
        low, high = min(values), max(values)
        wider = low * 10 if is_log else low + (abs(low) if abs(low) > _TINY else 1.0) * 0.01
        is_one = math.isclose(low, high, rel_tol=_ROUNDING, abs_tol=0.0 if is_log else _TINY)
        return cls(low, wider if is_one else high, is_log)

    def at(self, value: float) -> float:
        """Returns where a value lies; what is off the scale lies on the edge."""
        low, high, place = map(self._of, (self.low, self.high, min(max(value, self.low), self.high)))
        return round(_MARGIN + (100 - 2 * _MARGIN) * (place - low) / (high - low), 2)

    def holds(self, value: float) -> bool:
        """Tells whether a value is on the scale."""
        return self.low <= value <= self.high

    def _of(self, value: float) -> float:
        return math.log10(value) if self.is_log else value

    def ticks(self, most: int) -> list[tuple[float, str]]:
        """Returns places and labels of round values, about so many at most."""
        if self.is_log:
            first, last = math.floor(math.log10(self.low)), math.ceil(math.log10(self.high))
            steps = (1,) if last - first > 2 else (1, 2, 5)
            powers = range(first, last + 1, max(1, math.ceil((last - first) / most)))
            found = [step * 10.0**power for power in powers for step in steps]
            zeros = re.compile(r"(\.0+|(?<=\.\d)0+)(?= |$)")
            return [(self.at(it), zeros.sub("", scaled(it))) for it in found if self.holds(it)]
        rough = (self.high - self.low) / most
        size = 10.0 ** math.floor(math.log10(rough))
        step = next(size * factor for factor in (1, 2, 5, 10) if size * factor >= rough * (1 - 1e-9))
        found = [step * number for number in range(math.ceil(self.low / step), math.floor(self.high / step) + 1)]
        return [(self.at(value), fixed(value, max(0, -math.floor(math.log10(step) + 1e-9)))) for value in found]


class Bar(NamedTuple):
    """A row of a forest plot: its figure, printed too, those of its trainings, and the published one in that unit."""

    line: Line
    value: float
    shown: str
    figure: Figure | None
    published: float | None


class Forest(NamedTuple):
    """The column that a table is ranked by, drawn; ``more`` rows are not."""

    by: Column
    axis: Axis
    bars: list[Bar]
    more: int


def forest(table: Table) -> Forest | None:
    """Returns the forest plot of a table; None where nothing is ranked."""
    by, known = table.by, [(line, value) for line in table.lines if (value := _value(table, line)) is not None]
    if by is None or by.figure is None or not known or not table.ranks.intervals:
        return None
    shown, bars = known[:_MOST_BARS], list[Bar]()
    grid = grid_of(table, [line for line, _ in shown])
    for (line, value), texts in zip(shown, grid.rows, strict=True):
        figure = None if line.row is None else by.figure(line.row)
        bars.append(Bar(line, value, texts[grid.keys.index(by.key)], figure, _published(line, by)))
    published = [bar.published for bar in bars if bar.published is not None]
    axis = axis_of([value for _, value in shown], published, higher_is_better=by.higher_is_better)
    there = [bar for bar in bars if axis.holds(bar.value)]
    ends = [it.value + side * 1.96 * (it.line.cells[by.key].se or 0.0) * by.scale for it in there for side in (-1, 1)]
    ends += [value * by.scale for it in there if it.figure for value in it.figure.values.tolist()]
    return Forest(by, Axis.around([axis.low, axis.high, *ends]), bars, len(known) - len(shown))


def _value(table: Table, line: Line) -> float | None:
    cell = None if table.by is None else line.cells.get(table.by.key)
    return cell.value * table.by.scale if table.by and cell and isinstance(cell.value, int | float) else None


def axis_of(
    values: Sequence[float], published: Sequence[float] = (), *, higher_is_better: bool | None, spread: float = _SPREAD
) -> Axis:
    """Returns the axis for the better values: a few that are far worse would leave no room between the others."""
    sign = -1 if higher_is_better else 1
    ours, theirs = sorted(sign * value for value in values), [sign * value for value in published]
    best, median = min([*ours, *theirs]), ours[(len(ours) - 1) // 2]
    shown = [value for value in ours if value <= best + spread * (median - best) or len(ours) < 4]
    return Axis.around([sign * value for value in (*shown, *theirs)])


def _published(line: Line, by: Column) -> float | None:
    """The published figure, where it is in the column's unit."""
    row = line.row
    theirs = None if row is None or "published" not in line.cells or by.unit != "nats" else row.published
    if row is None or theirs is None or theirs.metric in ("fid", "inception-score"):
        return None
    return theirs.value * (nats_per_bit_per_dim(row) if theirs.metric == "bits-per-dim" else 1.0)


class Point(NamedTuple):
    """A row of a Pareto chart: its place on the board, and what it costs, printed too."""

    number: int
    row: BoardRow
    value: float
    cost: float
    said: str
    is_frontier: bool


class Pareto(NamedTuple):
    """The column that a table is ranked by against a cost; the frontier is of rows that no other beats in both."""

    by: Column
    cost: Column
    machine: str  # of speeds: the one that measured most rows
    drawn: str  # of speeds: by which samplers
    x: Axis
    y: Axis
    points: list[Point]  # the better cost first
    off: list[str]  # the rows that are off the scale


def paretos(leaderboard: Leaderboard, table: Table, dataset: str) -> list[Pareto]:
    """Returns the charts of a ranked table against each cost that was measured."""
    rows = leaderboard.rows
    measured = [[metric for metric in metrics if metric in rows.metrics and metric in rows.facts] for metrics in _COSTS]
    found = [_pareto(leaderboard, table, dataset, metrics) for metrics in measured if metrics]
    return [chart for chart in found if chart is not None]


def _pareto(leaderboard: Leaderboard, table: Table, dataset: str, metrics: Sequence[str]) -> Pareto | None:
    by, board = table.by, leaderboard.rows.board_of(metrics[0])
    if by is None or board not in leaderboard.boards:
        return None
    column, *_ = columns = [leaderboard.rows.column(metric) for metric in metrics]
    measured = [(of.title, [_costs(of, column) for column in columns]) for of in leaderboard.tables(board, dataset)]
    machine, found = max(measured, key=lambda item: len(set().union(*item[1])))
    costs = {label: cost for those in reversed(found) for label, cost in those.items()}
    drawn = _DRAWN.get(metrics[0], "")
    if others := [label for label in costs if label not in found[0]]:
        drawn += f" By the default one, for want of that figure: {'; '.join(others)}."
    known = [
        (number, line.row, value, *costs[line.row.label], line.place)
        for number, line in enumerate(table.models, 1)
        if line.row and line.row.label in costs and (value := _value(table, line)) is not None
    ]
    if len(known) < 2:
        return None
    y = axis_of([item[2] for item in known], higher_is_better=by.higher_is_better)
    points, best = list[Point](), math.inf
    up, right = (-1 if by.higher_is_better else 1), (-1 if column.higher_is_better else 1)
    for number, row, value, cost, said, place in sorted(known, key=lambda item: (right * item[3], up * item[2])):
        if y.holds(value):
            is_frontier = place == "ranked" and up * value < best
            best = up * value if is_frontier else best
            points.append(Point(number, row, value, cost, said, is_frontier))
    x, off = Axis.around([it.cost for it in points], is_log=True), [it[1].label for it in known if not y.holds(it[2])]
    return Pareto(by, column, machine, drawn, x, y, points, off)


def _costs(table: Table, column: Column) -> dict[str, tuple[float, str]]:
    """What each row costs, and how that is printed; of a cost that has a logarithm."""
    found = {}
    for row in (line.row for line in table.lines if line.row is not None):
        figure = None if column.figure is None else column.figure(row)
        if figure is not None and figure.mean > 0:
            line, [score, *_] = Line({column.key: column.cell_of(figure)}, row), figure.scores
            printed = grid_of(Table((column,), (line,)), [line]).rows[0][0]
            by = score.protocol.get("sampler", "default") if score.stage == "speed" else "default"
            found[row.label] = figure.mean, printed if by == "default" else f"{printed}, {by}"
    return found
