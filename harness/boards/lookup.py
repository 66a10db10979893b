"""Which rows a user means: by a run's name or its beginning, by a row's label, or by a model's name."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from harness.boards.comparison import NotComparable, Side
from harness.boards.figures import PerImage
from harness.boards.rows import BoardRow, rows_of
from harness.records.record import RunRecord
from harness.support.names import did_you_mean


class NotFound(ValueError):
    """A name that is none of a run, a label or a model, or that is several; the message says what there is."""


@dataclass(frozen=True)
class Source:
    """Where rows are looked for: a suite's archive, an archive, or the store.

    Attributes:
        name: as messages say it.
        rows: those of its board.
        records: those of all its runs.
        per_image: scores per image by their names in the records.
    """

    name: str
    rows: tuple[BoardRow, ...]
    records: tuple[RunRecord, ...]
    per_image: PerImage = field(default_factory=dict)


@dataclass(frozen=True)
class _Match:
    source: Source
    label: str
    rows: Mapping[str, BoardRow]  # by dataset


def find_pair(
    a: str, b: str, sources_a: Sequence[Source], sources_b: Sequence[Source], *, dataset: str | None = None
) -> list[tuple[Side, Side]]:
    """Returns the two rows that are meant, on each dataset that both are on.

    A name is first taken as a run or a label, then as a model, then as the beginning of a run's name or a label. A name
    that several sources know means the one in the source where the other name is found too.

    Raises:
        NotFound: an unknown name, or one that several rows or runs have.
        NotComparable: the two share no dataset.
    """
    found_a, found_b = _find(a, sources_a, dataset), _find(b, sources_b, dataset)
    common = [name for name in _sources_of(found_a) if name in _sources_of(found_b)]
    if len(common) == 1:
        found_a = [match for match in found_a if match.source.name in common]
        found_b = [match for match in found_b if match.source.name in common]
    match_a, match_b = _only(a, found_a), _only(b, found_b)
    datasets = [name for name in match_a.rows if name in match_b.rows]
    if not datasets:
        raise NotComparable(
            f"{a!r} is scored on {', '.join(map(repr, match_a.rows))}, {b!r} on {', '.join(map(repr, match_b.rows))}: "
            "different data do not compare"
        )
    return [(_side(match_a, name), _side(match_b, name)) for name in datasets]


def _side(match: _Match, dataset: str) -> Side:
    return Side(match.rows[dataset], match.source.name)


def _sources_of(matches: Iterable[_Match]) -> list[str]:
    return list(dict.fromkeys(match.source.name for match in matches))


def _only(name: str, matches: Sequence[_Match]) -> _Match:
    if len(matches) == 1:
        return matches[0]
    labels = list(dict.fromkeys(match.label for match in matches))
    sources = _sources_of(matches)
    if len(labels) > 1:
        kind = "runs" if all(_is_run(match) for match in matches) else "rows"
        shown = ", ".join(map(repr, labels[:6])) + (", ..." if len(labels) > 6 else "")
        raise NotFound(f"{name!r} may be any of {len(labels)} {kind}: {shown}")
    raise NotFound(f"{name!r} is in {' and in '.join(sources)}: choose with --suite or --dataset")


def _is_run(match: _Match) -> bool:
    return any(record.run == match.label for row in match.rows.values() for record in row.records)


def _find(name: str, sources: Sequence[Source], dataset: str | None) -> list[_Match]:
    """The matches of the first way of reading a name that finds any."""
    if not name:
        raise NotFound("a name is empty: name a run, a row's label or a model")
    ways = (
        [*_runs(sources, lambda run: run == name), *_rows(sources, lambda row: row.label == name)],
        _rows(sources, lambda row: row.model == name),
        [*_runs(sources, lambda run: run.startswith(name)), *_rows(sources, lambda row: row.label.startswith(name))],
    )
    for matches in ways:
        if dataset is not None and matches:
            datasets = {own for match in matches for own in match.rows}
            if dataset not in datasets:
                raise NotFound(f"{name!r} is not scored on {dataset!r}{did_you_mean(dataset, datasets)}")
            return [
                _Match(match.source, match.label, {dataset: match.rows[dataset]})
                for match in matches
                if dataset in match.rows
            ]
        if matches:
            return matches
    known = {text for source in sources for row in source.rows for text in (row.label, row.model)}
    known |= {record.run for source in sources for record in source.records}
    where = ", ".join(source.name for source in sources) or "no archive and no store"
    hint = did_you_mean(name, known) if known else ""
    raise NotFound(f"no run, row or model {name!r} in {where}{_shorten(hint)}")


def _shorten(hint: str, limit: int = 300) -> str:
    return hint if len(hint) <= limit else f"{hint[:limit].rpartition(',')[0]}, ...)"


def _rows(sources: Sequence[Source], wanted: Callable[[BoardRow], bool]) -> list[_Match]:
    matches = []
    for source in sources:
        by_label: dict[str, dict[str, BoardRow]] = {}
        for row in source.rows:
            if wanted(row):
                by_label.setdefault(row.label, {})[row.dataset] = row
        matches += [_Match(source, label, rows) for label, rows in by_label.items()]
    return matches


def _runs(sources: Sequence[Source], wanted: Callable[[str], bool]) -> list[_Match]:
    """Single runs as rows; one that several sources hold is taken from the first."""
    matches: dict[tuple[str, str], _Match] = {}
    for source in sources:
        for record in source.records:
            if wanted(record.run):
                [row] = rows_of([record], per_image=source.per_image)
                row = replace(row, label=record.run)
                matches.setdefault((record.run, record.key), _Match(source, record.run, {row.dataset: row}))
    return list(matches.values())
