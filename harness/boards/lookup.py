"""Which rows a user means: by a run's name or its beginning, by a row's label, or by a model's name."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from harness.boards.comparison import NotComparable
from harness.boards.figures import PerImage
from harness.boards.row import BoardRow
from harness.boards.rows import rows_of
from harness.records.archive import Archive
from harness.records.record import RunRecord
from harness.suites.suite import Suite
from harness.support.names import did_you_mean


class NotFound(ValueError):
    """A name that is none of a run, a label or a model, or that is several; the message says what there is."""


@dataclass(frozen=True)
class Source:
    """Where rows are looked for: a suite's archive, an archive, or the store, by the name that messages say."""

    name: str
    rows: Sequence[BoardRow]
    records: Sequence[RunRecord]
    per_image: PerImage = field(default_factory=dict)

    @classmethod
    def of(cls, name: str, archive: Archive, suite: Suite | None = None) -> Source:
        """Returns the rows of an archive, as the suite has them if there is one."""
        rows = rows_of(archive.records, suite, per_image=archive.per_image)
        return cls(name, [row for row in rows if row.records], archive.records, archive.per_image)


class Side(NamedTuple):
    """One of the two: a row, and where it was found. A single run is a row whose label is the run's name."""

    row: BoardRow
    source: str


def find_pair(
    a: str, b: str, sources_a: Sequence[Source], sources_b: Sequence[Source], *, dataset: str | None = None
) -> list[tuple[Side, Side]]:
    """Returns the two rows that are meant, on each dataset that both are on.

    A name is first taken as a run or a label, then as a model, then as the beginning of a run's name or a label. A name
    that several sources know means the one in the source where the other name is found too. A name that is unknown, or
    that several rows have, is ``NotFound``.
    """
    found_a, found_b = _find(a, sources_a, dataset), _find(b, sources_b, dataset)
    common = {side.source for side in found_a} & {side.source for side in found_b}
    if len(common) == 1:
        found_a, found_b = ([side for side in found if side.source in common] for found in (found_a, found_b))
    of_a, of_b = _only(a, found_a), _only(b, found_b)
    every = [(side, other) for side in of_a.values() for other in of_b.values()]
    by_name = [(side, other) for side, other in every if side.row.dataset == other.row.dataset]
    if pairs := by_name or [it for it in every if it[0].row.dataset_digests == it[1].row.dataset_digests]:
        return pairs
    datasets_a, datasets_b = (", ".join(map(repr, sides)) for sides in (of_a, of_b))
    raise NotComparable(f"{a!r} is scored on {datasets_a}, {b!r} on {datasets_b}: different data do not compare")


def _only(name: str, sides: Sequence[Side]) -> dict[str, Side]:
    """The one row, on each of its datasets."""
    labels = list(dict.fromkeys(side.row.label for side in sides))
    if len(labels) > 1:
        are_runs = all(any(record.run == side.row.label for record in side.row.records) for side in sides)
        shown = ", ".join(map(repr, labels[:6])) + (", ..." if len(labels) > 6 else "")
        raise NotFound(f"{name!r} may be any of {len(labels)} {'runs' if are_runs else 'rows'}: {shown}")
    sources = dict.fromkeys(side.source for side in sides)
    if len(sources) > 1:
        raise NotFound(f"{name!r} is in {' and in '.join(sources)}: choose with --suite or --dataset")
    return {side.row.dataset: side for side in sides}


def _find(name: str, sources: Sequence[Source], dataset: str | None) -> list[Side]:
    """The rows of the first way of reading a name that finds any."""
    if not name:
        raise NotFound("a name is empty: name a run, a row's label or a model")
    rows = [Side(row, source.name) for source in sources for row in source.rows]
    ways = (
        [*_runs(sources, lambda run: run == name), *(side for side in rows if side.row.label == name)],
        [side for side in rows if side.row.model == name],
        [*_runs(sources, lambda run: run.startswith(name)), *(it for it in rows if it.row.label.startswith(name))],
    )
    found = next((sides for sides in ways if sides), [])
    if found:
        datasets = {side.row.dataset for side in found}
        if dataset is not None and dataset not in datasets:
            raise NotFound(f"{name!r} is not scored on {dataset!r}{did_you_mean(dataset, datasets)}")
        return [side for side in found if dataset in (None, side.row.dataset)]
    known = {text for side in rows for text in (side.row.label, side.row.model)}
    known |= {record.run for source in sources for record in source.records}
    where = ", ".join(source.name for source in sources) or "no archive and no store"
    hint = did_you_mean(name, known) if known else ""
    hint = hint if len(hint) <= 300 else f"{hint[:300].rpartition(',')[0]}, ...)"
    raise NotFound(f"no run, row or model {name!r} in {where}{hint}")


def _runs(sources: Sequence[Source], is_wanted: Callable[[str], bool]) -> list[Side]:
    """Single runs as rows; one that several sources hold is taken from the first."""
    found: dict[tuple[str, str], Side] = {}
    for source in sources:
        for record in source.records:
            if is_wanted(record.run) and (record.run, record.key) not in found:
                [row] = rows_of([record], per_image=source.per_image)
                found[record.run, record.key] = Side(replace(row, label=record.run), source.name)
    return list(found.values())
