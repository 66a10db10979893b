"""A page of tables: sections with notes, what is folded, and pictures; for whatever format writes them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from harness.boards.table import Table


@dataclass(frozen=True)
class Picture:
    """An image file beside the document, and what stands above it."""

    caption: str
    path: str


@dataclass(frozen=True)
class Section:
    """A titled table with notes and pictures under it; ``lead`` stands above it, ``folded`` opens if it is asked to."""

    title: str
    lead: str
    table: Table | None
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
