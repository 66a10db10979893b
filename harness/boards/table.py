"""Table: what every format writes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, Self

from harness.boards.pair_tests import RankInterval, Ranks
from harness.boards.row import BoardRow, Problem
from harness.interface.board import Cell, Column, Style

Place = Literal["ranked", "unranked", "audit failed", "reference", "missing"]


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
