"""From records to the rows of a board: which runs make a row, what they scored, and what went wrong."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from operator import itemgetter
from typing import Any

import numpy as np
import numpy.typing as npt

from harness.boards.statistics import Kind, ScoreMatrix, pair_images, summary
from harness.records.record import FAILURES, RunRecord, ScoreRecord, identity_of
from harness.records.selection import best_configuration
from harness.report.audits import RowAudit, audit_of
from harness.suites.suite import Role, Suite, SuiteModel

_Cause = tuple[str, str, str | None]  # status, reason, metric
_NO_FIGURE = {"likelihood": "no likelihood", "bounds": "no bound", "sample-quality": "no sample quality"}

Floats = npt.NDArray[np.float64]
PerImage = Mapping[str, tuple[npt.NDArray[np.float64], npt.NDArray[np.int64]]]


@dataclass(frozen=True)
class Problem:
    """Why runs of a row have no figure: which seeds, their status, one line, and the metric; None for the training."""

    seeds: tuple[int, ...]
    status: str
    reason: str
    metric: str | None = None


@dataclass(frozen=True)
class BoardRow:
    """One model on one dataset.

    Attributes:
        label: as the board prints it.
        dataset, model: registered names.
        published: the slug of the published figure to stand beside, or None.
        seeds: those that were asked for.
        records: those of the configuration that was chosen, in the order of ``seeds``; runs that are missing are not
            in it. Empty where no configuration of a grid could be chosen.
        configurations: how many were tried.
        grid_problem: what is wrong with the grid, or None.
        role: ``reference`` for a floor or a ceiling, which is shown and not ranked; else ``model``.
    """

    label: str
    dataset: str
    model: str
    published: str | None
    seeds: tuple[int, ...]
    records: tuple[RunRecord, ...]
    configurations: int = 1
    grid_problem: Problem | None = None
    role: Role = "model"

    @property
    def has_finished(self) -> bool:
        """Whether a run has all that was asked of it."""
        return any(record.status == "done" for record in self.records)

    def scores(self, metric: str) -> list[tuple[RunRecord, ScoreRecord]]:
        """Returns the figures of one metric on the test split, a seed each."""
        if metric not in self._scores:  # a board asks dozens of times
            found = ((record, record.scores.get(metric)) for record in self.records)
            self._scores[metric] = [
                (record, score) for record, score in found if score is not None and _has_value(score)
            ]
        return self._scores[metric]

    @cached_property
    def _scores(self) -> dict[str, list[tuple[RunRecord, ScoreRecord]]]:
        return {}

    @cached_property
    def training(self) -> dict[str, Any]:
        """How the row was trained, means over seeds, and the size of the model."""
        fits = [record.fit for record in self.records if record.fit is not None]
        budgets = dict.fromkeys(record.spec.budget or "the model's own" for record in self.records)
        return {
            "parameters_sampling": self.first("parameters-sampling"),
            "parameters_training": self.first("parameters-training"),
            "budget": "; ".join(budgets),
            "fit_epochs": mean_of([fit.epochs for fit in fits]),
            "fit_steps": mean_of([float(fit.steps) for fit in fits]),
            "fit_seconds": mean_of([fit.seconds for fit in fits]),
            "checkpoint": "; ".join(dict.fromkeys(fit.checkpoint for fit in fits)),
            "configurations_tried": max(
                [self.configurations, *(record.configurations_tried for record in self.records)]
            ),
        }

    def speeds(self, fingerprint: str) -> dict[str, ScoreRecord]:
        """Returns the speeds on one machine, by metric: each that of the first seed that has it."""
        speeds: dict[str, ScoreRecord] = {}
        for record in self.records:
            own = [item for item in record.scores.items() if item[1].stage == "speed"]
            for _, score in sorted(own, key=itemgetter(0)):
                if score.fingerprint == fingerprint and _has_value(score):
                    speeds.setdefault(score.metric, score)
        return speeds

    @cached_property
    def audit(self) -> RowAudit:
        """What the audits of its runs say."""
        return audit_of(self.records)

    def first(self, metric: str) -> float | None:
        """Returns a figure that does not depend on the seed, such as a number of parameters."""
        scores = self.scores(metric)
        return scores[0][1].value if scores else None

    def problems(self, metrics: Sequence[str]) -> list[Problem]:
        """Returns what went wrong in the training or with one of ``metrics``; equal problems of seeds are one."""
        by_seed: dict[int, list[_Cause]] = {}
        records = {record.spec.seed: record for record in self.records}
        if self.records or self.grid_problem is None:
            scored = [metric for metric in metrics if self.scores(metric)]
            by_seed = {seed: _problems_of(records.get(seed), metrics, scored) for seed in self.seeds}
        merged: dict[_Cause, list[int]] = {}
        for seed, problems in by_seed.items():
            for problem in problems:
                merged.setdefault(problem, []).append(seed)
        found = [Problem(tuple(seeds), *problem) for problem, seeds in merged.items()]
        return found if self.grid_problem is None else [*found, self.grid_problem]


@dataclass(frozen=True)
class Figure:
    """What the seeds of a row scored by one metric.

    Attributes:
        metric, kind, unit: as in the records.
        values: (S,) float64, one a seed.
        matrix: the scores per image, where every seed has them.
        num_images: how many images were scored, or None.
        error: the standard error that a single seed's record states.
    """

    metric: str
    kind: Kind
    unit: str
    values: Floats
    matrix: ScoreMatrix | None
    num_images: int | None
    error: float | None = None

    @property
    def mean(self) -> float:
        """Over seeds."""
        return float(self.values.mean())

    @property
    def standard_deviation(self) -> float | None:
        """Over seeds; None for one."""
        return float(self.values.std(ddof=1)) if len(self.values) > 1 else None

    @cached_property
    def standard_error(self) -> float | None:
        """Over test images."""
        return self.error if self.matrix is None else summary(self.matrix).standard_error

    def without_matrix(self) -> Figure:
        """Returns the same figure without its scores per image, of which its error is kept: they are large."""
        return replace(self, matrix=None, error=self.standard_error)

    def in_unit(self, unit: str, factor: float) -> Figure:
        """Returns the same figure in another unit: ``factor`` of it are one of this."""
        if unit == self.unit:
            return self
        matrix = None if self.matrix is None else ScoreMatrix(self.matrix.values * factor, self.matrix.images)
        error = None if self.error is None else self.error * factor
        return Figure(self.metric, self.kind, unit, self.values * factor, matrix, self.num_images, error)


def figure_of(row: BoardRow, metric: str, per_image: PerImage) -> Figure | None:
    """Returns a row's figure, over the seeds that have it; None if no seed has.

    Raises:
        ValueError: a score per image is not finite.
    """
    scores = [score for _, score in row.scores(metric)]
    if not scores:
        return None
    kinds = {score.kind or "estimate" for score in scores}
    arrays = [
        per_image[score.per_image] for score in scores if score.per_image is not None and score.per_image in per_image
    ]
    matrix = None
    if len(arrays) == len(scores):
        try:
            matrix = _matrix(arrays)
        except ValueError as error:
            raise ValueError(f"{row.label!r}, {metric} on {row.dataset!r}: {error}") from error
    images = [score.num_images for score in scores if score.num_images is not None]
    return Figure(
        metric=metric,
        kind=kinds.pop() if len(kinds) == 1 else "estimate",
        unit=scores[0].unit,
        values=np.array([score.value for score in scores], dtype=np.float64),
        matrix=matrix,
        num_images=min(images) if images else None,
        error=scores[0].standard_error if len(scores) == 1 else None,
    )


def _matrix(arrays: Sequence[tuple[npt.NDArray[np.float64], npt.NDArray[np.int64]]]) -> ScoreMatrix | None:
    """(S, N), the images in the order of their digests, in which pairing is fast; None without a common image."""
    images = arrays[0][1]
    if not all(images is other or np.array_equal(images, other) for _, other in arrays):
        for _, other in arrays:
            images = images[pair_images(images, other)[0]]
        arrays = [(scores[pair_images(images, other)[1]], images) for scores, other in arrays]
    if len(images) == 0:
        return None
    order, in_order = _order(images.tobytes())
    # As an archive keeps them: from whatever source, the board is the same.
    values = np.stack([scores.astype(np.float32)[order] for scores, _ in arrays]).astype(np.float64)
    return ScoreMatrix(values, in_order)


@lru_cache(maxsize=16)
def _order(images: bytes) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """The order of the digests, and the digests in it: rows of one dataset share their images."""
    digests = np.frombuffer(images, dtype=np.int64)
    order = np.argsort(digests, kind="stable")
    return order, digests[order]


def rows_of(records: Iterable[RunRecord], suite: Suite | None = None) -> list[BoardRow]:
    """Returns the rows, dataset by dataset, in the suite's order, or by name without one.

    Raises:
        ValueError: two records of one identity: one of them is stale.
    """
    by_identity: dict[str, RunRecord] = {}
    for record in sorted(records, key=lambda record: record.run):
        twin = by_identity.setdefault(record.identity, record)
        if twin is not record and twin != record:
            raise ValueError(
                f"{twin.run!r} and {record.run!r} are one run, before and after a change; only one can be shown"
            )
    return _rows_alone(by_identity.values()) if suite is None else _rows_of_suite(by_identity, suite)


def _rows_of_suite(records: Mapping[str, RunRecord], suite: Suite) -> list[BoardRow]:
    rows = []
    for row in suite.rows():
        configurations = [[records.get(identity_of(spec)) for spec in specs] for specs in row.configurations]
        best = best_configuration(configurations)
        chosen = () if best is None else tuple(record for record in configurations[best] if record is not None)
        problem = _grid_problem(configurations) if len(configurations) > 1 else None
        seeds = tuple(spec.seed for spec in row.configurations[0])
        rows.append(
            BoardRow(
                row.label, row.dataset, row.model, row.published, seeds, chosen, len(configurations), problem, row.role
            )
        )
    return rows


def _grid_problem(configurations: Sequence[Sequence[RunRecord | None]]) -> Problem | None:
    """What is wrong with the configurations that could not take part in the choice."""
    # Asked of each configuration beside one that is empty: a single one is always "chosen".
    unfit = [records for records in configurations if best_configuration([records, []]) is None]
    if not unfit:
        return None
    runs = [record for records in unfit for record in records]
    reasons = [reason for record in runs for reason in _problems_of(record, _valid_scores(record))]
    status, reason, _ = reasons[0] if reasons else ("not run", "no score on the validation split", None)
    share = f"{len(unfit)} of {len(configurations)} configurations could not be chosen from"
    seeds = tuple(sorted({record.spec.seed for record in runs if record is not None}))
    return Problem(seeds, status, f"{share}: {reason}")


def _valid_scores(record: RunRecord | None) -> list[str]:
    return [] if record is None else sorted(score.metric for score in record.scores.values())


def _rows_alone(records: Iterable[RunRecord]) -> list[BoardRow]:
    groups: dict[str, list[RunRecord]] = {}
    for record in records:
        spec = record.spec
        same = [
            spec.dataset,
            spec.model,
            spec.hyperparameters,
            spec.budget,
            spec.precision,
            spec.threads,
            spec.checkpoint,
        ]
        groups.setdefault(json.dumps(same, sort_keys=True), []).append(record)
    rows = []
    for _, group in sorted(groups.items()):
        group.sort(key=lambda record: record.spec.seed)
        spec = group[0].spec
        label = SuiteModel(name=spec.model, hyperparameters=spec.hyperparameters).row_label
        seeds = tuple(record.spec.seed for record in group)
        rows.append(BoardRow(label, spec.dataset, spec.model, None, seeds, tuple(group)))
    return _tell_apart(rows)


def _tell_apart(rows: list[BoardRow]) -> list[BoardRow]:
    """Adds to labels that stand twice on a dataset what sets them apart."""
    differences: tuple[Callable[[BoardRow], str], ...] = (
        lambda row: row.records[0].spec.budget or "own budget",
        lambda row: row.records[0].spec.precision,
        lambda row: f"{row.records[0].spec.threads} threads",
        lambda row: row.records[0].spec.checkpoint or "trained",
    )
    groups: dict[tuple[str, str], list[BoardRow]] = {}
    for row in rows:
        groups.setdefault((row.dataset, row.label), []).append(row)
    told: list[BoardRow] = []
    for row in rows:
        twins = groups[row.dataset, row.label]
        notes = [difference(row) for difference in differences if len({difference(twin) for twin in twins}) > 1]
        label = f"{row.label}, {', '.join(notes)}" if notes else row.label
        told.append(BoardRow(label, row.dataset, row.model, None, row.seeds, row.records))
    return told


def _has_value(score: ScoreRecord) -> bool:
    return score.status == "done" and score.value is not None


def _problems_of(record: RunRecord | None, metrics: Sequence[str], scored: Sequence[str] = ()) -> list[_Cause]:
    """Returns what went wrong; ``scored`` names metrics that other seeds have, and this one should."""
    if record is None:
        return [("not run", "no record", None)]
    if record.failure is not None:
        failure = record.failure
        if record.status == "skipped":
            return [("skipped", one_line(record.reason or failure.message), None)]
        status = record.status if record.status in FAILURES else failure.status
        return [(status, one_line(f"{failure.stage}: {failure.type}: {failure.message}"), None)]
    if record.status == "skipped":
        return [("skipped", one_line(record.reason or "no reason given"), None)]
    if record.status in ("pending", "running", "interrupted"):
        return [(record.status, "the training is not complete" if record.fit is None else "not all is scored", None)]
    problems: list[_Cause] = [("not scored", metric, metric) for metric in scored if metric not in record.scores]
    unfinished = [item for item in record.scores.items() if item[1].status != "done"]
    for _, score in sorted(unfinished, key=itemgetter(0)):
        if score.metric in metrics:
            what = "" if score.failure is None else f"{score.failure.type}: {score.failure.message}"
            problems.append(
                (str(score.status), one_line(f"{score.metric}: {what}" if what else score.metric), score.metric)
            )
    return problems


def status_of(board: str, problems: Sequence[Problem]) -> str:
    """Returns the status of a row without a figure, in a word or two."""
    if problems:
        return problems[0].status
    return _NO_FIGURE.get(board, "not measured")


def mean_of(values: Sequence[float]) -> float | None:
    """Returns the mean; None of nothing."""
    return sum(values) / len(values) if values else None


def one_line(text: str, limit: int = 160) -> str:
    """Returns a text as one line of at most ``limit`` characters."""
    line = " ".join(text.split())
    return line if len(line) <= limit else f"{line[: limit - 1].rstrip()}…"
