"""Tables: what every format writes, and the engine that makes them of a board and its rows: ranks, order, gaps."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Literal, Self

from harness.boards.pair_tests import RankInterval, Ranks, rank
from harness.boards.row import BoardRow, Problem
from harness.boards.rows import Rows
from harness.interface.board import Board, Cell, Column, Style
from harness.support import numbers

Place = Literal["ranked", "unranked", "audit failed", "reference", "missing"]
_TEXT, _INTEGER, _FLOAT = {"": "string"}, {"": "Int64"}, {"": "float64"}
_TRAINING = {
    "budget": _TEXT, "fit_epochs": _FLOAT, "fit_steps": _FLOAT, "fit_seconds": _FLOAT, "checkpoint": _TEXT,
    "configurations_tried": _INTEGER,
}  # fmt: skip
_common = partial(Column, style="text", parts=_TEXT, required=False)  # a column that every board has
_ORDER: tuple[Place, ...] = ("ranked", "unranked", "audit failed", "reference")


@dataclass(frozen=True)
class Line:
    """A row of a table: its cells by the keys of their columns, and where it stands."""

    cells: Mapping[str, Cell]  # a column without a cell is empty
    row: BoardRow | None = None  # what it is made of; None in a table of texts
    rank: RankInterval | None = None
    place: Place = "unranked"  # ``reference`` rows are floors and ceilings
    problems: tuple[Problem, ...] = ()  # why seeds, or all, have no figure


@dataclass(frozen=True)
class Table:
    """A board of one dataset, or a part of it, as every format writes it.

    Lines are models in order, then those whose audit failed, then references, then what is missing. A dataset's only
    table has no ``title``. ``ranks`` say what the rank intervals rest on, ``by`` is what lines are sorted by; ``whole``
    are all lines of the table that this is a part of: its parts print as many decimals.
    """

    columns: tuple[Column, ...]
    lines: tuple[Line, ...]
    title: str = ""
    ranks: Ranks = field(default_factory=Ranks)
    by: Column | None = None
    whole: tuple[Line, ...] = ()

    def part(self, lines: tuple[Line, ...]) -> Self:
        """Returns the table with some of its lines."""
        return replace(self, lines=lines, whole=self.whole or self.lines)

    @classmethod
    def of_texts(cls, headers: Sequence[str], rows: Sequence[Sequence[str]], *, numeric: Sequence[str] = ()) -> Self:
        """Returns a table of printed cells; ``numeric`` names the columns that are aligned right."""
        styles: dict[str, Style] = {name: "count" if name in numeric else "text" for name in headers}
        columns = [Column(name, name, style=style, parts={"": "string"}) for name, style in styles.items()]
        lines = [{name: Cell(text, text=text) for name, text in zip(headers, row, strict=True)} for row in rows]
        return cls(tuple(columns), tuple(map(Line, lines)))

    @property
    def models(self) -> tuple[Line, ...]:
        """The lines of models that have a figure."""
        return tuple(line for line in self.lines if line.place not in ("reference", "missing"))

    @property
    def references(self) -> tuple[Line, ...]:
        """The lines of floors and ceilings."""
        return tuple(line for line in self.lines if line.place == "reference")

    @property
    def missing(self) -> tuple[Line, ...]:
        """The lines of rows without a figure."""
        return tuple(line for line in self.lines if line.place == "missing")

    @property
    def rows(self) -> tuple[BoardRow, ...]:
        """The rows that have a figure."""
        return tuple(line.row for line in self.lines if line.row is not None and line.place != "missing")


class Engine:
    """Makes the tables of a board; ``rows`` are those of all datasets, which have the same columns."""

    def __init__(self, board: Board, rows: Rows) -> None:
        self.board, self.rows = board, rows
        self.own = tuple(board.columns(rows))
        # The board's own columns stand between those that every board has; without a cell, the engine makes it.
        parts = [part for name in self.rows.datasets for part in self.board.parts(self.rows.on(name))]
        apart = dict.fromkeys(key for _, keys, _ in parts for key in keys)
        shown = {key: key.capitalize() for key in self.board.shows}
        before = [
            _common("dataset", cell=lambda row: Cell(row.dataset)),
            *(_common(key) for key in apart),
            _common("rank", "Rank" if self.board.is_ranked else "", parts={"_best": "Int64", "_worst": "Int64"}),
            _common("role", cell=lambda row: Cell(row.role)),
            _common("label", self.board.row_noun, cell=_label),
            _common("model", cell=lambda row: Cell(row.model)),
            _common("status", cell=lambda row: Cell("done")),
            _common("ranked_by"),
        ]
        sizes = {"_sampling": "Int64", "_training": "Int64"}
        after = [
            _common("audit", shown.get("audit", ""), parts={"": "string", "_failed": "string"}, cell=_audit),
            _common("seeds", shown.get("seeds", ""), style="count", parts={"": "Int64", "_planned": "Int64"}),
            _common("images", parts=_INTEGER),
            _common("parameters", shown.get("parameters", ""), style="count", parts=sizes, cell=_parameters),
            _common("training", shown.get("training", ""), parts={}, cell=_training),
            *(_common(name, parts=kind, cell=partial(_trained, name)) for name, kind in _TRAINING.items()),
            _common("tests_rest_on"),
            _common("problems"),
        ]
        taken = {column.key + suffix for column in self.own for suffix in column.parts}
        free = [column for column in after if not any(column.key + suffix in taken for suffix in column.parts)]
        self.columns = (*before, *self.own, *free)

    def tables(self, dataset: str) -> list[Table]:
        """Returns the tables of a dataset, of which the last has the lines of what is missing."""
        rows = self.rows.on(dataset)
        problems = {row.label: self._problems(row) for row in rows}
        parts = self.board.parts(rows)
        made = [self._table(part, problems, title, apart) for title, apart, part in parts] or [Table(self.columns, ())]
        shown = {line.cells["label"].value for table in made for line in table.lines}
        missing = [self._missing(row, problems[row.label]) for row in rows if row.label not in shown]
        return [*made[:-1], replace(made[-1], lines=(*made[-1].lines, *missing))]

    def _has_figure(self, row: BoardRow) -> bool:
        return any(column.required and column.of(row) is not None for column in self.own)

    def _problems(self, row: BoardRow) -> tuple[Problem, ...]:
        metrics = self.board.metrics(self.rows)
        # Speeds are measured on one seed, and a training that is fine shows which metrics do not apply: then other
        # seeds' failures say nothing about this board.
        if self._has_figure(row):
            is_known = {score.stage for metric in metrics for _, score in row.scores(metric)} == {"speed"}
        else:
            is_known = any(record.status == "done" for record in row.records)
        return tuple(it for it in row.problems(metrics) if it.metric is not None or not is_known)

    def _table(
        self, rows: Rows, problems: Mapping[str, Sequence[Problem]], title: str, apart: Mapping[str, str]
    ) -> Table:
        by = self.board.ranked_by(self.own, rows)
        shown = _sorted([row for row in rows if self._has_figure(row)], by)
        places = {row.label: self._place(row, by) for row in shown}
        ranked = {row.label: by.figure(row) for row in shown if places[row.label] == "ranked" and by and by.figure}
        ranks = rank([figure.measured() for figure in ranked.values() if figure is not None])
        intervals = dict(zip(ranked, ranks.intervals, strict=True))
        also = {key: Cell(value) for key, value in apart.items()}
        lines = []
        for row in sorted(shown, key=lambda row: _ORDER.index(places[row.label])):
            why = problems.get(row.label, ())  # a board may have rows that no suite asks for
            cells = self._cells(row, by) | also | {"problems": _said(why)}
            if (interval := intervals.get(row.label)) is not None:
                cells["rank"] = Cell(text=str(interval), more={"_best": interval.best, "_worst": interval.worst})
                cells["tests_rest_on"] = Cell("; ".join(ranks.bases) or None)
            lines.append(Line(cells, row, interval, places[row.label], tuple(why)))
        return Table(self.columns, tuple(lines), title, ranks, by)

    def _place(self, row: BoardRow, by: Column | None) -> Place:
        if row.role != "model":
            return "reference"
        if self.board.is_ranked and not self.board.may_rank(row):
            return "audit failed"
        has_figure = by is not None and by.figure is not None and by.of(row) and by.figure(row)
        return "ranked" if self.board.is_ranked and has_figure else "unranked"

    def _cells(self, row: BoardRow, by: Column | None) -> dict[str, Cell]:
        cells = {column.key: cell for column in self.columns if (cell := column.of(row)) is not None}
        figures = [figure for column in self.own if column.figure is not None and (figure := column.figure(row))]
        main = None if by is None or by.figure is None else by.figure(row)
        main = main or max(figures, key=lambda figure: len(figure.values), default=None)
        if by is not None and by.key in cells and self.board.is_ranked:
            cells["ranked_by"] = Cell(by.key)
        if main is not None:
            cells["images"] = Cell(main.num_images)
        return cells | {"seeds": _seeds(None if main is None else len(main.values), len(row.seeds))}

    def _missing(self, row: BoardRow, problems: tuple[Problem, ...]) -> Line:
        named = [column for column in self.columns if column.key in ("dataset", "role", "label", "model")]
        cells = {column.key: cell for column in named if (cell := column.of(row)) is not None}
        status = Cell(problems[0].status if problems else self.board.nothing)
        cells |= {"seeds": _seeds(0, len(row.seeds)), "status": status, "problems": _said(problems)}
        return Line(cells, row, None, "missing", problems)


def _sorted(rows: list[BoardRow], by: Column | None) -> list[BoardRow]:
    """By the figure that the board shows, the best first; rows without it last."""

    def key(row: BoardRow) -> tuple[bool, float]:
        cell = None if by is None else by.of(row)
        if by is None or cell is None or not isinstance(cell.value, int | float):
            return True, 0.0
        return False, -cell.value if by.higher_is_better else cell.value

    return sorted(rows, key=key)


def _label(row: BoardRow) -> Cell:
    tried = row.training["configurations_tried"]
    return Cell(row.label, note="" if tried == 1 else f" (best of {tried} on validation)")


def _audit(row: BoardRow) -> Cell | None:
    if row.role != "model" or not row.records:
        return None
    return Cell(row.audit.standing, text=row.audit.cell, more={"_failed": row.audit.names or None})


def _said(problems: Sequence[Problem]) -> Cell:
    return Cell("; ".join(map(str, problems)) or None)


def _seeds(number: int | None, planned: int) -> Cell:
    """How many seeds, and of how many if some are missing."""
    text = None if number is None else str(number) if number == planned else f"{number} of {planned} seeds"
    return Cell(number, text=text, more={"_planned": planned})


def _parameters(row: BoardRow) -> Cell | None:
    """Parameters that sampling uses / that are trained; one number where they are equal or only one is known."""
    sampling, training = row.training["parameters_sampling"], row.training["parameters_training"]
    known = list(dict.fromkeys(numbers.count(value) for value in (sampling, training) if value is not None))
    sizes = {"_sampling": _whole(sampling), "_training": _whole(training)}
    return Cell(text=" / ".join(known), more=sizes) if known else None


def _whole(value: float | None) -> int | None:
    return int(value) if value is not None and abs(value) <= 2**53 and value == int(value) else None


def _trained(name: str, row: BoardRow) -> Cell:
    return Cell(row.training[name])


def _training(row: BoardRow) -> Cell | None:
    """How long the row trained, and which checkpoint was scored."""
    epochs, seconds = row.training["fit_epochs"], row.training["fit_seconds"]
    if seconds is None:
        return None
    long = f"{numbers.short(epochs)} epoch{'' if epochs == 1 else 's'}" if epochs else "no epochs"
    text = ", ".join([long, numbers.seconds(seconds), row.training["checkpoint"].replace("-", " ")])
    return Cell(text=text, more={"_seconds": seconds})
