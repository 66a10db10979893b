"""Board: how the figures of metrics become a table. A column is declared once, and every format writes it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from harness.interface.spec import ScoreKind

if TYPE_CHECKING:
    from harness.boards.figures import Figure
    from harness.boards.row import BoardRow
    from harness.boards.rows import Rows
    from harness.boards.table import Table

Style = Literal["figure", "text", "count", "significant", "seconds", "bytes", "scaled", "percent"]


@dataclass(frozen=True, slots=True)  # there are many
class Cell:
    """What stands in one place of a table: a number or a text, of a ``kind`` of the quantity that the column names.

    ``sd`` is the standard deviation over seeds, ``se`` the standard error over test images, or by resampling. ``text``
    is printed instead of the value, ``note`` behind it. ``more`` holds values of CSV by suffix, such as ``_q25``.
    """

    value: float | str | None = None
    sd: float | None = None
    se: float | None = None
    kind: ScoreKind | None = None
    text: str | None = None
    note: str = ""
    more: Mapping[str, Any] = field(default_factory=dict)

    @property
    def is_empty(self) -> bool:
        """Whether nothing is printed."""
        return self.text is None and self.value is None

    def part(self, suffix: str) -> Any:
        """Returns what a column of CSV has: the value under ``""``, else by the suffix."""
        return {"": self.value, "_sd": self.sd, "_se": self.se, "_kind": self.kind, **self.more}.get(suffix)


@dataclass(frozen=True)
class Column:
    """One column, declared once for every format.

    Attributes:
        key: its name in CSV and pandas.
        header, unit: how it is headed in print; no header for a column that stands in CSV and pandas alone.
        higher_is_better: which way is up; None where neither is. Decides the arrow, and the order.
        style: how values are printed; a ``figure`` has its sign, and its spread behind ``±`` and in brackets.
        decimals, scale: of a ``figure``: the least and the most decimals, and between them two digits of a middling
            spread; what it is printed times.
        parts: the types of the columns of CSV, by the suffix that is put behind ``key``. One that is no part of a cell
            is the mean over seeds of the detail of that name.
        figure: what a row's seeds scored, on which ranks rest; None for a column that nothing can be ranked by.
        cell: makes a row's cell, or None; by default that of ``figure``.
        required: whether a row stands on the board only if it has a cell in such a column.
    """

    key: str
    header: str = ""
    unit: str = ""
    higher_is_better: bool | None = None
    style: Style = "figure"
    decimals: tuple[int, int] = (0, 4)
    scale: float = 1.0
    parts: Mapping[str, str] = field(default_factory=lambda: {"": "float64", "_sd": "float64", "_se": "float64"})
    figure: Callable[[BoardRow], Figure | None] | None = None
    cell: Callable[[BoardRow], Cell | None] | None = None
    required: bool = True

    @property
    def title(self) -> str:
        """Header and unit."""
        return f"{self.header}, {self.unit}" if self.unit else self.header

    def of(self, row: BoardRow) -> Cell | None:
        """Returns a row's cell."""
        if self.cell is not None:
            return self.cell(row)
        figure = None if self.figure is None else self.figure(row)
        return None if figure is None else self.cell_of(figure)

    def cell_of(self, figure: Figure, note: str = "") -> Cell:
        """Returns the cell of a figure."""
        more = {suffix: figure.part(suffix) for suffix in ("_seeds", *self.parts) if suffix not in _OWN}
        spread = (figure.standard_deviation, figure.standard_error)
        return Cell(figure.mean, *spread, figure.kind, note=note, more=more)


_OWN = ("", "_sd", "_se", "_kind")


class Board:
    """A table of what metrics measured, made from records alone.

    As it is, it has one column for each metric and protocol found, and ranks by the first; a board that no plugin
    registers is made so. A subclass says more.

    Class attributes:
        name, title: what ``Metric.board`` and its files call it, and a heading, by default the same.
        reading: how to read it; an empty line parts paragraphs.
        row_noun: what a row is, which heads the column of their labels.
        also: the boards whose metrics stand on this one too.
        is_ranked: whether rows have rank intervals; without, they are sorted alone.
        shows: which of the columns that all boards have are printed.
        nothing: the status of a row whose model the metrics do not apply to.
        has_pictures: whether the rows' sample grids stand below the tables.
    """

    name: str = "other"
    title: str = ""
    reading: str = ""
    row_noun: ClassVar[str] = "Model"
    also: ClassVar[tuple[str, ...]] = ()
    is_ranked: ClassVar[bool] = True
    shows: ClassVar[frozenset[str]] = frozenset({"audit", "seeds", "parameters", "training"})
    nothing: ClassVar[str] = "not measured"
    has_pictures: ClassVar[bool] = False

    def metrics(self, rows: Rows) -> list[str]:
        """Returns the metrics whose figures, or failures, belong here, in the suite's order."""
        return [metric for metric in rows.metrics if rows.board_of(metric) in (self.name, *self.also)]

    def stands(self, rows: Rows) -> bool:
        """Tells whether a suite of these rows has the board: by default, if a metric belongs here."""
        return bool(self.metrics(rows))

    def columns(self, rows: Rows) -> Sequence[Column]:
        """Returns the columns for the rows of all datasets: one for each metric and protocol, as they are found."""
        return rows.columns_by_protocol(self.metrics(rows))

    def ranked_by(self, columns: Sequence[Column], rows: Rows) -> Column | None:
        """Returns the column by which the rows of a dataset are ranked: of the first metric, that of most rows."""
        return rows.first_column(columns)

    def may_rank(self, row: BoardRow) -> bool:
        """Tells whether a model's row may have a rank: not if its audit failed."""
        return row.audit.standing != "failed"

    def parts(self, rows: Rows) -> Sequence[tuple[str, Mapping[str, str], Rows]]:
        """Splits the rows of a dataset into tables: a title, columns of CSV that tell them apart, and the rows."""
        return [("", {}, rows)]

    def lead(self, rows: Rows) -> str:
        """Returns a sentence above the table."""
        return ""

    def notes(self, table: Table) -> Sequence[str]:
        """Returns what stands below the table."""
        return ()

    def details(self, table: Table) -> Mapping[str, Sequence[str]]:
        """Returns what is folded below the table: paragraphs by their title."""
        return {}

    def appendix(self, rows: Rows, published: Mapping[str, Any]) -> Sequence[tuple[str, str, Table]]:
        """Returns further tables below that of a dataset: a title, a sentence and the table."""
        return ()
