"""Leaderboard: from records, and from nothing else, to ranked tables."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, Self

import pandas as pd

from harness.boards.figures import PerImage
from harness.boards.published import PublishedFigure, published_beside
from harness.boards.rows import Rows, rows_of, table_of
from harness.boards.table import Engine, Table
from harness.discovery.distributions import OWN
from harness.discovery.manager import NameConflict, PluginManager, plugin_manager
from harness.interface.board import Board
from harness.records.archive import read_archive
from harness.records.record import RunRecord
from harness.suites.suite import Suite
from harness.support.guard import describe_error, guarded


class BrokenBoard(ValueError):
    """A plugin's board raises or is no board, or two plugins register it; the message names them."""


class Leaderboard:
    """The boards of a suite, or of any records.

    >>> board = Leaderboard.read(Path("leaderboards/mnist-static"))  # doctest: +SKIP
    >>> board.table("likelihood", "mnist-static")  # doctest: +SKIP

    Args:
        records: of all runs, in any order, one for each identity, else it is a ValueError.
        suite: gives the rows, their labels, order, seeds and published figures. Without one, a row is a model with its
            hyperparameters and budget.
        per_image: scores per image by their names in the records, as an archive has them; without them, tests rest on
            seeds alone.
        published: figures by slug, as ``harness.boards.published.load_published`` gives them; a row that names one that
            is not there is a ValueError.
        plugins: which register boards, those installed by default; the default engine makes those of no plugin.
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
        self.rows = Rows.of(items, metrics, table_of(suite, published))
        self.title = "Leaderboard" if suite is None else suite.title
        self.datasets = self.rows.datasets  # in the suite's order
        self._plugins = plugin_manager() if plugins is None else plugins
        self._engine = lru_cache(maxsize=None)(lambda board: Engine(self.board(board), self.rows))
        self._tables = lru_cache(maxsize=None)(lambda board, dataset: self._engine(board).tables(dataset))

    @classmethod
    def read(
        cls, folder: Path, suite: Suite | None = None, *, published: Mapping[str, PublishedFigure] | None = None
    ) -> Self:
        """Makes the boards of an archive, by default with the suite and the published figures that lie beside it.

        A folder without a ``records.jsonl`` that can be read is an ``ArchiveError``.
        """
        folder = Path(folder)
        archive, beside = read_archive(folder), folder.with_suffix(".toml")
        if suite is None and beside.exists():
            suite = Suite.read(beside)
        if published is None:
            published = published_beside(beside)
        return cls(archive.records, suite, per_image=archive.per_image, published=published)

    @cached_property
    def boards(self) -> tuple[str, ...]:
        """The boards that have something to say, in the order in which the suite's metrics name them."""
        order = self.rows.metrics
        found = dict.fromkeys(name for metric in order if (name := self.rows.board_of(metric)))
        places = {}
        for name in dict.fromkeys([*(entry.name for entry in self._plugins.entries("board")), *found]):
            try:
                with self.blaming(name):
                    board = self.board(name)
                    metrics, stands = board.metrics(self.rows), board.stands(self.rows)
            except BrokenBoard:  # said when the board is made; one that no metric names is not missed
                metrics = [metric for metric in order if self.rows.board_of(metric) == name]
                stands = bool(metrics)
            if stands:
                places[name] = min(map(order.index, metrics), default=len(order))
        return tuple(sorted(places, key=lambda name: (places[name], name not in found, name)))

    def board(self, name: str) -> Board:
        """Returns the board of a name: the one that is registered, else one of the default engine.

        ``BrokenBoard``: it is no board; ``NameConflict``: two plugins register it; ValueError: its code is not there.
        """
        made: Any = self._plugins.load("board", name)() if self._plugins.has("board", name) else Board()
        if not isinstance(made, Board):
            raise BrokenBoard(f"board {name!r} of {self._source(name)}: {made!r:.80} is not a harness.Board")
        made.name = name
        return made

    def _source(self, name: str) -> str | None:
        """The plugin that a board comes from; None for one that comes with the harness, or of the default engine."""
        found = self._plugins.provider("board", name) if self._plugins.has("board", name) else None
        return None if found is None or found.distribution == OWN else found.source

    @contextmanager
    def blaming(self, name: str) -> Iterator[None]:
        """Turns what a plugin's board raises, or two plugins of one name, into a ``BrokenBoard`` that says whose."""
        try:
            with guarded(f"board {name!r}"):
                yield
        except BrokenBoard:
            raise
        except NameConflict as error:
            raise BrokenBoard(str(error)) from error
        except Exception as error:
            if (plugin := self._source(name)) is None:
                raise
            raise BrokenBoard(f"board {name!r} of {plugin}: {' '.join(describe_error(error).split())}") from error

    def tables(self, board: str, dataset: str) -> list[Table]:
        """Returns the tables of a dataset on a board: one, unless the board splits them.

        A board or dataset that there is not, or a figure that cannot be used, is a ValueError.
        """
        if board not in self.boards:
            raise ValueError(f"no board {board!r}: the boards are {', '.join(self.boards) or 'none'}")
        if dataset not in self.datasets:
            raise ValueError(f"no dataset {dataset!r} on this board: it has {', '.join(self.datasets) or 'none'}")
        with self.blaming(board):
            return self._tables(board, dataset)

    def table(self, board: str, dataset: str) -> pd.DataFrame:
        """Returns a board of a dataset as pandas has it: the rows with figures in order, then those without.

        What is computed from records has ten significant digits; what was measured stands as it was recorded. Errors
        are those of ``tables``.
        """
        tables = self.tables(board, dataset)
        parts = [(column.key, suffix, kind) for column in tables[0].columns for suffix, kind in column.parts.items()]
        lines = [line.cells for table in tables for line in table.lines]
        values = [[cells[key].part(suffix) if key in cells else None for key, suffix, _ in parts] for cells in lines]
        columns = {key + suffix: kind for key, suffix, kind in parts}
        return pd.DataFrame(values, columns=list(columns), dtype="object").astype(columns)
