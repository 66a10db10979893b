"""A profile's tables on a terminal: fewer columns than on the page, each as wide as it needs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.box import SIMPLE_HEAD
from rich.console import Console, RenderableType
from rich.table import Table as RichTable
from rich.text import Text

from harness.boards.table import Table
from harness.profiling.page import advantage_table, growth_table, headline, settings_of, speed_table
from harness.profiling.tables import MachineTables
from harness.report.grid import grid_of
from harness.support.names import printable
from harness.support.numbers import NOTHING

_WIDEST = 1000


def print_tables(machines: Sequence[MachineTables]) -> None:
    """Prints the tables of all machines on standard output."""
    console = Console()
    for tables in machines:
        for part in _parts(tables):
            # a line that is too long for the terminal is broken by it, not cut off in every cell
            wide = Console(
                width=max(console.width, _width(part)), file=console.file, force_terminal=console.is_terminal
            )
            wide.print(part, soft_wrap=not isinstance(part, RichTable))


def _width(part: RenderableType) -> int:
    return Console(width=_WIDEST).measure(part).maximum if isinstance(part, RichTable) else 0


def _parts(tables: MachineTables) -> Iterator[RenderableType]:
    yield Text(f"\n{printable(tables.hardware)} (fingerprint {tables.fingerprint})", style="bold")
    for title, shown, left_out in settings_of(tables):
        if shown:
            yield _rich(title, speed_table(tables, shown))
        for item in left_out:
            yield Text(printable(f"{title}: {item.label}, {item.sampler}: {item.status}: {item.reason}"))
    if tables.scalings:
        yield _rich("growth with the number of pixels", growth_table(tables))
    if tables.advantages:
        yield _rich(f"advantage over {tables.baseline}", advantage_table(tables))
    if text := headline(tables):
        yield Text(printable(text), style="bold")


def _rich(title: str, table: Table) -> RichTable:
    made = RichTable(title=title, title_justify="left", title_style="bold", box=SIMPLE_HEAD, pad_edge=False)
    grid = grid_of(table, table.lines)
    said = [
        index
        for index, header in enumerate(grid.headers)
        if header not in ("growth", "latency") and any(row[index] != NOTHING for row in grid.rows)
    ]
    for index in said:
        made.add_column(grid.headers[index], justify="right" if grid.right[index] else "left", no_wrap=True)
    for row in grid.rows:
        made.add_row(*(Text(printable(row[index])) for index in said))
    return made
