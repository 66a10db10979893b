"""The sample-quality board: FID, KID and their like; figures whose protocol differs never share a column."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from harness.boards.published import PublishedFigure
from harness.boards.statistics import RankInterval
from harness.records.record import FAILURES, RunRecord, ScoreRecord
from harness.report.audits import AUDIT_COLUMNS
from harness.report.rows import BoardRow
from harness.report.seed_ranking import Replicates, SeedRanks, rank_replicates

_METRIC = re.compile(r"(fid|kid)(-.+)?")
_PUBLISHED = ("fid", "inception-score")
_FIRST = {
    "dataset": "string", "rank_best": "Int64", "rank_worst": "Int64", "role": "string", "label": "string",
    "model": "string", "status": "string", **AUDIT_COLUMNS, "ranked_by": "string",
}  # fmt: skip
_GROUP = {
    "": "float64", "_sd": "float64", "_se": "float64", "_seeds": "Int64", "_halves": "float64",
    "_halves_low": "float64", "_halves_high": "float64", "_protocol": "string",
}  # fmt: skip
_LAST = {
    "seeds": "Int64", "seeds_planned": "Int64", "parameters_sampling": "Int64", "parameters_training": "Int64",
    "budget": "string", "fit_epochs": "float64", "fit_steps": "float64", "fit_seconds": "float64",
    "checkpoint": "string", "configurations_tried": "Int64", "tests_rest_on": "string", "problems": "string",
}  # fmt: skip


@dataclass(frozen=True)
class Group:
    """A column: figures of one metric and one protocol, which may be compared.

    Attributes:
        metric: its name.
        protocol: (key, value) pairs, sorted; all but the device.
    """

    metric: str
    protocol: tuple[tuple[str, str], ...]

    @property
    def words(self) -> str:
        """The protocol in words."""
        return "; ".join(f"{key}: {value}" for key, value in self.protocol)


@dataclass(frozen=True)
class Halves:
    """What two disjoint halves of the reference give at their size: the mean and 95 % of random splits."""

    mean: float
    low: float
    high: float
    num_images: float | None


@dataclass(frozen=True)
class QualityFigure:
    """A row's figures in one column: those of the seeds that have one, and of no other.

    Attributes:
        seeds: whose they are.
        scores: one a seed.
    """

    seeds: tuple[int, ...]
    scores: tuple[ScoreRecord, ...]

    @cached_property
    def values(self) -> npt.NDArray[np.float64]:
        """(S,), one a seed."""
        return np.array([score.value for score in self.scores], dtype=np.float64)

    @property
    def mean(self) -> float:
        """Over seeds."""
        return float(self.values.mean())

    @property
    def standard_deviation(self) -> float | None:
        """Over seeds; None for one."""
        return float(self.values.std(ddof=1)) if len(self.values) > 1 else None

    @property
    def standard_error(self) -> float | None:
        """Of the mean over seeds, by resampling; it says nothing of how trainings differ.

        The part of the samples falls with the number of seeds; that of the reference, which seeds share, does not. A
        metric that does not tell the parts apart gets none of that benefit.
        """
        number = len(self.scores)
        stated = [score.standard_error for score in self.scores]
        if number == 1 and stated[0] is not None:
            return stated[0]
        parts = [self._details(f"standard_error_{part}") for part in ("samples", "reference")]
        if all(len(part) == number for part in parts):
            return math.sqrt(_mean_square(parts[0]) / number + _mean_square(parts[1]))
        known = [error for error in stated if error is not None]
        return math.sqrt(_mean_square(known)) if len(known) == number else None

    @property
    def halves(self) -> Halves | None:
        """What two halves of the reference give."""
        return halves_of(self.scores)

    def _details(self, name: str) -> list[float]:
        return [score.details[name] for score in self.scores if name in score.details]


@dataclass(frozen=True)
class QualityEntry:
    """A row with its figures by column, and its rank; None for reference rows, and without the figure ranked by."""

    row: BoardRow
    figures: Mapping[Group, QualityFigure]
    rank: RankInterval | None = None

    @property
    def num_seeds(self) -> int:
        """How many seeds its fullest column has."""
        return max(len(figure.seeds) for figure in self.figures.values())


@dataclass(frozen=True)
class QualityBoard:
    """The board of one dataset.

    Attributes:
        groups: its columns: by metric in the suite's order, those of most rows first.
        by: the one that rows are ranked by; None if no row has a figure.
        entries: the rows, those with a rank first, in order.
        references: floors and ceilings, not ranked: by the same figure, in order.
        ranks: of the entries that have one.
    """

    groups: tuple[Group, ...]
    by: Group | None
    entries: tuple[QualityEntry, ...]
    references: tuple[QualityEntry, ...]
    ranks: SeedRanks


def is_sample_quality(metric: str) -> bool:
    """Tells whether a metric compares samples with real images: a Fréchet or a kernel distance of features."""
    return _METRIC.fullmatch(metric) is not None


def group_of(score: ScoreRecord) -> Group:
    """Returns the column that a figure belongs in."""
    return Group(score.metric, tuple(sorted((key, words) for key, words in score.protocol.items() if key != "device")))


def quality_board(rows: Sequence[BoardRow], metrics: Sequence[str]) -> QualityBoard:
    """Makes the board of one dataset from its rows; ``metrics`` are those of the suite, in its order.

    A model that fails a check on which its samples rest is listed, and not ranked.
    """
    found = [entry for row in rows if (entry := _entry(row, metrics)).figures]
    models = [entry for entry in found if entry.row.role == "model"]
    references = [entry for entry in found if entry.row.role != "model"]
    groups = _groups(models, references, metrics)
    scored = {group for entry in models or references for group in entry.figures}
    by = next((group for group in groups if group in scored), None)
    if by is None:
        return QualityBoard((), None, (), (), SeedRanks())
    ranked = [entry for entry in models if by in entry.figures and not entry.row.audit.fails_on_samples]
    ranks = rank_replicates(
        [Replicates(entry.figures[by].values, entry.figures[by].standard_error) for entry in ranked]
    )
    order = sorted(range(len(ranked)), key=lambda k: (ranks.intervals[k].best, ranked[k].figures[by].mean))
    intervals = tuple(ranks.intervals[k] for k in order)
    entries = [QualityEntry(ranked[k].row, ranked[k].figures, ranks.intervals[k]) for k in order]
    entries += [entry for entry in models if by not in entry.figures and not entry.row.audit.fails_on_samples]
    entries += [entry for entry in models if entry.row.audit.fails_on_samples]
    references.sort(key=lambda entry: entry.figures[by].mean if by in entry.figures else math.inf)
    return QualityBoard(
        tuple(groups), by, tuple(entries), tuple(references),
        SeedRanks(intervals, ranks.bases, ranks.num_pairs, ranks.untested),
    )  # fmt: skip


def _entry(row: BoardRow, metrics: Sequence[str]) -> QualityEntry:
    found: dict[Group, list[tuple[RunRecord, ScoreRecord]]] = {}
    for metric in metrics:
        if is_sample_quality(metric):
            for record, score in row.scores(metric):
                found.setdefault(group_of(score), []).append((record, score))
    return QualityEntry(
        row,
        {
            group: QualityFigure(tuple(record.spec.seed for record, _ in pairs), tuple(score for _, score in pairs))
            for group, pairs in found.items()
        },
    )


def _groups(models: Iterable[QualityEntry], references: Iterable[QualityEntry], metrics: Sequence[str]) -> list[Group]:
    """By metric, then by the number of rows that have it: reference rows count where models are equal."""
    sizes: dict[Group, tuple[int, int]] = {}
    for index, entries in enumerate((models, references)):
        for entry in entries:
            for group in entry.figures:
                counted = sizes.get(group, (0, 0))
                sizes[group] = (counted[0] + (index == 0), counted[1] + (index == 1))
    places = {metric: place for place, metric in enumerate(metrics)}
    return sorted(sizes, key=lambda group: (places[group.metric], -sizes[group][0], -sizes[group][1], group.protocol))


def halves_of(scores: Iterable[ScoreRecord]) -> Halves | None:
    """Returns what two halves of the reference give, by all figures that say so; None if none does."""
    found = [score.details for score in scores if {"halves", "halves_low", "halves_high"} <= score.details.keys()]
    if not found:
        return None
    return Halves(
        math.fsum(details["halves"] for details in found) / len(found),
        min(details["halves_low"] for details in found),
        max(details["halves_high"] for details in found),
        found[0].get("halves_images"),
    )


def missing_seeds(row: BoardRow, group: Group, figure: QualityFigure | None) -> str:
    """Says in words why seeds of a row have no figure in a column; empty if none is missing."""
    records = {record.spec.seed: record for record in row.records}
    have = set() if figure is None else set(figure.seeds)
    causes: dict[str, list[str]] = {}
    for seed in row.seeds:
        if seed not in have:
            status, message = _cause(records.get(seed), group)
            causes.setdefault(status, []).append(message)
    messages = {message for found in causes.values() for message in found if message}
    words = ", ".join(f"{len(found)} {status}" for status, found in causes.items())
    return f"{words}: {messages.pop()}" if len(messages) == 1 and len(causes) == 1 else words


def _cause(record: RunRecord | None, group: Group) -> tuple[str, str]:
    if record is None:
        return "not run", ""
    score = record.scores.get(group.metric)
    if score is not None and score.status != "done":
        return score.status, "" if score.failure is None else " ".join(score.failure.message.split())
    if score is not None and score.value is not None:
        return "of another protocol", ""
    if record.failure is not None:
        status = record.status if record.status in FAILURES else record.failure.status
        return status, " ".join(record.failure.message.split())
    return ("not scored" if record.status == "done" else record.status), ""


def published_elsewhere(
    board: QualityBoard, dataset: str, published: Mapping[str, PublishedFigure] | None
) -> list[tuple[PublishedFigure, list[str]]]:
    """Returns published figures of sample quality, with the labels of the rows that name them.

    Those of this dataset, and those that a row names. None is of a protocol that is ours: they are of the Inception
    network's features, with numbers of samples of their own.
    """
    if published is None or not (board.entries or board.references):
        return []
    named: dict[str, list[str]] = {}
    for entry in (*board.entries, *board.references):
        if entry.row.published is not None:
            named.setdefault(entry.row.published, []).append(entry.row.label)
    return [
        (figure, named.get(slug, []))
        for slug, figure in published.items()
        if figure.metric in _PUBLISHED and (figure.dataset == dataset or slug in named)
    ]


def column_names(groups: Iterable[Group], metrics: Sequence[str]) -> dict[Group, str]:
    """Returns the columns' names in tables: ``fid_lenet``, and ``fid_lenet__2`` for a second protocol of it."""
    numbers = dict.fromkeys(metrics, 0)
    names: dict[Group, str] = {}
    for group in groups:
        if group not in names:
            numbers[group.metric] += 1
            number = numbers[group.metric]
            names[group] = _name(group.metric) + (f"__{number}" if number > 1 else "")
    return names


def quality_columns(names: Mapping[Group, str], metrics: Sequence[str]) -> dict[str, str]:
    """Returns the columns and their types: for each metric of the suite at least one set, for each protocol one."""
    sets: list[str] = []
    for metric in metrics:
        if is_sample_quality(metric):
            sets += [name for group, name in names.items() if group.metric == metric] or [_name(metric)]
    return {**_FIRST, **{f"{name}{end}": kind for name in sets for end, kind in _GROUP.items()}, **_LAST}


def quality_values(entry: QualityEntry, board: QualityBoard, names: Mapping[Group, str]) -> dict[str, Any]:
    """Returns the cells of ``quality_columns`` that a row's own records give."""
    values: dict[str, Any] = {"role": entry.row.role, "seeds": entry.num_seeds, **entry.row.training}
    if entry.row.role == "model":
        values |= entry.row.audit.values
    if board.by is not None:
        values["ranked_by"] = names[board.by]
        if board.by in entry.figures:
            values["seeds"] = len(entry.figures[board.by].seeds)
    for group, figure in entry.figures.items():
        name, halves = names[group], figure.halves
        values |= {
            name: figure.mean, f"{name}_sd": figure.standard_deviation, f"{name}_se": figure.standard_error,
            f"{name}_seeds": len(figure.seeds), f"{name}_protocol": group.words,
        }  # fmt: skip
        if halves is not None:
            values |= {
                f"{name}_halves": halves.mean, f"{name}_halves_low": halves.low, f"{name}_halves_high": halves.high
            }  # fmt: skip
    return values


def _name(metric: str) -> str:
    return metric.replace("-", "_")


def _mean_square(values: Sequence[float]) -> float:
    return math.fsum(value * value for value in values) / len(values)
