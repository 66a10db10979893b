"""From a table to printed cells: which columns are shown, with how many decimals, and what stands in each place."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from harness.boards.table import Line, Table
from harness.interface.board import Cell, Column
from harness.support import numbers
from harness.support.numbers import NOTHING

_PLAIN: dict[str, Callable[[float], str]] = {
    "count": numbers.count, "significant": numbers.significant, "seconds": numbers.seconds, "bytes": numbers.memory,
    "scaled": numbers.scaled, "percent": lambda value: f"{numbers.fixed(100 * value, 1)} %",
}  # fmt: skip
_SIGNS = {"upper bound": numbers.KIND_SIGNS["upper bound"], "lower bound": numbers.KIND_SIGNS["lower bound"]}


@dataclass(frozen=True)
class Grid:
    """Printed cells: ``rows`` are as long as ``headers``; ``right`` says which columns are aligned right."""

    keys: tuple[str, ...]
    headers: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    right: tuple[bool, ...]


def grid_of(table: Table, lines: Sequence[Line], *, without: frozenset[str] = frozenset()) -> Grid:
    """Returns some lines of a table as they are printed. A column in which they have nothing is left out.

    Decimals are those of the whole table, so that its parts read alike.
    """
    shown = [
        column
        for column in table.columns
        if column.header
        and column.key not in without
        and (column.key == "rank" or any(_has(line, column) for line in lines))
    ]
    decimals = {column.key: decimals_of(column, table.whole or table.lines) for column in shown}
    return Grid(
        tuple(column.key for column in shown),
        tuple(column.title + arrow(column) for column in shown),
        tuple(tuple(cell_text(line, column, decimals[column.key]) for column in shown) for line in lines),
        tuple(column.style != "text" for column in shown),
    )


def arrow(column: Column) -> str:
    """Which way is better, of a column of figures."""
    if column.style != "figure" or column.higher_is_better is None:
        return ""
    return " ↑" if column.higher_is_better else " ↓"


def decimals_of(column: Column, lines: Sequence[Line]) -> int:
    """So many that a middling spread has two digits, within the column's limits; without spreads the most, or none."""
    cells = [cell for line in lines if (cell := line.cells.get(column.key)) is not None]
    least, most = column.decimals
    spreads = [spread for cell in cells if (spread := cell.se if not cell.sd else cell.sd)]
    if not spreads:
        values = [cell.value for cell in cells if isinstance(cell.value, int | float)]
        return least if all(value == int(value) for value in values) else most
    digits = 1 - math.floor(math.log10(statistics.median(spreads) * column.scale))
    return min(max(digits, least), most)


def cell_text(line: Line, column: Column, decimals: int) -> str:
    """Returns what is printed in one place."""
    cell = line.cells.get(column.key)
    if cell is None or not _has(line, column):
        return NOTHING
    return _text(cell, column, decimals) + cell.note + _other_seeds(line, cell)


def _has(line: Line, column: Column) -> bool:
    cell = line.cells.get(column.key)
    return cell is not None and not cell.is_empty


def _text(cell: Cell, column: Column, decimals: int) -> str:
    if cell.text is not None:
        return cell.text
    if not isinstance(cell.value, int | float):
        return str(cell.value)
    if column.style == "figure":
        value, sd, se = (None if part is None else column.scale * part for part in (cell.value, cell.sd, cell.se))
        assert value is not None
        return _SIGNS.get(cell.kind or "", "") + numbers.with_spread(value, sd, se, decimals)
    show = _PLAIN.get(column.style, str)
    low, high = cell.more.get("_q25"), cell.more.get("_q75")
    text = show(cell.value)
    if isinstance(low, int | float) and isinstance(high, int | float):
        text += f" ({show(low)}–{show(high)})"
    return text


def _other_seeds(line: Line, cell: Cell) -> str:
    """Of how many seeds a figure is, where the row says another number."""
    seeds, own = line.cells.get("seeds"), cell.more.get("_seeds")
    if own is None or seeds is None or seeds.value in (None, own):
        return ""
    return f", {own} seed{'' if own == 1 else 's'}"
