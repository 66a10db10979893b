"""What the pages of a suite show: its boards, who is best on each dataset, pictures, rows, and files to take along."""

import base64
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from itertools import product
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote

from harness.boards.leaderboard import BrokenBoard, Leaderboard
from harness.boards.row import BoardRow
from harness.boards.table import Line, Table
from harness.interface.board import Column
from harness.records.archive import PER_IMAGE_FILE, RECORDS_FILE
from harness.records.record import RunRecord
from harness.report.charts import description_of
from harness.report.files import render_board
from harness.report.grid import grid_of
from harness.report.pages import (
    FIGURES,
    FOLDER,
    REAL,
    STRIPS,
    figures_of,
    folder_of,
    picture_names,
    reading_of,
    sampled_record,
    words_of,
)
from harness.report.site.contest import Contest
from harness.report.site.curves import points_csv
from harness.support.names import distinct, slug

_LONGEST = 80  # letters of a file's name that are a label's
_TYPES = {".png": "image/png", ".svg": "image/svg+xml"}


class Picture(NamedTuple):
    """A picture and its caption; ``path`` is beside the boards, ``said`` what it says of itself."""

    caption: str
    path: str
    row: BoardRow | None = None
    said: str = ""


class Download(NamedTuple):
    """A file to take along; one that is there is read when it is asked for, for it may be large."""

    source: Path | bytes

    def read(self) -> bytes:
        """Returns what it holds."""
        return self.source if isinstance(self.source, bytes) else self.source.read_bytes()


class BoardPart(NamedTuple):
    """A board on a dataset: each table with its notes and what is folded below it; or what is wrong with the board."""

    name: str
    title: str
    problem: str = ""
    nothing: str = ""  # what is said of rows that its metrics do not apply to
    lead: str = ""
    reading: Sequence[str] = ()
    tables: Sequence[tuple[Table, Sequence[str], Mapping[str, Sequence[str]]]] = ()
    appendix: Sequence[tuple[str, str, Table]] = ()


class DatasetPart(NamedTuple):
    """What is of one dataset, at the place ``id`` on the page; ``main`` is the first ranked table."""

    name: str
    id: str
    boards: list[BoardPart]
    main: Table | None
    contest: Contest | None
    samples: list[Picture]  # grids; and ``strips``, each sample above its nearest training image
    strips: list[Picture]
    samples_by: str  # the header of the column that they are in the order of
    figures: dict[str, list[Picture]]


@dataclass(frozen=True)
class SuitePages:
    """A suite to show: its name, its boards, and the folder that holds its records and pictures."""

    name: str
    leaderboard: Leaderboard
    folder: Path
    is_alone: bool = False  # in one file with all that it needs
    pictures: dict[str, bytes] = field(default_factory=dict)  # which the pages show as files beside them
    progress: Callable[[], Iterable[str]] = list  # how far its runs are, in lines

    @property
    def id(self) -> str:
        """The folder of its pages."""
        return slug(self.name)[:_LONGEST]

    @property
    def records(self) -> list[RunRecord]:
        """Those that the rows are made of."""
        return [record for row in self.leaderboard.rows for record in row.records]

    @cached_property
    def datasets(self) -> list[DatasetPart]:
        """Its datasets in order."""
        names = self.leaderboard.datasets
        ids = distinct(f"on-{slug(name)}" for name in names)
        return [self._dataset(name, place) for name, place in zip(names, ids, strict=True)]

    def _dataset(self, dataset: str, place: str) -> DatasetPart:
        all_boards, rows, main, by = self.leaderboard, self.leaderboard.rows.on(dataset), None, ""
        order, boards = list(rows), list[BoardPart]()
        for name in all_boards.boards:
            try:
                with all_boards.blaming(name):
                    board, tables = all_boards.board(name), all_boards.tables(name, dataset)
                    below = board.appendix(rows, all_boards.published)
                    words = [(table, *words_of(board, table)) for table in tables]
                    said = board.title or name, "", board.nothing, board.lead(rows), reading_of(all_boards, board)
                    boards.append(BoardPart(name, *said, words, below))
            except BrokenBoard as error:
                boards.append(BoardPart(name, name, str(error)))
                continue
            ranked = next((table for table in tables if table.ranks.intervals), None)
            main = main or ranked
            if ranked is not None and ranked.by is not None and (board.has_pictures or not by):
                order, by = [line.row for table in tables for line in table.lines if line.row], ranked.by.header
        contest = None if main is None else Contest.of(main)
        samples, strips = (self._samples(dataset, order, name) for name in (FOLDER, STRIPS))
        return DatasetPart(dataset, place, boards, main, contest, samples, strips, by, self._figures(dataset))

    def _samples(self, dataset: str, rows: list[BoardRow], figure: str) -> list[Picture]:
        """The grids or strips of samples that there are, the real images' first."""
        names, folder = picture_names(self.leaderboard.rows), folder_of(figure)
        found = [Picture(REAL, f"{folder}/{names[None, dataset]}")]
        for row in rows:
            if (record := sampled_record(row)) is not None:
                path = f"{folder}/{names[row.label, dataset]}"
                found.append(Picture(f"{row.label}, seed {record.spec.seed}", path, row))
        there = [(picture, file) for picture in found if (file := self.folder / picture.path).is_file()]
        return [picture._replace(said=description_of(file)) for picture, file in there]

    def _figures(self, dataset: str) -> dict[str, list[Picture]]:
        drawn = sorted(path for path in self.folder.glob(f"{FIGURES}/*/*") if path.suffix in _TYPES)
        files = [f"{path.parent.name}/{path.name}" for path in drawn if path.parent.name != STRIPS]
        found = figures_of(self.leaderboard.rows, dataset, files)
        said = {path: description_of(self.folder / path) for pictures in found.values() for _, path in pictures}
        return {name: [Picture(*it, said=said[it[1]]) for it in pictures] for name, pictures in found.items()}

    @cached_property
    def _names(self) -> dict[tuple[str, str], str]:
        rows = self.leaderboard.rows
        names = distinct(f"{slug(row.label)[:_LONGEST]}-{slug(row.dataset)[:_LONGEST]}" for row in rows)
        return {(row.label, row.dataset): name for row, name in zip(rows, names, strict=True)}

    def page_of(self, row: BoardRow) -> str:
        """Returns a row's page, or its part of the one page."""
        name = self._names[row.label, row.dataset]
        return f"#row-{name}" if self.is_alone else f"rows/{name}.html"

    def source_of(self, picture: Picture) -> str:
        """Returns what an image's ``src`` is: an SVG, which may hold a script, is never a file that can be opened."""
        file = self.folder / picture.path
        content = file.read_bytes()
        if file.suffix == ".png" and not self.is_alone:
            self.pictures[picture.path] = content
            return quote(picture.path)
        return f"data:{_TYPES[file.suffix]};base64,{base64.b64encode(content).decode()}"

    def figures_of(self, row: BoardRow) -> Iterator[tuple[str, str, Sequence[float], str, str]]:
        """Yields of each metric and protocol the head, the figure as boards print it, its seeds', kind and protocol."""
        scored = (score.metric for record in row.records for score in record.scores.values())
        for metric in dict.fromkeys([*row.metrics, *scored]):
            for group, figure in row.by_protocol(metric).items():
                bare = self.leaderboard.rows.column(metric)
                column = next((it for it in reversed(self._columns) if it.figure and it.figure(row) is figure), bare)
                line = Line({column.key: column.cell_of(figure)}, row)
                grid = grid_of(Table((column,), (line,)), [line])
                seeds = (figure.values * column.scale).tolist()
                yield grid.headers[0], grid.rows[0][0], seeds, figure.kind, group.words

    @cached_property
    def _columns(self) -> list[Column]:
        """Those of all boards, by which a row's page prints its figures."""
        tables = [table for part in self.datasets for board in part.boards for table, *_ in board.tables]
        return list({column.key: column for table in tables for column in table.columns if column.header}.values())

    @cached_property
    def downloads(self) -> dict[str, Download]:
        """What a reader takes along, by the files' names; what a plugin's board cannot be written as is left out."""
        there = [path for name in (RECORDS_FILE, PER_IMAGE_FILE) if (path := self.folder / name).is_file()]
        files = {path.name: Download(path) for path in there}
        if self.leaderboard.suite is not None and self.leaderboard.suite.file is not None:
            files["suite.toml"] = Download(self.leaderboard.suite.file)
        if points := points_csv(self.leaderboard.rows):
            files["curves.csv"] = Download(points.encode())
        for board, (form, ending) in product(self.leaderboard.boards, (("csv", ".csv"), ("latex", ".tex"))):
            with suppress(BrokenBoard):  # which the page says
                files[f"{board}{ending}"] = Download(render_board(self.leaderboard, board, form).encode())
        return files
