"""Pages of tables, and how they are written: Markdown that reads well as it is, with every text escaped."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple
from urllib.parse import quote

from harness.boards.table import Table
from harness.report.grid import grid_of
from harness.support.names import printable

ORIGIN = "records by `harness leaderboard`"
GENERATED = f"<!-- Generated from {ORIGIN}"  # how the page of a board begins
_PICTURES_A_LINE = 3

_SPECIAL = re.compile(r"[\\`*\[\]|~$]|(?<![^\W_])_|_(?![^\W_])")
_TAG = re.compile(r"<(?=[A-Za-z/!?])")
_ENTITY = re.compile(r"&(?=#?\w+;)")


class Picture(NamedTuple):
    """An image file beside the document, and what stands above it."""

    caption: str
    path: str


@dataclass(frozen=True)
class Section:
    """A titled table with notes and pictures under it; ``lead`` stands above it, ``folded`` opens if it is asked to."""

    title: str
    lead: str = ""
    table: Table | None = None
    notes: tuple[str, ...] = ()
    subsections: tuple[Section, ...] = ()
    pictures: tuple[Picture, ...] = ()
    folded: Mapping[str, Sequence[str]] = field(default_factory=dict)


@dataclass(frozen=True)
class Document:
    """Title, introduction, sections, and how to read them."""

    title: str
    introduction: tuple[str, ...]
    sections: tuple[Section, ...]
    reading: tuple[str, ...]


def escape(text: str) -> str:
    """Returns a text on one line, in which nothing is markup; an underscore inside a word is none as it is."""
    line = printable(" ".join(text.split()))
    line = _TAG.sub("&lt;", _ENTITY.sub("&amp;", line))
    return _SPECIAL.sub(lambda found: f"\\{found[0]}", line)


def to_markdown(document: Document, *, origin: str = ORIGIN) -> str:
    """Writes a board; ``origin`` says, in a comment at its top, what it is made from and by which command."""
    parts = [f"<!-- Generated from {origin}; edits are lost. -->", f"# {escape(document.title)}"]
    parts += [_paragraph(paragraph) for paragraph in document.introduction]
    for section in document.sections:
        parts += _section(section, 2)
    if document.reading:
        parts += _folded("How to read this", document.reading)
    return "\n\n".join(parts) + "\n"


def _section(section: Section, level: int) -> list[str]:
    table = "" if section.table is None else _table(section.table)
    parts = [f"{'#' * level} {escape(section.title)}", _paragraph(section.lead), table, _bullets(section.notes)]
    for title, words in section.folded.items():
        parts += _folded(title, words)
    parts += _gallery(section.pictures)
    for part in section.subsections:
        parts += _section(part, level + 1)
    return list(filter(None, parts))


def _folded(title: str, words: Sequence[str]) -> list[str]:
    """What opens when it is asked for; the empty lines, and ``markdown`` on the site, make its text Markdown."""
    return [f'<details markdown="1">\n<summary>{escape(title)}</summary>', _bullets(words), "</details>"]


def _gallery(pictures: tuple[Picture, ...]) -> list[str]:
    """Tables of one line each: captions, and the pictures under them."""
    tables = []
    for start in range(0, len(pictures), _PICTURES_A_LINE):
        some = pictures[start : start + _PICTURES_A_LINE]
        captions = [escape(picture.caption) for picture in some]
        images = [f"![{escape(picture.caption)}]({quote(picture.path)})" for picture in some]
        tables.append("\n".join(map(_line, (captions, ["---"] * len(some), images))))
    return tables


def _line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _bullets(notes: Sequence[str]) -> str:
    return "\n".join(f"- {_paragraph(note)}" for note in notes)


def _paragraph(text: str) -> str:
    """Escaped, and no list, quotation or heading whatever it begins with."""
    return re.sub(r"^([0-9]+)(?=[.)])", r"\1\\", re.sub(r"^(?=[#+>=-])", r"\\", escape(text)))


def _table(table: Table) -> str:
    grid = grid_of(table, table.lines)
    cells = [[escape(cell) for cell in row] for row in (grid.headers, *grid.rows)]
    columns = []
    for column, right in zip(zip(*cells, strict=True), grid.right, strict=True):
        width = max(3, *map(len, column))
        head, *body = [cell.rjust(width) if right else cell.ljust(width) for cell in column]
        columns.append([head, f"{'-' * (width - 1)}{':' if right else '-'}", *body])
    return "\n".join(map(_line, zip(*columns, strict=True)))
