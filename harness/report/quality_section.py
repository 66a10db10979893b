"""The sample-quality board in words and printed cells: one section a dataset."""

from __future__ import annotations

import math
import statistics
from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING

from harness.boards.published import PublishedFigure
from harness.report.audits import audit_notes
from harness.report.cells import label_cell, missing_section, parameters_cell, split_words, training_cell
from harness.report.pictures import pictures_of
from harness.report.rows import one_line
from harness.report.sample_quality import (
    Group,
    QualityBoard,
    QualityEntry,
    QualityFigure,
    halves_of,
    missing_seeds,
    published_elsewhere,
)
from harness.report.values import NOTHING, Section, Table, count, fixed, interval, uncertainty, with_spread

if TYPE_CHECKING:
    from harness.boards.leaderboard import Leaderboard

_KID_SCALE = 1000
_DECIMALS = (2, 4)
_PUBLISHED_NAMES = {"fid": "FID", "inception-score": "Inception score"}
REFERENCES = "Floors and ceilings"


def quality_section(leaderboard: Leaderboard, dataset: str, pictures: Collection[str] = ()) -> Section:
    """Returns the section of a dataset; ``pictures`` are the names of the sample grids that there are."""
    board = leaderboard.sample_quality(dataset)
    headers = group_headers(board.groups)
    decimals = {group: _decimals(board, group) for group in board.groups}
    notes: list[str] = []
    if board.by is not None and board.ranks.intervals:
        notes.append(f"Ranked by {headers[board.by].removesuffix(' ↓')}. {board.ranks.sentence}")
    notes += [
        f"{headers[group].removesuffix(' ↓')}: {group.metric}; {group.words or 'no protocol stated'}."
        for group in board.groups
    ]
    notes += audit_notes([(entry.row.label, entry.row.audit) for entry in board.entries])
    parts = [
        *_references(board, headers, decimals),
        *missing_section(leaderboard, "sample-quality", dataset),
        *_published(board, dataset, leaderboard.published),
        *_samples(leaderboard, dataset, pictures),
    ]
    shown = board.entries or board.references
    lead = split_words(leaderboard, dataset) if shown else "No row has a figure of sample quality yet."
    return Section(dataset, lead, _table(board, board.entries, headers, decimals), tuple(notes), tuple(parts))


def group_headers(groups: Sequence[Group]) -> dict[Group, str]:
    """Returns the heads of columns: metric and features, and whatever else of the protocols sets them apart."""
    bases: dict[str, list[Group]] = {}
    for group in groups:
        bases.setdefault(_base(group), []).append(group)
    headers = {}
    for base, alike in bases.items():
        protocols = [dict(group.protocol) for group in alike]
        keys = dict.fromkeys(key for protocol in protocols for key in protocol)
        differing = [key for key in keys if len({protocol.get(key) for protocol in protocols}) > 1]
        for group, protocol in zip(alike, protocols, strict=True):
            words = [f"{key} {protocol.get(key, 'not stated')}" for key in differing]
            words += [group.metric] if len({other.metric for other in alike}) > 1 else []
            headers[group] = f"{', '.join([base, *words])} ↓"
    return headers


def _base(group: Group) -> str:
    kind, _, network = group.metric.partition("-")
    features = dict(group.protocol).get("features", network)
    name, _, size = features.partition(", ")
    words = f"{name} ({size})" if size else name
    title = f"KID × {_KID_SCALE:,}" if kind == "kid" else kind.upper()
    return f"{title}, {words}" if words else title


def _scale(group: Group) -> int:
    return _KID_SCALE if group.metric.startswith("kid") else 1


def _spread(figure: QualityFigure) -> float | None:
    return figure.standard_error if figure.standard_deviation is None else figure.standard_deviation


def _decimals(board: QualityBoard, group: Group) -> int:
    """So many that a middling spread has two digits, within limits; one number of decimals a column."""
    figures = [entry.figures[group] for entry in (*board.entries, *board.references) if group in entry.figures]
    spreads = [spread for figure in figures if (spread := _spread(figure))]
    if not spreads:
        return _DECIMALS[1]
    digits = 1 - math.floor(math.log10(statistics.median(spreads) * _scale(group)))
    return min(max(digits, _DECIMALS[0]), _DECIMALS[1])


def _figure_cell(figure: QualityFigure | None, group: Group, decimals: int, num_seeds: int) -> str:
    """Mean and standard deviation over seeds; of one seed, the standard error of resampling in brackets."""
    if figure is None:
        return NOTHING
    scale, deviation = _scale(group), figure.standard_deviation
    error = figure.standard_error if deviation is None else None
    text = with_spread(
        scale * figure.mean,
        None if deviation is None else scale * deviation,
        None if error is None else scale * error,
        decimals,
    )
    number = len(figure.seeds)
    return text if number == num_seeds else f"{text}, {number} seed{'' if number == 1 else 's'}"


def _seeds_cell(entry: QualityEntry, board: QualityBoard) -> tuple[str, int]:
    """How many seeds, of how many, and why not all; of the column ranked by, or else of the fullest."""
    group = board.by
    if group is None or group not in entry.figures:
        group = max(entry.figures, key=lambda key: len(entry.figures[key].seeds))
    number, planned = len(entry.figures[group].seeds), len(entry.row.seeds)
    if number == planned:
        return str(number), number
    why = one_line(missing_seeds(entry.row, group, entry.figures[group]), 120)
    return f"{number} of {planned} seeds; {why}", number


def _table(
    board: QualityBoard, entries: Sequence[QualityEntry], headers: Mapping[Group, str], decimals: Mapping[Group, int]
) -> Table | None:
    audited = any(entry.row.role == "model" for entry in entries)
    rows = []
    for entry in entries:
        seeds, number = _seeds_cell(entry, board)
        values = entry.row.training
        rows.append(
            (
                NOTHING if entry.rank is None else interval(entry.rank.best, entry.rank.worst),
                label_cell(entry.row),
                *(_figure_cell(entry.figures.get(group), group, decimals[group], number) for group in board.groups),
                *[entry.row.audit.cell] * audited,
                seeds,
                parameters_cell(values["parameters_sampling"], values["parameters_training"]),
                training_cell(entry.row),
            )
        )
    heads = (headers[group] for group in board.groups)
    columns = ("Rank", "Model", *heads, *["Audit"] * audited, "Seeds", "Parameters", "Training")
    return Table(columns, tuple(rows), frozenset({*headers.values(), "Parameters"})) if rows else None


def _references(
    board: QualityBoard, headers: Mapping[Group, str], decimals: Mapping[Group, int]
) -> tuple[Section, ...]:
    """Reference rows, and what two halves of the reference images give at their size, a line a column."""
    notes = []
    for group in board.groups:
        figures = [entry.figures[group] for entry in (*board.entries, *board.references) if group in entry.figures]
        halves = halves_of(score for figure in figures for score in figure.scores)
        if halves is not None:
            of = "" if halves.num_images is None else f" of {count(halves.num_images)} images each"
            mean, low, high = (
                fixed(_scale(group) * value, decimals[group]) for value in (halves.mean, halves.low, halves.high)
            )
            name = headers[group].removesuffix(" ↓")
            notes.append(f"{name}: two halves of the reference{of} give {mean} ({low} to {high}).")
    table = _table(board, board.references, headers, decimals)
    if table is None and not notes:
        return ()
    lead = "Not ranked: what the figures are to be read against." if table is not None else ""
    return (Section(REFERENCES, lead, table, tuple(notes)),)


def _published(
    board: QualityBoard, dataset: str, published: Mapping[str, PublishedFigure] | None
) -> tuple[Section, ...]:
    found = published_elsewhere(board, dataset, published)
    rows = []
    for figure, labels in found:
        decimals = len(figure.printed.partition(".")[2])
        spread = figure.standard_deviation
        facts = [figure.source, f"arXiv {figure.arxiv}" if figure.arxiv else None,
                 None if figure.verified else "unverified"]  # fmt: skip
        rows.append(
            (
                figure.label,
                _PUBLISHED_NAMES[figure.metric],
                fixed(figure.value, decimals) + (f" ± {uncertainty(spread, decimals)}" if spread else ""),
                figure.protocol or "not recorded",
                "; ".join(labels) or NOTHING,
                f"{', '.join(fact for fact in facts if fact)} [{' '.join(figure.tags)}]",
            )
        )
    columns = ("Published as", "Metric", "Figure", "Protocol", "Row here", "Source")
    lead = "Of other features, or of other numbers of images: none of these compares with a column above."
    table = Table(columns, tuple(rows), frozenset({"Figure"}))
    return (Section("Published elsewhere, not comparable", lead, table),) if rows else ()


def _samples(leaderboard: Leaderboard, dataset: str, files: Collection[str]) -> tuple[Section, ...]:
    pictures = pictures_of(leaderboard.rows, dataset, files)
    lead = "The first samples of each row, in the order drawn; none is chosen."
    return (Section("Samples", lead, None, pictures=pictures),) if pictures else ()
