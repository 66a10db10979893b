"""One row of a board: what a model's runs on a dataset scored, and why there is no figure, or not of all seeds."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, NamedTuple, Self

from harness.boards.audits import RowAudit, audit_of
from harness.boards.curves import TrainingCurve, curves_of
from harness.boards.figures import Figure, Group, PerImage, mean_of
from harness.boards.published import MeasuredFigure, PublishedFigure, Verdict, verdict
from harness.records.record import FAILURES, VALID_PREFIX, RunRecord, ScoreRecord
from harness.suites.suite import Role

_EXACT = ("nll", "bits-per-dim")
# One draw of the bound is what a paper means by the bits a dimension of a density on dequantized pixels.
_AS_BITS_PER_DIM = ("nll", "negative-elbo", "bits-per-dim-bound")
_MOST_LETTERS = 160


class Problem(NamedTuple):
    """Why runs of a row have no figure: their status, one line, the metric (None for the training), which seeds."""

    status: str
    reason: str
    metric: str | None = None
    seeds: tuple[int, ...] = ()

    def __str__(self) -> str:
        seeds = f" (seeds {' '.join(map(str, self.seeds))})" if self.seeds else ""
        return f"{self.status}{seeds}: {self.reason}"


@dataclass(frozen=True)
class BoardRow:
    """One model on one dataset, both by their registered names; ``label`` is as the board prints it.

    ``records`` are those of the configuration that was chosen of the ``configurations`` tried, in the order of the
    ``seeds`` that were asked for; runs that are missing are not in it, and none is where no configuration could be
    chosen, for a ``grid_problem``. ``metrics`` are the suite's, in its order. A ``reference`` is a floor or a ceiling,
    which is shown and not ranked. ``published`` is the figure to stand beside; ``per_image`` holds scores per image by
    their names in the records.
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
    def dataset_digests(self) -> set[str]:
        """What the data hold that its records are of; one digest, unless the data have changed between them."""
        return {record.dataset_digest for record in self.records}

    def scores(self, metric: str) -> list[tuple[RunRecord, ScoreRecord]]:
        """Returns the figures of one metric on the test split, one for each seed that has it."""
        figure = self.figure(metric)
        return [] if figure is None else list(zip(figure.records, figure.scores, strict=True))

    def figure(self, metric: str | Group) -> Figure | None:
        """Returns what the seeds scored by a metric, or by a metric and protocol; None if no seed has a score."""
        return self._figures.get(metric)

    def by_protocol(self, metric: str) -> dict[Group, Figure]:
        """Returns what the seeds scored by a metric, apart by protocol."""
        return {of: it for of, it in self._figures.items() if isinstance(of, Group) and of.metric == metric}

    @cached_property
    def _figures(self) -> dict[str | Group, Figure]:
        found: dict[str | Group, list[tuple[RunRecord, ScoreRecord]]] = {}
        for record in self.records:
            for name, score in sorted(record.scores.items()):
                if score.status == "done" and score.value is not None and not name.startswith(VALID_PREFIX):
                    for of in (score.metric, Group.of(score)):
                        found.setdefault(of, []).append((record, score))
        figures: dict[str | Group, Figure] = {}
        for of, seeds in found.items():
            if isinstance(of, Group) and len(seeds) == len(found[of.metric]):  # one protocol: one and the same
                figures[of] = figures[of.metric]
                continue
            (records, scores), metric = zip(*seeds, strict=True), seeds[0][1].metric
            where = f"{self.label!r} on {self.dataset!r}, {metric}"
            figures[of] = Figure(where, records, scores, scores[0].unit, per_image=self.per_image)
        return figures

    @cached_property
    def likelihood(self) -> Figure | None:
        """In nats: the exact value if there is one, else the lowest of the bounds that most seeds have."""
        of_metrics = [figure for metric in self.metrics if (figure := self.figure(metric)) is not None]
        figures = [figure for figure in of_metrics if any(map(_is_likelihood, figure.scores))]
        exact = [figure for figure in figures if figure.kind == "exact"]
        most = max((len(figure.values) for figure in figures), default=0)
        complete = exact[:1] or [figure for figure in figures if len(figure.values) == most]
        in_nats = [figure.in_unit("nats", nats_per_bit_per_dim(self)) for figure in complete]
        return min(in_nats, key=lambda figure: figure.mean, default=None)

    @property
    def likelihood_kind(self) -> str:
        """What is known of its likelihood, in words."""
        kind = "no likelihood" if self.likelihood is None else self.likelihood.kind
        return {"exact": "exact likelihood", "upper bound": "bounds"}.get(kind, kind)

    @property
    def bits_per_dim(self) -> Figure | None:
        """The likelihood in bits a dimension."""
        figure = None if self.likelihood is None else self.figure(self.likelihood.metric)
        return None if figure is None else figure.in_unit("bits/dim", 1 / nats_per_bit_per_dim(self))

    @cached_property
    def beside_published(self) -> Figure | None:
        """Ours beside the published figure, where there is one: that of its metric, else the best likelihood.

        Beside published bits a dimension stands the bound of one draw, where there is no exact value.
        """
        best, theirs = self.likelihood, self.published
        if theirs is None or best is None:
            return None
        is_in_bits = theirs.metric == "bits-per-dim"
        ours = self.figure(theirs.metric) or (self.figure("bits-per-dim-bound") if is_in_bits else None) or best
        return best.in_unit("bits/dim", 1 / nats_per_bit_per_dim(self)) if is_in_bits and ours is best else ours

    @cached_property
    def verdict(self) -> Verdict | None:
        """What became of the published figure, if there is one beside ours."""
        best, theirs, ours = self.likelihood, self.published, self.beside_published
        if theirs is None or best is None or ours is None:
            return None
        same = theirs.metric == "bits-per-dim" and ours.metric in _AS_BITS_PER_DIM
        same |= (ours.metric, theirs.metric) == ("bits-per-dim", "nll")
        name = theirs.metric if same else ours.metric
        fits = [record.fit for record in best.records if record.fit is not None and record.fit.steps > 0]
        measured = MeasuredFigure(
            self.model, self.dataset, name, "test", ours.kind, ours.mean, ours.standard_deviation,
            best.records[0].hyperparameters, mean_of([fit.epochs for fit in fits]) if fits else None,
            mean_of([fit.seconds for fit in fits]) if fits else None,
        )  # fmt: skip
        return verdict(measured, theirs)

    @cached_property
    def training(self) -> dict[str, Any]:
        """How the row was trained, means over seeds, and the size of the model."""
        fits = [record.fit for record in self.records if record.fit is not None]
        budgets = [record.spec.budget or "the model's own" for record in self.records]
        found: dict[str, Any] = {
            "parameters_sampling": self.first("parameters-sampling"),
            "parameters_training": self.first("parameters-training"),
            "budget": "; ".join(dict.fromkeys(budgets)),
            "checkpoint": "; ".join(dict.fromkeys(fit.checkpoint for fit in fits)),
            "configurations_tried": max(self.configurations, *(it.configurations_tried for it in self.records), 1),
        }
        for name in ("epochs", "steps", "seconds"):
            found[f"fit_{name}"] = mean_of([float(getattr(fit, name)) for fit in fits]) if fits else None
        return found

    @cached_property
    def audit(self) -> RowAudit:
        """What the audits of its runs say."""
        return audit_of(self.records)

    @cached_property
    def curves(self) -> list[TrainingCurve]:
        """How its trainings went, of those that have a curve."""
        return curves_of(self.records)

    def first(self, metric: str) -> float | None:
        """Returns a figure that does not depend on the seed, such as a number of parameters."""
        figure = self.figure(metric)
        return None if figure is None else figure.scores[0].value

    def on_machine(self, fingerprint: str) -> Self:
        """Returns the row with the speeds of one machine alone, each of the first seed that has it."""
        records, measured = [], set[str]()
        for record in self.records:
            kept = {
                name: score
                for name, score in record.scores.items()
                if score.stage != "speed" or (score.fingerprint == fingerprint and score.metric not in measured)
            }
            measured |= {score.metric for score in kept.values() if score.stage == "speed" and score.status == "done"}
            records.append(record.model_copy(update={"scores": kept}))
        return replace(self, records=tuple(records))

    def problems(self, metrics: Sequence[str]) -> list[Problem]:
        """Returns what went wrong in the training or with one of ``metrics``; equal problems of seeds are one."""
        of_grid = [] if self.grid_problem is None else [self.grid_problem]
        if of_grid and not self.records:
            return of_grid
        records = {record.spec.seed: record for record in self.records}
        # What one seed has, all should have, but for speeds: those are measured with the first seed alone.
        scored = [metric for metric in metrics if any(score.stage != "speed" for _, score in self.scores(metric))]
        merged: dict[Problem, list[int]] = {}
        for seed in self.seeds:
            for problem in problems_of(records.get(seed), metrics, scored):
                merged.setdefault(problem, []).append(seed)
        return [problem._replace(seeds=tuple(seeds)) for problem, seeds in merged.items()] + of_grid


def problems_of(record: RunRecord | None, metrics: Sequence[str], scored: Sequence[str] = ()) -> list[Problem]:
    """Returns what went wrong in a run; ``scored`` names metrics that other seeds have, and this one should."""
    if record is None:
        return [Problem("not run", "no record")]
    failure, status = record.failure, record.status
    if status == "skipped":
        return [Problem(status, _one_line(record.reason or (failure.message if failure else "no reason given")))]
    if failure is not None:
        reason = _one_line(f"{failure.stage}: {failure.type}: {failure.message}")
        return [Problem(status if status in FAILURES else failure.status, reason)]
    if record.is_unfinished:
        return [Problem(status, "the training is not complete" if record.fit is None else "not all is scored")]
    problems = [Problem("not scored", metric, metric) for metric in scored if metric not in record.scores]
    for _, score in sorted(record.scores.items()):
        if score.metric in metrics and score.status != "done":
            what = "" if score.failure is None else f": {score.failure.type}: {score.failure.message}"
            problems.append(Problem(score.status, _one_line(score.metric + what), score.metric))
    return problems


def nats_per_bit_per_dim(row: BoardRow) -> float:
    """D ln 2; ValueError where no record of the row says the images' shape."""
    for record in row.records:
        if record.image_shape is not None:
            return math.prod(record.image_shape[:3]) * math.log(2)
    raise ValueError(f"{row.label!r} on {row.dataset!r}: no record has the image_shape that bits a dimension need")


def _is_likelihood(score: ScoreRecord) -> bool:
    """Whether it is the negative log-likelihood of the test images, or an upper bound on it."""
    # Unit and kind do not say so: what else a plugin measures in nats, exactly, is a figure of its own.
    if score.metric in _EXACT:
        return score.kind in ("exact", "upper bound")
    return score.board == "bounds" and score.unit in ("nats", "bits/dim") and score.kind == "upper bound"


def _one_line(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= _MOST_LETTERS else f"{line[: _MOST_LETTERS - 1].rstrip()}…"
