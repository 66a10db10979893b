"""The board of the zoo: every name of the lecture's list, with the row that stands for it, or why there is none."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from importlib.resources import files
from typing import Any

from harness import Board, BoardRow, Cell, Column, Rows

_TITLES = {"lecture": "On the lecture's list", "others": "Others of their kind"}
_TEXT = {"": "string"}


@dataclass(frozen=True)
class Entry:
    """A name of ``zoo.toml``, which says what the fields mean: either ``rows`` or ``not_built`` says something."""

    name: str
    arxiv: str
    kind: str
    rows: tuple[str, ...] = ()
    not_built: str = ""

    @property
    def labels(self) -> tuple[str, ...]:
        """What its lines of the board are called."""
        return self.rows or (self.name,)


@cache
def read_zoo() -> dict[str, list[Entry]]:
    """Returns the entries of ``zoo.toml`` in its order: those of the ``lecture``'s list, and ``others``."""
    content = tomllib.loads(files("harness_zoo").joinpath("zoo.toml").read_text(encoding="utf-8"))
    return {
        part: [Entry(name, **{**said, "rows": tuple(said.get("rows", ()))}) for name, said in names.items()]
        for part, names in content.items()
    }


@cache
def _by_label() -> dict[str, Entry]:
    return {label: entry for entries in read_zoo().values() for entry in entries for label in entry.labels}


def _entry(row: BoardRow) -> Entry:
    """What a row stands for; such as real images stand for no name."""
    return _by_label().get(row.label, Entry("", "–", "–"))


class Zoo(Board):
    """All names of the lecture's list, one that no model stands for too, and then others."""

    name = "zoo"
    title = "the zoo, by name"
    is_ranked = False
    shows = frozenset({"seeds", "parameters", "training"})
    reading = """
    The names of the GAN zoo on two slides of Courville's lecture (2017), sorted, each with what stands for it here, or
    why nothing does. A name that covers several games has a line for each. Rows are neither sorted by their figure nor
    ranked; the board of sample quality does that.

    Kind is what a paper changes: the objective of the game, the networks' architecture, what a generator is
    conditional on, whether latents are inferred, labels that a few images have, an ensemble of players; or where it is
    from, if not from the generation of images: from the transfer between domains, or from another domain.
    """

    def stands(self, rows: Rows) -> bool:
        """Whether the suite has a row for every name that was built."""
        return {label for label, entry in _by_label().items() if entry.rows} <= {row.label for row in rows}

    def columns(self, rows: Rows) -> Sequence[Column]:
        """The paper, its kind, what stands for it, and the figure of the suite's first metric."""
        common = _common(rows)
        return [
            Column("kind", "Kind", style="text", parts=_TEXT, cell=lambda row: Cell(_entry(row).kind)),
            Column("arxiv", "arXiv", style="text", parts=_TEXT, cell=lambda row: Cell(_entry(row).arxiv)),
            Column("here", "Here", style="text", parts=_TEXT, cell=lambda row: _here(row, common), required=False),
            *(rows.column(metric, decimals=(2, 4), required=False) for metric in rows.metrics[:1]),
        ]

    def lead(self, rows: Rows) -> str:
        """What most rows have in common."""
        return f"Where nothing else is said: {_settings(common)}." if (common := _common(rows)) else ""

    def ranked_by(self, columns: Sequence[Column], rows: Rows) -> Column | None:
        """Nothing: the order is the list's."""
        return None

    def parts(self, rows: Rows) -> Sequence[tuple[str, Mapping[str, str], Rows]]:
        """The lecture's list, and the others, with such rows of the suite as have no name."""
        ours, [dataset] = {row.label: row for row in rows}, rows.datasets
        labels = {part: [label for it in entries for label in it.labels] for part, entries in read_zoo().items()}
        labels["others"] += [label for label in ours if label not in _by_label()]
        none = BoardRow("", dataset, "", (), ())
        items = {part: tuple(ours.get(it) or replace(none, label=it) for it in of) for part, of in labels.items()}
        return [(_TITLES[part], {"list": part}, replace(rows, items=of)) for part, of in items.items()]


def _common(rows: Rows) -> dict[str, Any]:
    """The hyperparameters that most rows set, and set alike."""
    asked = [tuple(row.records[0].spec.hyperparameters.items()) for row in rows if row.records]
    found = {name: value for of_row in asked for name, value in of_row}
    return {name: value for name, value in found.items() if 2 * sum((name, value) in it for it in asked) > len(asked)}


def _here(row: BoardRow, common: Mapping[str, Any]) -> Cell:
    """The model and what it sets; or why there is none."""
    if not row.model:
        return Cell(f"not built: {_entry(row).not_built}")
    asked = row.records[0].spec.hyperparameters if row.records else {}
    own = {name: value for name, value in asked.items() if common.get(name) != value}
    return Cell("; ".join(filter(None, [row.model, _settings(own)])))


def _settings(hyperparameters: Mapping[str, Any]) -> str:
    return ", ".join(f"{name}={value}" for name, value in sorted(hyperparameters.items()))
