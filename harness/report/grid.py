"""From a table to printed cells: which columns are shown, with how many decimals, and what stands in each place."""

import math
import statistics
from collections.abc import Callable, Sequence
from itertools import product
from typing import NamedTuple

from harness.boards.leaderboard import Leaderboard
from harness.boards.table import Line, Table
from harness.interface.board import Cell, Column
from harness.support import numbers
from harness.support.numbers import NOTHING

_PLAIN: dict[str, Callable[[float], str]] = {
    "count": numbers.count, "significant": numbers.significant, "seconds": numbers.seconds, "bytes": numbers.memory,
    "scaled": numbers.scaled, "percent": lambda value: f"{numbers.fixed(100 * value, 1)} %",
}  # fmt: skip
_SIGNS = {kind: sign for kind, sign in numbers.KIND_SIGNS.items() if kind.endswith("bound")}
_MOST_TABLES = 8  # whose best rows are named
_ARROWS = {True: " ↑", False: " ↓", None: ""}  # which way is better


class Grid(NamedTuple):
    """Printed cells: ``rows`` are as long as ``headers``; ``right`` says which columns are aligned right."""

    keys: tuple[str, ...]
    headers: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    right: tuple[bool, ...]


def grid_of(table: Table, lines: Sequence[Line], *, without: frozenset[str] = frozenset()) -> Grid:
    """Returns some lines of a table as printed, without empty columns; decimals are those of the whole table."""
    shown = [
        column
        for column in table.columns
        if column.header
        and column.key not in without
        and (column.key == "rank" or any(_cell(line, column) is not None for line in lines))
    ]
    decimals = [_decimals(column, table.whole or table.lines) for column in shown]
    return Grid(
        tuple(column.key for column in shown),
        tuple(column.title + _ARROWS[column.higher_is_better] * (column.style == "figure") for column in shown),
        tuple(tuple(map(_text, [line] * len(shown), shown, decimals)) for line in lines),
        tuple(column.style != "text" for column in shown),
    )


def best_rows(boards: Leaderboard) -> list[str]:
    """Returns a line for each table, or the first of many: its best row by what it is sorted by, and the row's rank.

    Of a board that is not ranked it is the first table on each dataset.
    """
    lines = []
    for board, dataset in product(boards.boards, boards.datasets):
        for table in boards.tables(board, dataset)[: None if boards.board(board).is_ranked else 1]:
            models, by = [line for line in table.models if line.place != "audit failed"], table.by
            if by is not None and models and by.key in models[0].cells:
                grid = grid_of(table, models[:1])
                cell, head = (dict(zip(grid.keys, part, strict=True)) for part in (grid.rows[0], grid.headers))
                rank = f", rank {models[0].rank}" if models[0].rank is not None else ""
                lines.append(f"best on {board}, {dataset}: {cell['label']}: {head[by.key]} {cell[by.key]}{rank}")
    more = len(lines) - _MOST_TABLES
    return lines if more <= 0 else [*lines[:_MOST_TABLES], f"and on {more} more tables"]


def _cell(line: Line, column: Column) -> Cell | None:
    cell = line.cells.get(column.key)
    return None if cell is None or cell.is_empty else cell


def _decimals(column: Column, lines: Sequence[Line]) -> int:
    """So many that a middling spread has two digits, within the column's limits; without spreads the most, or none."""
    cells = [cell for line in lines if (cell := line.cells.get(column.key)) is not None]
    least, most = column.decimals
    spreads = [spread for cell in cells if (spread := cell.sd or cell.se)]
    if not spreads:
        values = [cell.value for cell in cells if isinstance(cell.value, int | float)]
        return least if all(value == int(value) for value in values) else most
    digits = 1 - math.floor(math.log10(statistics.median(spreads) * column.scale))
    return min(max(digits, least), most)


def _text(line: Line, column: Column, decimals: int) -> str:
    """What is printed in one place; and of how many seeds a figure is, where the row says another number."""
    cell = _cell(line, column)
    if cell is None:
        return NOTHING
    seeds, own = line.cells.get("seeds"), cell.more.get("_seeds")
    other = own is not None and seeds is not None and seeds.value not in (None, own)
    return _value(cell, column, decimals) + cell.note + (f", {own} seed{'' if own == 1 else 's'}" if other else "")


def _value(cell: Cell, column: Column, decimals: int) -> str:
    if cell.text is not None or not isinstance(cell.value, int | float):
        return str(cell.value) if cell.text is None else cell.text
    sign = _SIGNS.get(cell.kind or "", "")
    if column.style == "figure":
        sd, se = (None if spread is None else column.scale * spread for spread in (cell.sd, cell.se))
        return sign + numbers.with_spread(column.scale * cell.value, sd, se, decimals)
    show = _PLAIN.get(column.style, str)
    low, high = cell.more.get("_q25"), cell.more.get("_q75")
    quartiles = f" ({show(low)}–{show(high)})" if low is not None and high is not None else ""
    return sign + show(cell.value) + quartiles
