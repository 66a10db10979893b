"""Leaderboard: from records, and from nothing else, to ranked tables."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, Self

import pandas as pd

from harness.boards.columns import Rows
from harness.boards.engine import Engine
from harness.boards.figures import PerImage
from harness.boards.published import PublishedFigure
from harness.boards.rows import rows_of
from harness.boards.table import Table
from harness.discovery.manager import PluginManager, plugin_manager
from harness.interface.board import Board
from harness.records.archive import read_archive
from harness.records.record import RunRecord
from harness.suites.suite import Suite


class Leaderboard:
    """The boards of a suite, or of any records.

    >>> board = Leaderboard.read(Path("leaderboards/mnist-static"))  # doctest: +SKIP
    >>> board.table("likelihood", "mnist-static")  # doctest: +SKIP

    Args:
        records: of all runs, in any order, one for each identity.
        suite: gives the rows, their labels, order, seeds and published figures. Without one, a row is a model with its
            hyperparameters and budget.
        per_image: scores per image by their names in the records, as an archive has them; without them, tests rest on
            seeds alone.
        published: figures by slug, as ``harness.boards.published.load_published`` gives them.
        plugins: which register boards; those that are installed by default. A board that none of them registers is made
            by the default engine.

    Raises:
        ValueError: two different records of one identity; a row names a published figure that there is not.
    """

    def __init__(
        self,
        records: Iterable[RunRecord],
        suite: Suite | None = None,
        *,
        per_image: PerImage | None = None,
        published: Mapping[str, PublishedFigure] | None = None,
        plugins: PluginManager | None = None,
    ) -> None:
        self.suite, self.published = suite, published or {}
        items = rows_of(records, suite, per_image=per_image, published=published)
        metrics = suite.metrics if suite is not None else items[0].metrics if items else ()
        self.rows = Rows.of(items, metrics)
        self._plugins = plugins
        self._engine = lru_cache(maxsize=None)(self._make_engine)
        self._tables = lru_cache(maxsize=None)(self._make_tables)

    @classmethod
    def read(
        cls, folder: Path, suite: Suite | None = None, *, published: Mapping[str, PublishedFigure] | None = None
    ) -> Self:
        """Makes the boards of an archive, see ``harness.records.archive.read_archive``."""
        archive = read_archive(folder)
        return cls(archive.records, suite, per_image=archive.per_image, published=published)

    @property
    def title(self) -> str:
        """The suite's title."""
        return "Leaderboard" if self.suite is None else self.suite.title

    @property
    def datasets(self) -> tuple[str, ...]:
        """The datasets in the suite's order."""
        return self.rows.datasets

    @cached_property
    def boards(self) -> tuple[str, ...]:
        """The boards that the metrics have something to say on, in the order in which the metrics name them."""
        found = {name: None for metric in self.rows.metrics if (name := self.rows.board_of(metric))}
        names = [*self._registered, *(name for name in found if name not in self._registered)]
        places = {}
        for name in names:
            metrics = self.board(name).metrics(self.rows)
            if metrics:
                places[name] = min(self.rows.metrics.index(metric) for metric in metrics)
        return tuple(sorted(places, key=lambda name: (places[name], name not in found, name)))

    @cached_property
    def _registered(self) -> tuple[str, ...]:
        return tuple(entry.name for entry in self._manager.entries("board"))

    @cached_property
    def _manager(self) -> PluginManager:
        return plugin_manager() if self._plugins is None else self._plugins

    def board(self, name: str) -> Board:
        """Returns the board of a name: the one that is registered, else one of the default engine."""
        if name in self._registered:
            made: Board = self._manager.load("board", name)()
        else:
            made = Board()
        made.name = name
        return made

    def tables(self, board: str, dataset: str) -> list[Table]:
        """Returns the tables of a dataset on a board: one, unless the board splits them.

        Raises:
            ValueError: no such board or dataset; a figure that cannot be used.
        """
        if board not in self.boards:
            raise ValueError(f"no board {board!r}: the boards are {', '.join(self.boards) or 'none'}")
        if dataset not in self.datasets:
            raise ValueError(f"no dataset {dataset!r} on this board: it has {', '.join(self.datasets) or 'none'}")
        return self._tables(board, dataset)

    def table(self, board: str, dataset: str) -> pd.DataFrame:
        """Returns a board of a dataset as pandas has it: the rows with figures in order, then those without.

        What is computed from records has ten significant digits; what was measured stands as it was recorded.

        Raises:
            ValueError: no such board or dataset; a figure that cannot be used.
        """
        tables = self.tables(board, dataset)
        columns = {column.key + suffix: kind for column in tables[0].columns for suffix, kind in column.parts.items()}
        lines: list[list[Any]] = [
            [
                cell.part(suffix) if (cell := line.cells.get(column.key)) is not None else None
                for column in table.columns
                for suffix in column.parts
            ]
            for table in tables
            for line in table.lines
        ]
        return pd.DataFrame(lines, columns=list(columns), dtype="object").astype(columns)

    def _make_engine(self, board: str) -> Engine:
        return Engine(self.board(board), self.rows)

    def _make_tables(self, board: str, dataset: str) -> list[Table]:
        return self._engine(board).tables(dataset)
