"""All that the pages of a suite show: its boards, what was found, charts, pictures, rows, and files to take along."""

import base64
import hashlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote

from harness.boards.figures import Figure
from harness.boards.leaderboard import BrokenBoard, Leaderboard
from harness.boards.row import BoardRow
from harness.boards.table import Line, Table
from harness.interface.board import Board
from harness.records.archive import PER_IMAGE_FILE, RECORDS_FILE
from harness.records.record import RunRecord
from harness.report.files import render_board
from harness.report.grid import grid_of
from harness.report.latex import escape
from harness.report.pages import FIGURES, FOLDER, REAL, figures_of, picture_names, sampled_record
from harness.report.site.charts import Forest, Pareto, forest, paretos
from harness.report.site.contest import Contest
from harness.support.names import slug

_LONGEST = 80  # letters of a file's name that are a label's
_TYPES = {".png": "image/png", ".svg": "image/svg+xml"}
_SOFTWARE = {"python": "Python", "torch": "torch", "harness": "genharness", "git_commit": "commit"}


class Picture(NamedTuple):
    """A picture and its caption; ``path`` is beside the boards."""

    caption: str
    path: str
    row: BoardRow | None = None


class BoardPart(NamedTuple):
    """A board on a dataset, with a forest plot of each table but the main one; or what is wrong with it."""

    board: Board
    tables: list[tuple[Table, Forest | None]]
    problem: str = ""


@dataclass(frozen=True)
class DatasetPart:
    """All of a suite's page that is of one dataset; ``main`` is the first ranked table."""

    name: str
    boards: list[BoardPart]
    main: Table | None
    contest: Contest | None
    paretos: list[Pareto]
    samples: list[Picture]
    samples_by: str
    figures: dict[str, list[Picture]]

    @property
    def forest(self) -> Forest | None:
        """That of the main table."""
        return None if self.main is None else forest(self.main)


class Download(NamedTuple):
    """A file beside a suite's page."""

    name: str
    what: str
    content: bytes

    @property
    def digest(self) -> str:
        """SHA-256, in hexadecimal."""
        return hashlib.sha256(self.content).hexdigest()


@dataclass(frozen=True)
class SuitePages:
    """A suite to show: its name, its boards, and the folder that holds its records and pictures."""

    name: str
    leaderboard: Leaderboard
    folder: Path
    is_alone: bool = False  # in one file with all that it needs
    pictures: dict[str, bytes] = field(default_factory=dict)  # which the pages show as files beside them

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
        drawn = [path for path in self.folder.glob(f"{FIGURES}/*/*") if path.suffix in _TYPES]
        figures = sorted(f"{path.parent.name}/{path.name}" for path in drawn)
        return [self._dataset(name, figures) for name in self.leaderboard.datasets]

    def _dataset(self, dataset: str, figures: list[str]) -> DatasetPart:
        boards, main, order, by = list[BoardPart](), None, list(self.leaderboard.rows.on(dataset)), ""
        for name in self.leaderboard.boards:
            try:
                with self.leaderboard.blaming(name):
                    board, tables = self.leaderboard.board(name), self.leaderboard.tables(name, dataset)
                    ranked = next((table for table in tables if table.ranks.intervals), None)
                    main = main or ranked
                    boards.append(BoardPart(board, [(it, None if it is main else forest(it)) for it in tables]))
            except BrokenBoard as error:
                boards.append(BoardPart(Board(), [], str(error)))
                continue
            if ranked is not None and ranked.by is not None and (board.has_pictures or not by):
                order = [line.row for table in tables for line in table.lines if line.row is not None]
                by = ranked.by.header
        drawn = {
            name: [Picture(*picture) for picture in pictures]
            for name, pictures in figures_of(self.leaderboard.rows, dataset, figures).items()
        }
        contest = None if main is None else Contest.of(main)
        charts = [] if main is None else paretos(self.leaderboard, main, dataset)
        return DatasetPart(dataset, boards, main, contest, charts, self._samples(dataset, order), by, drawn)

    def _samples(self, dataset: str, rows: list[BoardRow]) -> list[Picture]:
        """The sample grids that there are, the real images' first."""
        names = picture_names(self.leaderboard.rows)
        found = [Picture(REAL, f"{FOLDER}/{names[None, dataset]}")]
        for row in rows:
            if (record := sampled_record(row)) is not None:
                caption = f"{row.label}, seed {record.spec.seed}"
                found.append(Picture(caption, f"{FOLDER}/{names[row.label, dataset]}", row))
        return [picture for picture in found if (self.folder / picture.path).is_file()]

    @cached_property
    def _names(self) -> dict[tuple[str, str], str]:
        names, taken = dict[tuple[str, str], str](), Counter[str]()
        for row in self.leaderboard.rows:
            name = f"{slug(row.label)[:_LONGEST]}-{slug(row.dataset)[:_LONGEST]}"
            taken[name.lower()] += 1
            copies = taken[name.lower()]
            names[row.label, row.dataset] = name if copies == 1 else f"{name}@{copies}"
        return names

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

    def figures_of(self, row: BoardRow) -> Iterator[tuple[str, str, Figure, str]]:
        """Yields of each metric and protocol the head, the figure as boards print it, the figure, and the protocol."""
        scored = (score.metric for record in row.records for score in record.scores.values())
        for metric in dict.fromkeys([*row.metrics, *scored]):
            for group, figure in row.by_protocol(metric).items():
                column = self.leaderboard.rows.column(metric, figure=partial(BoardRow.figure, metric=group))
                line = Line({column.key: column.cell_of(figure)}, row)
                grid = grid_of(Table((column,), (line,)), [line])
                yield grid.headers[0], grid.rows[0][0], figure, group.words

    @cached_property
    def downloads(self) -> list[Download]:
        """What a reader takes along; what a plugin's board cannot be written as is left out."""
        words = {RECORDS_FILE: "records, one in each line", PER_IMAGE_FILE: "scores of single test images"}
        files = [Download(name, what, (self.folder / name).read_bytes()) for name, what in words.items()]
        if self.leaderboard.suite is not None and self.leaderboard.suite.file is not None:
            files.append(Download("suite.toml", "the suite", self.leaderboard.suite.file.read_bytes()))
        for board in self.leaderboard.boards:
            for form, ending in (("csv", ".csv"), ("latex", ".tex")):
                try:
                    text = render_board(self.leaderboard, board, form)
                except BrokenBoard:  # which the page says
                    continue
                files.append(Download(f"{board}{ending}", f"the board {board}, {form}", text.encode()))
        cited = "\n".join(dict.fromkeys(map(bibtex, self.leaderboard.rows))).strip()
        return [*files, *([Download("cited.bib", "what is cited, BibTeX", f"{cited}\n".encode())] if cited else [])]


def bibtex(row: BoardRow) -> str:
    """Returns an entry for the paper whose figure stands beside a row; empty without one."""
    theirs = row.published
    if theirs is None or theirs.arxiv is None:
        return ""
    source = f"  note = {{{escape(f'figure from: {theirs.source}')}}},\n" if theirs.source else ""
    words = f"  title = {{{{{escape(theirs.label)}}}}},\n  eprint = {{{theirs.arxiv}}},\n  archivePrefix = {{arXiv}},\n"
    return f"@misc{{{theirs.slug},\n{words}{source}}}\n"


def environments(records: list[RunRecord]) -> list[tuple[str, int]]:
    """Returns on which machines, with which software, the trainings ran, in words, and how many."""
    found = Counter[str]()
    for it in (record.environment for record in records):
        machine = [str(it[name]) for name in ("device_name", "platform") if it.get(name)]
        sizes = [f"{it[name]} {name}" for name in ("cores", "threads") if it.get(name)]
        software = [f"{words} {str(it[name])[:12]}" for name, words in _SOFTWARE.items() if it.get(name)]
        found[", ".join([*machine, *sizes, *software]) or "not stated"] += 1
    return found.most_common()
