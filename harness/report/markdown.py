"""Pages of tables, and how they are written: Markdown that reads well as it is, with every text escaped."""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from urllib.parse import quote

from harness.boards.table import Table
from harness.report.grid import grid_of
from harness.support.names import printable

ORIGIN = "records by `harness leaderboard`"
GENERATED = f"<!-- Generated from {ORIGIN}"  # how the page of a board begins
_PICTURES_A_LINE = 3

_SPECIAL = re.compile(r"[\\`*\[\]|~${]|(?<![^\W_])_|_(?![^\W_])")
_TAG = re.compile(r"<(?=[A-Za-z/!?])")
_ENTITY = re.compile(r"&(?=#?\w+;)")


@dataclass(frozen=True)
class Section:
    """A titled table, ``lead`` above it, notes and pictures under it; ``folded`` opens if it is asked to.

    Pictures are captions and image files beside the page.
    """

    title: str
    lead: str = ""
    table: Table | None = None
    notes: Sequence[str] = ()
    subsections: Sequence["Section"] = ()
    pictures: Sequence[tuple[str, str]] = ()
    folded: Mapping[str, Sequence[str]] = field(default_factory=dict)


def escape(text: str) -> str:
    """Returns a text on one line, in which nothing is markup; an underscore inside a word is none as it is."""
    line = printable(" ".join(text.split()))
    line = _TAG.sub("&lt;", _ENTITY.sub("&amp;", line))
    return _SPECIAL.sub(lambda found: f"\\{found[0]}", line)


def to_markdown(
    title: str, introduction: str, sections: Iterable[Section], reading: Sequence[str] = (), *, origin: str = ORIGIN
) -> str:
    """Writes a page; ``origin`` says, in a comment at its top, what it is made from and by which command."""
    parts = [f"<!-- Generated from {origin}; edits are lost. -->", *_section(Section(title, introduction), 1)]
    for section in sections:
        parts += _section(section, 2)
    parts += _folded("How to read this", reading) if reading else []
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


def _gallery(pictures: Sequence[tuple[str, str]]) -> Iterator[str]:
    """Tables of one line each: captions, and the pictures under them."""
    for start in range(0, len(pictures), _PICTURES_A_LINE):
        some = [(escape(caption), path) for caption, path in pictures[start : start + _PICTURES_A_LINE]]
        images = [f"![{caption}]({quote(path)})" for caption, path in some]
        yield "\n".join(map(_line, ([caption for caption, _ in some], ["---"] * len(some), images)))


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
