"""Markdown: tables that read well as they are, with every text escaped."""

from __future__ import annotations

import re
from urllib.parse import quote

from harness.report.values import Document, Picture, Section, Table

_PICTURES_A_LINE = 3

_SPECIAL = re.compile(r"[\\`*\[\]|~$]|(?<![^\W_])_|_(?![^\W_])")
_TAG = re.compile(r"<(?=[A-Za-z/!?])")
_ENTITY = re.compile(r"&(?=#?\w+;)")


def escape(text: str) -> str:
    """Returns a text on one line, in which nothing is markup; an underscore inside a word is none as it is."""
    line = " ".join(text.split())
    line = _TAG.sub("&lt;", _ENTITY.sub("&amp;", line))
    return _SPECIAL.sub(lambda found: f"\\{found[0]}", line)


def to_markdown(document: Document, *, origin: str = "records by `harness leaderboard`") -> str:
    """Writes a board; ``origin`` says, in a comment at its top, what it is made from and by which command."""
    parts = [f"<!-- Generated from {origin}; edits are lost. -->", f"# {escape(document.title)}"]
    parts += [_paragraph(paragraph) for paragraph in document.introduction]
    for section in document.sections:
        parts += _section(section, 2)
    if document.reading:
        parts += ["## How to read this", _bullets(document.reading)]
    return "\n\n".join(parts) + "\n"


def _section(section: Section, level: int) -> list[str]:
    parts = [f"{'#' * level} {escape(section.title)}"]
    if section.lead:
        parts.append(_paragraph(section.lead))
    if section.table is not None:
        parts.append(_table(section.table))
    if section.notes:
        parts.append(_bullets(section.notes))
    parts += _gallery(section.pictures)
    for part in section.subsections:
        parts += _section(part, level + 1)
    return parts


def _gallery(pictures: tuple[Picture, ...]) -> list[str]:
    """Tables of one line each: captions, and the pictures under them."""
    tables = []
    for start in range(0, len(pictures), _PICTURES_A_LINE):
        some = pictures[start : start + _PICTURES_A_LINE]
        captions = [escape(picture.caption) for picture in some]
        images = [f"![{caption}]({quote(picture.path)})" for caption, picture in zip(captions, some, strict=True)]
        lines = (captions, ["---"] * len(some), images)
        tables.append("\n".join(f"| {' | '.join(line)} |" for line in lines))
    return tables


def _bullets(notes: tuple[str, ...]) -> str:
    return "\n".join(f"- {_paragraph(note)}" for note in notes)


def _paragraph(text: str) -> str:
    """Escaped, and no list, quotation or heading whatever it begins with."""
    return re.sub(r"^([#+>=-]|[0-9]+(?=[.)]))", _guard, escape(text))


def _guard(found: re.Match[str]) -> str:
    return f"\\{found[0]}" if not found[0].isdigit() else f"{found[0]}\\"


def _table(table: Table) -> str:
    cells = [[escape(cell) for cell in row] for row in (table.columns, *table.rows)]
    widths = [max(3, *(len(row[index]) for row in cells)) for index in range(len(table.columns))]
    right = [column in table.numeric for column in table.columns]

    def line(row: list[str]) -> str:
        padded = (
            cell.rjust(width) if flag else cell.ljust(width)
            for cell, width, flag in zip(row, widths, right, strict=True)
        )
        return f"| {' | '.join(padded)} |"

    rule = [f"{'-' * (width - 1)}{':' if flag else '-'}" for width, flag in zip(widths, right, strict=True)]
    return "\n".join([line(cells[0]), line(rule), *(line(row) for row in cells[1:])])
