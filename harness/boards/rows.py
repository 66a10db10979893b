"""From records to the rows of a board: which runs make a row, what they scored, and what went wrong."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from functools import cached_property
from typing import Any

from harness.boards.audits import RowAudit, audit_of
from harness.boards.figures import Figure, Group, PerImage, figure_of, mean_of
from harness.boards.likelihood import best_likelihood, nats_per_bit_per_dim, verdict_of
from harness.boards.problems import Cause, Problem, causes_of
from harness.boards.published import PublishedFigure, Verdict
from harness.records.record import VALID_PREFIX, RunRecord, ScoreRecord, best_configuration, identity_of
from harness.suites.suite import Role, Suite, SuiteModel

Published = Mapping[str, PublishedFigure]


@dataclass(frozen=True)
class BoardRow:
    """One model on one dataset.

    Attributes:
        label: as the board prints it.
        dataset, model: registered names.
        seeds: those that were asked for.
        records: those of the configuration that was chosen, in the order of ``seeds``; runs that are missing are not
            in it. Empty where no configuration of a grid could be chosen.
        metrics: those of the suite, in its order.
        configurations: how many were tried.
        grid_problem: what is wrong with the grid, or None.
        role: ``reference`` for a floor or a ceiling, which is shown and not ranked; else ``model``.
        published: the figure to stand beside, or None.
        per_image: scores per image by their names in the records.
    """

    label: str
    dataset: str
    model: str
    seeds: tuple[int, ...]
    records: tuple[RunRecord, ...]
    metrics: tuple[str, ...] = ()
    configurations: int = 1
    grid_problem: Problem | None = None
    role: Role = "model"
    published: PublishedFigure | None = None
    per_image: PerImage = field(default_factory=dict, repr=False, compare=False)

    @property
    def has_finished(self) -> bool:
        """Whether a run has all that was asked of it."""
        return any(record.status == "done" for record in self.records)

    def scores(self, metric: str) -> list[tuple[RunRecord, ScoreRecord]]:
        """Returns the figures of one metric on the test split, one for each seed that has it."""
        return self._scores.get(metric, [])

    @cached_property
    def _scores(self) -> dict[str, list[tuple[RunRecord, ScoreRecord]]]:
        found: dict[str, list[tuple[RunRecord, ScoreRecord]]] = {}
        for record in self.records:
            for name, score in sorted(record.scores.items()):
                if score.status == "done" and score.value is not None and not name.startswith(VALID_PREFIX):
                    found.setdefault(score.metric, []).append((record, score))
        return found

    def figure(self, metric: str) -> Figure | None:
        """Returns what the seeds scored by a metric; None if no seed has a score."""
        if metric not in self._figures:
            scores = self.scores(metric)
            where = f"{self.label!r} on {self.dataset!r}"
            self._figures[metric] = figure_of(where, scores, self.per_image) if scores else None
        return self._figures[metric]

    @cached_property
    def _figures(self) -> dict[str, Figure | None]:
        return {}

    def by_protocol(self, metric: str) -> dict[Group, Figure]:
        """Returns what the seeds scored by a metric, apart by protocol."""
        if metric not in self._groups:
            found: dict[Group, list[tuple[RunRecord, ScoreRecord]]] = {}
            for record, score in self.scores(metric):
                found.setdefault(Group.of(score), []).append((record, score))
            where = f"{self.label!r} on {self.dataset!r}"
            self._groups[metric] = {group: figure_of(where, scores, self.per_image) for group, scores in found.items()}
        return self._groups[metric]

    @cached_property
    def _groups(self) -> dict[str, dict[Group, Figure]]:
        return {}

    @cached_property
    def likelihood(self) -> Figure | None:
        """In nats: the exact value if there is one, else the lowest of the bounds that most seeds have."""
        return best_likelihood(self)

    @property
    def bits_per_dim(self) -> Figure | None:
        """The likelihood in bits a dimension."""
        figure = None if self.likelihood is None else self.figure(self.likelihood.metric)
        return None if figure is None else figure.in_unit("bits/dim", 1 / nats_per_bit_per_dim(self))

    @cached_property
    def verdict(self) -> Verdict | None:
        """What became of the published figure; None without one, or without a figure of ours."""
        if self.published is None or self.likelihood is None:
            return None
        return verdict_of(self, self.likelihood, self.published)

    @cached_property
    def training(self) -> dict[str, Any]:
        """How the row was trained, means over seeds, and the size of the model."""
        fits = [record.fit for record in self.records if record.fit is not None]
        budgets = dict.fromkeys(record.spec.budget or "the model's own" for record in self.records)
        means = {
            f"fit_{name}": mean_of([float(getattr(fit, name)) for fit in fits]) if fits else None
            for name in ("epochs", "steps", "seconds")
        }
        return {
            "parameters_sampling": self.first("parameters-sampling"),
            "parameters_training": self.first("parameters-training"),
            "budget": "; ".join(budgets),
            **means,
            "checkpoint": "; ".join(dict.fromkeys(fit.checkpoint for fit in fits)),
            "configurations_tried": max(
                [self.configurations, *(record.configurations_tried for record in self.records)]
            ),
        }

    @cached_property
    def audit(self) -> RowAudit:
        """What the audits of its runs say."""
        return audit_of(self.records)

    def first(self, metric: str) -> float | None:
        """Returns a figure that does not depend on the seed, such as a number of parameters."""
        scores = self.scores(metric)
        return scores[0][1].value if scores else None

    def on_machine(self, fingerprint: str) -> BoardRow:
        """Returns the row with the speeds of one machine alone, each of the first seed that has it."""
        records, measured = [], set[str]()
        for record in self.records:
            speeds = {name: score for name, score in record.scores.items() if score.stage == "speed"}
            kept = {
                name: score
                for name, score in speeds.items()
                if score.fingerprint == fingerprint and score.metric not in measured
            }
            measured |= {score.metric for score in kept.values() if score.status == "done"}
            others = {name: score for name, score in record.scores.items() if name not in speeds}
            records.append(record.model_copy(update={"scores": {**others, **kept}}))
        return replace(self, records=tuple(records))

    def problems(self, metrics: Sequence[str]) -> list[Problem]:
        """Returns what went wrong in the training or with one of ``metrics``; equal problems of seeds are one."""
        by_seed: dict[int, list[Cause]] = {}
        records = {record.spec.seed: record for record in self.records}
        if self.records or self.grid_problem is None:
            # What one seed has, all should have, but for speeds: those are measured with the first seed alone.
            scored = [metric for metric in metrics if any(score.stage != "speed" for _, score in self.scores(metric))]
            by_seed = {seed: causes_of(records.get(seed), metrics, scored) for seed in self.seeds}
        merged: dict[Cause, list[int]] = {}
        for seed, problems in by_seed.items():
            for problem in problems:
                merged.setdefault(problem, []).append(seed)
        found = [Problem(tuple(seeds), *problem) for problem, seeds in merged.items()]
        return found if self.grid_problem is None else [*found, self.grid_problem]


def rows_of(
    records: Iterable[RunRecord],
    suite: Suite | None = None,
    *,
    per_image: PerImage | None = None,
    published: Published | None = None,
) -> list[BoardRow]:
    """Returns the rows, dataset by dataset, in the suite's order, or by name without one.

    Raises:
        ValueError: two records of one identity, of which one is stale; a row names a published figure that there is
            not.
    """
    by_identity: dict[str, RunRecord] = {}
    for record in sorted(records, key=lambda record: record.run):
        twin = by_identity.setdefault(record.identity, record)
        if twin is not record and twin != record:
            raise ValueError(
                f"{twin.run!r} and {record.run!r} are one run, before and after a change; only one can be shown"
            )
    scores: PerImage = {} if per_image is None else per_image
    if suite is None:
        return _rows_alone(list(by_identity.values()), scores)
    return _rows_of_suite(by_identity, suite, scores, published)


def _rows_of_suite(
    records: Mapping[str, RunRecord], suite: Suite, per_image: PerImage, published: Published | None
) -> list[BoardRow]:
    rows = []
    for row in suite.rows():
        configurations = [[records.get(identity_of(spec)) for spec in specs] for specs in row.configurations]
        best = best_configuration(configurations)
        chosen = () if best is None else tuple(record for record in configurations[best] if record is not None)
        rows.append(
            BoardRow(
                row.label,
                row.dataset,
                row.model,
                tuple(spec.seed for spec in row.configurations[0]),
                chosen,
                suite.metrics,
                len(configurations),
                _grid_problem(configurations) if len(configurations) > 1 else None,
                row.role,
                _published(row.label, row.published, published),
                per_image,
            )
        )
    return rows


def _published(label: str, slug: str | None, published: Published | None) -> PublishedFigure | None:
    if slug is None or published is None:
        return None
    if slug not in published:
        close = get_close_matches(slug, published, n=1)
        hint = f"; did you mean {close[0]!r}?" if close else ""
        raise ValueError(f"{label!r}: there is no published figure {slug!r}{hint}")
    return published[slug]


def _grid_problem(configurations: Sequence[Sequence[RunRecord | None]]) -> Problem | None:
    """What is wrong with the configurations that could not take part in the choice."""
    # Asked of each configuration beside one that is empty: a single one is always "chosen".
    unfit = [records for records in configurations if best_configuration([records, []]) is None]
    if not unfit:
        return None
    runs = [record for records in unfit for record in records]
    reasons = [reason for record in runs for reason in causes_of(record, _valid_scores(record))]
    status, reason, _ = reasons[0] if reasons else ("not run", "no score on the validation split", None)
    share = f"{len(unfit)} of {len(configurations)} configurations could not be chosen from"
    seeds = tuple(sorted({record.spec.seed for record in runs if record is not None}))
    return Problem(seeds, status, f"{share}: {reason}")


def _valid_scores(record: RunRecord | None) -> list[str]:
    return [] if record is None else sorted(score.metric for score in record.scores.values())


def _rows_alone(records: Sequence[RunRecord], per_image: PerImage) -> list[BoardRow]:
    asked = {metric for record in records for metric in record.spec.metrics}
    asked |= {score.metric for record in records for score in record.scores.values()}
    metrics = tuple(sorted(asked, key=_natural))
    groups: dict[str, list[RunRecord]] = {}
    for record in records:
        spec = record.spec
        same = [
            spec.dataset, spec.model, spec.hyperparameters, spec.budget, spec.precision, spec.threads, spec.checkpoint
        ]  # fmt: skip
        groups.setdefault(json.dumps(same, sort_keys=True), []).append(record)
    rows = []
    for _, group in sorted(groups.items()):
        group.sort(key=lambda record: record.spec.seed)
        spec = group[0].spec
        label = SuiteModel(name=spec.model, hyperparameters=spec.hyperparameters).row_label
        seeds = tuple(record.spec.seed for record in group)
        rows.append(BoardRow(label, spec.dataset, spec.model, seeds, tuple(group), metrics, per_image=per_image))
    return _tell_apart(rows)


def _natural(metric: str) -> tuple[str, int]:
    head, _, number = metric.rpartition("-")
    return (head, int(number)) if number.isdigit() else (metric, 0)


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
        told.append(replace(row, label=f"{row.label}, {', '.join(notes)}" if notes else row.label))
    return told
