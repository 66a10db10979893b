"""Leaderboard: from records, and from nothing else, to ranked tables."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, Literal, Self

import pandas as pd

from harness.boards.published import PublishedFigure
from harness.boards.statistics import RankInterval
from harness.records.archive import read_archive
from harness.records.record import RunRecord
from harness.report import check_boards, write_boards
from harness.report.bounds import BoundsEntry, bounds_columns, bounds_entries, bounds_values
from harness.report.likelihood import (
    BOUND,
    LIKELIHOOD_COLUMNS,
    LikelihoodEntry,
    is_likelihood,
    likelihood_entries,
    likelihood_values,
)
from harness.report.ranking import Ranks
from harness.report.rows import BoardRow, PerImage, Problem, rows_of, status_of
from harness.report.sample_quality import (
    Group,
    QualityBoard,
    column_names,
    is_sample_quality,
    quality_board,
    quality_columns,
    quality_values,
)
from harness.report.seed_ranking import SeedRanks
from harness.report.throughput import (
    SPEEDS,
    THROUGHPUT_COLUMNS,
    ThroughputEntry,
    fingerprints,
    throughput_entries,
    throughput_values,
)
from harness.suites.suite import Suite

__all__ = ["BOARDS", "Board", "Leaderboard", "Missing", "check_boards", "write_boards"]

Board = Literal["likelihood", "bounds", "throughput", "sample-quality"]
BOARDS: tuple[Board, ...] = ("likelihood", "bounds", "throughput", "sample-quality")


@dataclass(frozen=True)
class Missing:
    """What a board has no figure of: the problems of a row, or that the metrics do not apply to its model."""

    row: BoardRow
    problems: tuple[Problem, ...]


class Leaderboard:
    """The boards of a suite, or of any records.

    >>> board = Leaderboard.read(Path("leaderboards/mnist-static"))  # doctest: +SKIP
    >>> board.table("likelihood", "mnist-static")  # doctest: +SKIP

    Args:
        records: of all runs, in any order, one for each identity.
        suite: gives the rows, their labels, order, seeds and published figures. Without one, a row is a model with its
            hyperparameters and budget.
        per_image: scores per image by their names in the records, as an archive has them; without them, tests rest on
            seeds alone.
        published: figures by slug, as ``harness.boards.published.load_published`` gives them.

    Raises:
        ValueError: two different records of one identity.
    """

    def __init__(
        self,
        records: Iterable[RunRecord],
        suite: Suite | None = None,
        *,
        per_image: PerImage | None = None,
        published: Mapping[str, PublishedFigure] | None = None,
    ) -> None:
        self.suite, self.per_image, self.published = suite, per_image or {}, published
        kept = list(records)
        self.rows = rows_of(kept, suite)
        self._spec_metrics = [record.spec.metrics for record in kept]
        self._likelihood = lru_cache(maxsize=None)(self._likelihood_of)
        self._bounds = lru_cache(maxsize=None)(self._bounds_of)
        self._quality = lru_cache(maxsize=None)(self._quality_of)

    @classmethod
    def read(
        cls, folder: Path, suite: Suite | None = None, *, published: Mapping[str, PublishedFigure] | None = None
    ) -> Self:
        """Makes the boards of an archive, see ``harness.records.archive.read_archive``."""
        archive = read_archive(folder)
        return cls(archive.records, suite, per_image=archive.per_image, published=published)

    @property
    def title(self) -> str:
        """The suite's title."""
        return "Leaderboard" if self.suite is None else self.suite.title

    @cached_property
    def metrics(self) -> tuple[str, ...]:
        """The suite's metrics in its order; those of all records, by name, without a suite."""
        if self.suite is not None:
            return self.suite.metrics
        return tuple(sorted({metric for metrics in self._spec_metrics for metric in metrics}, key=_natural))

    @cached_property
    def datasets(self) -> tuple[str, ...]:
        """The datasets in the suite's order."""
        return tuple(dict.fromkeys(row.dataset for row in self.rows))

    @cached_property
    def boards(self) -> tuple[Board, ...]:
        """The boards that the metrics have something to say on."""
        return tuple(board for board in BOARDS if self.board_metrics(board))

    def board_metrics(self, board: Board) -> list[str]:
        """Returns the metrics whose figures, or failures, belong on a board."""
        if board == "throughput":
            return [metric for metric in self.metrics if metric in SPEEDS]
        if board == "sample-quality":
            return [metric for metric in self.metrics if is_sample_quality(metric)]
        chosen = is_likelihood if board == "likelihood" else BOUND.fullmatch
        return [metric for metric in self.metrics if chosen(metric)]

    def dataset_rows(self, dataset: str) -> list[BoardRow]:
        """Returns the rows of a dataset.

        Raises:
            ValueError: there is no such dataset.
        """
        if dataset not in self.datasets:
            raise ValueError(f"no dataset {dataset!r} on this board: it has {', '.join(self.datasets) or 'none'}")
        return [row for row in self.rows if row.dataset == dataset]

    def likelihood(self, dataset: str) -> tuple[list[LikelihoodEntry], Ranks]:
        """Returns the ranked entries of the likelihood board, in order, and their ranks."""
        return self._likelihood(dataset)[0]

    def likelihood_unranked(self, dataset: str) -> list[LikelihoodEntry]:
        """Returns the rows of the likelihood board whose audit failed, which have no rank."""
        return self._likelihood(dataset)[1]

    def likelihood_references(self, dataset: str) -> list[LikelihoodEntry]:
        """Returns the reference rows of the likelihood board, which have no rank."""
        return self._likelihood(dataset)[2]

    def bounds(self, dataset: str) -> tuple[list[BoundsEntry], Ranks]:
        """Returns the entries of the bounds board, in order, and the ranks of those that have one.

        Rows whose audit failed are the last of them, and have none.
        """
        return self._bounds(dataset)[0]

    def bounds_references(self, dataset: str) -> list[BoundsEntry]:
        """Returns the reference rows of the bounds board, which have no rank."""
        return self._bounds(dataset)[1]

    def sample_quality(self, dataset: str) -> QualityBoard:
        """Returns the sample-quality board."""
        return self._quality(dataset)

    def throughput(self, dataset: str) -> list[tuple[str, str, list[ThroughputEntry]]]:
        """Returns (fingerprint, hardware, entries) for each machine."""
        rows = self.dataset_rows(dataset)
        found = fingerprints(rows)
        return [(name, words, throughput_entries(rows, name)) for name, words in found.items()]

    def missing(self, board: Board, dataset: str) -> list[Missing]:
        """Returns the rows that a board has no figure of, or not of all seeds, with the reasons."""
        metrics, shown = self.board_metrics(board), self._shown(board, dataset)
        found = []
        for row in self.dataset_rows(dataset):
            problems, on_board = tuple(row.problems(metrics)), row.label in shown
            # Speeds are measured on one seed, and a training that is fine shows which metrics do not apply: then other
            # seeds' failures say nothing about this board.
            if on_board if board == "throughput" else not on_board and row.has_finished:
                problems = tuple(problem for problem in problems if problem.metric is not None)
            if problems or not on_board:
                found.append(Missing(row, problems))
        return found

    def table(self, board: Board, dataset: str) -> pd.DataFrame:
        """Returns a board of a dataset in full precision: the rows with figures in order, then those without.

        Raises:
            ValueError: no such board or dataset; a figure that cannot be used.
        """
        if board not in BOARDS:
            raise ValueError(f"no board {board!r}: the boards are {', '.join(BOARDS)}")
        problems = {item.row.label: item.problems for item in self.missing(board, dataset)}
        lines: list[dict[str, Any]] = []
        for row, values in self._values(board, dataset):
            found = problems.get(row.label, ())
            lines.append({**_first(row), "status": "done", **values, "problems": _text(found)})
        shown = self._shown(board, dataset)
        for row in self.dataset_rows(dataset):
            if row.label not in shown:
                lines.append(
                    {
                        **_first(row),
                        "status": status_of(board, problems[row.label]),
                        "problems": _text(problems[row.label]),
                    }
                )
        columns = self.columns(board)
        frame = pd.DataFrame(
            [[line.get(name) for name in columns] for line in lines], columns=list(columns), dtype="object"
        )
        return frame.astype(columns)

    def columns(self, board: Board) -> dict[str, str]:
        """Returns the names and types of a board's columns."""
        if board == "bounds":
            return bounds_columns(self.metrics)
        if board == "sample-quality":
            return quality_columns(self._quality_names, self.metrics)
        return LIKELIHOOD_COLUMNS if board == "likelihood" else THROUGHPUT_COLUMNS

    @cached_property
    def _quality_names(self) -> dict[Group, str]:
        """The names of the sample-quality board's columns: over all datasets, of which each has its own protocols."""
        groups = [group for dataset in self.datasets for group in self.sample_quality(dataset).groups]
        return column_names(groups, self.metrics)

    def _values(self, board: Board, dataset: str) -> list[tuple[BoardRow, dict[str, Any]]]:
        if board == "likelihood":
            entries, ranks = self.likelihood(dataset)
            ranked = [(entry, _rank(place, ranks)) for entry, place in zip(entries, ranks.intervals, strict=True)]
            without = (*self.likelihood_unranked(dataset), *self.likelihood_references(dataset))
            others = [(entry, _rank(None, ranks)) for entry in without]
            return [(entry.row, {**place, **likelihood_values(entry)}) for entry, place in (*ranked, *others)]
        if board == "bounds":
            bounded, ranks = self.bounds(dataset)
            return [
                (entry.row, {**_rank(entry.rank, ranks), **bounds_values(entry, self.metrics)})
                for entry in (*bounded, *self.bounds_references(dataset))
            ]
        if board == "sample-quality":
            quality = self.sample_quality(dataset)
            return [
                (entry.row, {**_rank(entry.rank, quality.ranks), **quality_values(entry, quality, self._quality_names)})
                for entry in (*quality.entries, *quality.references)
            ]
        return [
            (entry.row, {"fingerprint": name, "hardware": words, **throughput_values(entry)})
            for name, words, entries in self.throughput(dataset)
            for entry in entries
        ]

    def _shown(self, board: Board, dataset: str) -> set[str]:
        if board == "likelihood":
            return {entry.row.label for entries in self._likelihood_entries(dataset) for entry in entries}
        if board == "bounds":
            return {item.row.label for item in (*self.bounds(dataset)[0], *self.bounds_references(dataset))}
        if board == "sample-quality":
            quality = self.sample_quality(dataset)
            return {item.row.label for item in (*quality.entries, *quality.references)}
        return {entry.row.label for _, _, entries in self.throughput(dataset) for entry in entries}

    def _likelihood_entries(self, dataset: str) -> tuple[list[LikelihoodEntry], ...]:
        return self.likelihood(dataset)[0], self.likelihood_unranked(dataset), self.likelihood_references(dataset)

    def _likelihood_of(
        self, dataset: str
    ) -> tuple[tuple[list[LikelihoodEntry], Ranks], list[LikelihoodEntry], list[LikelihoodEntry]]:
        models, failed, references = _by_standing(self.dataset_rows(dataset))
        unranked = [
            sorted(
                likelihood_entries(rows, self.metrics, self.per_image, self.published)[0],
                key=lambda entry: entry.figure.mean,
            )
            for rows in (failed, references)
        ]
        return likelihood_entries(models, self.metrics, self.per_image, self.published), unranked[0], unranked[1]

    def _bounds_of(self, dataset: str) -> tuple[tuple[list[BoundsEntry], Ranks], list[BoundsEntry]]:
        models, failed, references = _by_standing(self.dataset_rows(dataset))
        entries, ranks = bounds_entries(models, self.metrics, self.per_image)
        unranked = [
            [replace(entry, rank=None) for entry in bounds_entries(rows, self.metrics, self.per_image)[0]]
            for rows in (failed, references)
        ]
        return ([*entries, *unranked[0]], ranks), unranked[1]

    def _quality_of(self, dataset: str) -> QualityBoard:
        return quality_board(self.dataset_rows(dataset), self.metrics)


def _by_standing(rows: Sequence[BoardRow]) -> tuple[list[BoardRow], list[BoardRow], list[BoardRow]]:
    """Models that are ranked, models whose audit failed, and references."""
    models = [row for row in rows if row.role == "model"]
    return (
        [row for row in models if row.audit.standing != "failed"],
        [row for row in models if row.audit.standing == "failed"],
        [row for row in rows if row.role != "model"],
    )


def _first(row: BoardRow) -> dict[str, Any]:
    return {"dataset": row.dataset, "label": row.label, "model": row.model, "seeds_planned": len(row.seeds), "seeds": 0}


def _rank(place: RankInterval | None, ranks: Ranks | SeedRanks) -> dict[str, Any]:
    return {} if place is None else {"rank_best": place.best, "rank_worst": place.worst, "tests_rest_on": ranks.basis}


def _text(problems: Sequence[Problem]) -> str | None:
    """One line: which seeds, what."""
    parts = []
    for problem in problems:
        seeds = f" (seeds {' '.join(map(str, problem.seeds))})" if problem.seeds else ""
        parts.append(f"{problem.status}{seeds}: {problem.reason}")
    return "; ".join(parts) or None


def _natural(metric: str) -> tuple[str, int]:
    head, _, number = metric.rpartition("-")
    return (head, int(number)) if number.isdigit() else (metric, 0)
