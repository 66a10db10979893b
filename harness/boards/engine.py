"""The engine: from a board and its rows to tables, with ranks, order, and what is missing."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import Any

from harness.boards.columns import Rows
from harness.boards.problems import Problem, text_of
from harness.boards.ranking import Ranks, rank
from harness.boards.rows import BoardRow
from harness.boards.statistics import RankInterval
from harness.boards.table import Line, Place, Table
from harness.interface.board import Board, Cell, Column
from harness.support import numbers

_TEXT, _INTEGER, _FLOAT = {"": "string"}, {"": "Int64"}, {"": "float64"}
_TRAINING = {
    "budget": _TEXT, "fit_epochs": _FLOAT, "fit_steps": _FLOAT, "fit_seconds": _FLOAT, "checkpoint": _TEXT,
    "configurations_tried": _INTEGER,
}  # fmt: skip


@dataclass(frozen=True)
class Engine:
    """Makes the tables of a board.

    Args:
        board: says which columns, and what ranks.
        rows: of all datasets.
    """

    board: Board
    rows: Rows

    @cached_property
    def own(self) -> tuple[Column, ...]:
        """The board's own columns: the same for all datasets."""
        return tuple(self.board.columns(self.rows))

    @cached_property
    def columns(self) -> tuple[Column, ...]:
        """All columns: the board's own between those that every board has."""
        apart = dict.fromkeys(key for name in self.rows.datasets for part in self._parts(name) for key in part[1])
        ranks = {"_best": "Int64", "_worst": "Int64"}
        before = [
            _common("dataset", cell=lambda row: Cell(row.dataset)),
            *(_common(key) for key in apart),
            _common("rank", "Rank" if self.board.is_ranked else "", ranks),
            _common("role", cell=lambda row: Cell(row.role)),
            _common("label", "Model", cell=_label),
            _common("model", cell=lambda row: Cell(row.model)),
            _common("status", cell=lambda row: Cell("done")),
            _common("ranked_by"),
        ]
        after = [
            self._shown("audit", {**_TEXT, "_failed": "string"}, _audit),
            replace(self._shown("seeds", {**_INTEGER, "_planned": "Int64"}, None), style="count"),
            _common("images", parts=_INTEGER),
            replace(
                self._shown("parameters", {"_sampling": "Int64", "_training": "Int64"}, _parameters), style="count"
            ),
            self._shown("training", {}, _training),
            *(_common(name, parts=kind, cell=partial(_trained, name)) for name, kind in _TRAINING.items()),
            _common("tests_rest_on"),
            _common("problems"),
        ]
        taken = {column.key + suffix for column in self.own for suffix in column.parts}
        free = [column for column in after if not any(column.key + suffix in taken for suffix in column.parts)]
        return (*before, *self.own, *free)

    def tables(self, dataset: str) -> list[Table]:
        """Returns the tables of a dataset, of which the last has the lines of what is missing."""
        rows = self.rows.on(dataset)
        problems = {row.label: self._problems(row) for row in rows}
        made = [self._table(part, title, apart, problems) for title, apart, part in self._parts(dataset)]
        made = made or [Table(self.columns, ())]
        shown = {line.cells["label"].value for table in made for line in table.lines}
        missing = [self._missing(row, problems[row.label]) for row in rows if row.label not in shown]
        return [*made[:-1], replace(made[-1], lines=(*made[-1].lines, *missing))]

    def _shown(self, key: str, parts: Mapping[str, str], cell: Callable[[BoardRow], Cell | None] | None) -> Column:
        return _common(key, key.capitalize() if key in self.board.shows else "", parts, cell)

    def _parts(self, dataset: str) -> Sequence[tuple[str, Mapping[str, str], Rows]]:
        return self.board.parts(self.rows.on(dataset))

    def _has_figure(self, row: BoardRow) -> bool:
        return any(column.required and column.of(row) is not None for column in self.own)

    def _problems(self, row: BoardRow) -> tuple[Problem, ...]:
        metrics = self.board.metrics(self.rows)
        problems, shown = tuple(row.problems(metrics)), self._has_figure(row)
        # Speeds are measured on one seed, and a training that is fine shows which metrics do not apply: then other
        # seeds' failures say nothing about this board.
        once = {score.stage for metric in metrics for _, score in row.scores(metric)} == {"speed"}
        if once if shown else row.has_finished:
            return tuple(problem for problem in problems if problem.metric is not None)
        return problems

    def _table(
        self, rows: Rows, title: str, apart: Mapping[str, str], problems: Mapping[str, tuple[Problem, ...]]
    ) -> Table:
        by, is_ranked = self.board.ranked_by(self.own, rows), self.board.is_ranked
        shown = _sorted([row for row in rows if self._has_figure(row)], by)
        models = [row for row in shown if row.role == "model"]
        places: dict[str, Place] = {
            row.label: "unranked" if not is_ranked or self.board.may_rank(row) else "audit failed" for row in models
        }
        ranks = Ranks()
        if is_ranked and by is not None and by.figure is not None:
            fit = [row for row in models if places[row.label] == "unranked" and by.of(row) is not None]
            figures = [figure for row in fit if (figure := by.figure(row)) is not None]
            ranks = rank([figure.measured() for figure in figures])
            places |= {row.label: "ranked" for row in fit}
        intervals = iter(ranks.intervals)
        order: tuple[Place, ...] = ("ranked", "unranked", "audit failed", "reference")
        standing = {row.label: places.get(row.label, "reference") for row in shown}
        lines = [
            self._line(row, place, next(intervals) if place == "ranked" else None, by, ranks, problems[row.label])
            for place in order
            for row in shown
            if standing[row.label] == place
        ]
        also = {key: Cell(value) for key, value in apart.items()}
        return Table(
            self.columns, tuple(replace(line, cells={**line.cells, **also}) for line in lines), title, ranks, by
        )

    def _line(
        self, row: BoardRow, place: Place, interval: RankInterval | None, by: Column | None, ranks: Ranks,
        problems: tuple[Problem, ...],
    ) -> Line:  # fmt: skip
        cells = {column.key: cell for column in self.columns if (cell := column.of(row)) is not None}
        figures = [figure for column in self.own if column.figure is not None and (figure := column.figure(row))]
        main = None if by is None or by.figure is None else by.figure(row)
        main = main or max(figures, key=lambda figure: len(figure.values), default=None)
        if interval is not None:
            more = {"_best": interval.best, "_worst": interval.worst}
            cells |= {"rank": Cell(text=str(interval), more=more), "tests_rest_on": Cell(ranks.basis or None)}
        if by is not None and by.key in cells and self.board.is_ranked:
            cells["ranked_by"] = Cell(by.key)
        if main is not None:
            cells["images"] = Cell(main.num_images)
        cells["seeds"] = _seeds(None if main is None else len(main.values), len(row.seeds))
        return Line({**cells, "problems": Cell(text_of(problems))}, row, interval, place, problems)

    def _missing(self, row: BoardRow, problems: tuple[Problem, ...]) -> Line:
        named = [column for column in self.columns if column.key in ("dataset", "role", "label", "model")]
        cells = {column.key: cell for column in named if (cell := column.of(row)) is not None}
        status = problems[0].status if problems else self.board.nothing
        cells |= {"seeds": _seeds(0, len(row.seeds)), "status": Cell(status), "problems": Cell(text_of(problems))}
        return Line(cells, row, None, "missing", problems)


def _sorted(rows: list[BoardRow], by: Column | None) -> list[BoardRow]:
    """By the figure that the board shows, the best first; rows without it last."""

    def key(row: BoardRow) -> tuple[bool, float]:
        cell = None if by is None else by.of(row)
        if by is None or cell is None or not isinstance(cell.value, int | float):
            return True, 0.0
        return False, -cell.value if by.higher_is_better else cell.value

    return sorted(rows, key=key)


def _common(
    key: str, header: str = "", parts: Mapping[str, str] = _TEXT, cell: Callable[[BoardRow], Cell | None] | None = None
) -> Column:
    """A column that every board has; without a cell, the engine makes it."""
    return Column(key, header, style="text", parts=parts, cell=cell, required=False)


def _label(row: BoardRow) -> Cell:
    tried = row.training["configurations_tried"]
    return Cell(row.label, note="" if tried == 1 else f" (best of {tried} on validation)")


def _audit(row: BoardRow) -> Cell | None:
    if row.role != "model":
        return None
    return Cell(row.audit.standing, text=row.audit.cell, more={"_failed": row.audit.names or None})


def _seeds(number: int | None, planned: int) -> Cell:
    """How many seeds, and of how many if some are missing."""
    text = None if number is None else str(number) if number == planned else f"{number} of {planned} seeds"
    return Cell(number, text=text, more={"_planned": planned})


def _parameters(row: BoardRow) -> Cell | None:
    """Parameters that sampling uses / that are trained; one number where they are equal or only one is known."""
    sampling, training = row.training["parameters_sampling"], row.training["parameters_training"]
    known = list(dict.fromkeys(numbers.count(value) for value in (sampling, training) if value is not None))
    if not known:
        return None
    return Cell(text=" / ".join(known), more={"_sampling": sampling, "_training": training})


def _trained(name: str, row: BoardRow) -> Cell:
    value: Any = row.training[name]
    return Cell(value)


def _training(row: BoardRow) -> Cell | None:
    """How long the row trained, and which checkpoint was scored."""
    epochs, seconds = row.training["fit_epochs"], row.training["fit_seconds"]
    if seconds is None:
        return None
    parts = [f"{numbers.short(epochs)} epoch{'' if epochs == 1 else 's'}"] if epochs else ["no epochs"]
    checkpoint = row.training["checkpoint"].replace("-", " ")
    return Cell(text=", ".join([*parts, numbers.seconds(seconds), checkpoint]))
