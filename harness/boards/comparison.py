"""Two rows side by side: the paired difference of their figures with its interval, and what it rests on.

Images are paired by their content, and the test is the one of the boards, seeds crossed with images
(``harness.boards.statistics.compare``). A figure without scores per image, such as FID, is compared by its seeds, or
with one seed by the standard errors that resampling gave. Figures that were measured differently are refused.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from scipy import stats

from harness.boards.statistics import Comparison, Kind, ScoreMatrix, better, compare, compare_seeds, pair_images
from harness.records.selection import VALID_PREFIX
from harness.report.audits import AUDIT
from harness.report.likelihood import is_likelihood, likelihood_entries, nats_a_bit_per_dim
from harness.report.rows import BoardRow, Figure, PerImage, figure_of

Basis = Literal["seeds x images", "images", "seeds", "resampling"]

LIKELIHOOD = "likelihood"
ALPHA = 0.05

# What sets bounds of different names apart, and is no difference in how one of them was measured.
_OF_THE_BOUND = ("K", "samples")
_OF_THE_MACHINE = ("device",)


class NotComparable(ValueError):
    """Figures that cannot be subtracted; the message says what differs."""


@dataclass(frozen=True)
class Side:
    """One of the two: a row, the scores per image of its archive, and where it was found."""

    row: BoardRow
    per_image: PerImage
    source: str = ""


@dataclass(frozen=True)
class Difference:
    """B - A of one metric.

    Attributes:
        metric: as in the records; ``likelihood`` where the two are known by different metrics.
        metrics, kinds, values, seeds: of A and of B.
        unit: of the values.
        difference: mean of B less that of A, over the images that both scored.
        standard_error, interval, p_value: of the difference; the interval has 95 %. Neither knows of other comparisons.
        basis: what the interval generalises to; ``resampling`` where it is made of the figures' own standard errors.
        num_images: in common; None without scores per image.
        better: the one that is proven better, or None.
        conclusion: what follows, in words.
        rests_on: what the interval rests on, in words.
    """

    metric: str
    metrics: tuple[str, str]
    kinds: tuple[Kind, Kind]
    values: tuple[float, float]
    seeds: tuple[int, int]
    unit: str
    difference: float
    standard_error: float
    interval: tuple[float, float]
    p_value: float
    basis: Basis
    num_images: int | None
    better: Literal["A", "B"] | None
    conclusion: str
    rests_on: str


@dataclass(frozen=True)
class Refusal:
    """A metric that both have, and that cannot be compared, with the reason."""

    metric: str
    reason: str


@dataclass(frozen=True)
class RowComparison:
    """What ``compare_rows`` found on one dataset."""

    dataset: str
    differences: tuple[Difference, ...]
    refusals: tuple[Refusal, ...]


def compare_rows(a: Side, b: Side, metrics: Sequence[str] = ()) -> RowComparison:
    """Compares two rows by the metrics named, or by all quality metrics that both have.

    Where one is known by an exact value and the other by a bound, or each by a bound of its own, the best figures of
    the two are compared too, as ``likelihood``.

    Raises:
        NotComparable: other data; a metric was asked for by name that one of them lacks, or that was measured
            differently; nothing can be compared.
    """
    _check_data(a, b)
    differences, refusals = [], []
    for metric in metrics or _shared(a, b):
        try:
            differences.append(_compare_likelihood(a, b) if metric == LIKELIHOOD else _compare_metric(a, b, metric))
        except NotComparable as error:
            if metrics:
                raise
            refusals.append(Refusal(metric, str(error)))
    if not differences:
        reasons = "; ".join(refusal.reason for refusal in refusals)
        has = f"A has {_list(_quality(a))}; B has {_list(_quality(b))}"
        raise NotComparable(reasons or f"no quality metric is shared on {a.row.dataset!r}: {has}")
    return RowComparison(a.row.dataset, tuple(differences), tuple(refusals))


def _check_data(a: Side, b: Side) -> None:
    if a.row.dataset != b.row.dataset:
        raise NotComparable(f"A is scored on {a.row.dataset!r}, B on {b.row.dataset!r}: different data do not compare")
    contents = {record.dataset_digest for side in (a, b) for record in side.row.records}
    if len(contents) > 1:
        shown = " and ".join(sorted(digest[:12] for digest in contents))
        raise NotComparable(f"the records come from different contents of {a.row.dataset!r} (digests {shown})")


def _quality(side: Side) -> list[str]:
    """The quality metrics on the test split, in the order of the records; an audit is a verdict, and no figure."""
    found: dict[str, None] = {}
    for record in side.row.records:
        for name, score in record.scores.items():
            compares = name != AUDIT and not name.startswith(VALID_PREFIX)
            if score.stage == "quality" and compares and side.row.scores(name):
                found[name] = None
    return list(found)


def _shared(a: Side, b: Side) -> list[str]:
    theirs = _quality(b)
    shared = sorted((metric for metric in _quality(a) if metric in theirs), key=_order)
    best = [_best_likelihood(side) for side in (a, b)]
    if best[0] is not None and best[1] is not None and best[0].metric != best[1].metric:
        return [LIKELIHOOD, *shared]
    return shared


def _order(metric: str) -> tuple[bool, str, int]:
    head, _, number = metric.rpartition("-")
    return (not is_likelihood(metric), head, int(number)) if number.isdecimal() else (metric != "nll", metric, 0)


def _best_likelihood(side: Side) -> Figure | None:
    """The figure that the likelihood board shows, in nats, with its scores per image."""
    entries, _ = likelihood_entries([side.row], sorted(_quality(side), key=_order), side.per_image, None)
    figure = figure_of(side.row, entries[0].figure.metric, side.per_image) if entries else None
    return None if figure is None else figure.in_unit("nats", nats_a_bit_per_dim(side.row))


def _compare_metric(a: Side, b: Side, metric: str) -> Difference:
    figures = []
    for letter, side in (("A", a), ("B", b)):
        figure = figure_of(side.row, metric, side.per_image)
        if figure is None:
            raise NotComparable(f"{letter} has no {metric!r}: it has {_list(_quality(side))}")
        figures.append(figure)
    _check_protocols(a, b, metric, metric)
    return _difference(a, b, metric, figures[0], figures[1])


def _compare_likelihood(a: Side, b: Side) -> Difference:
    figures = []
    for letter, side in (("A", a), ("B", b)):
        figure = _best_likelihood(side)
        if figure is None:
            raise NotComparable(f"{letter} has no likelihood and no bound on it: it has {_list(_quality(side))}")
        figures.append(figure)
    _check_protocols(a, b, figures[0].metric, figures[1].metric)
    return _difference(a, b, LIKELIHOOD, figures[0], figures[1])


def _check_protocols(a: Side, b: Side, metric_a: str, metric_b: str) -> None:
    """Refuses figures that were measured differently.

    Two metrics are two protocols by their nature: of them, what both state has to agree, less what their names say.
    """
    protocols = [_protocol("A", a, metric_a), _protocol("B", b, metric_b)]
    if metric_a == metric_b:
        keys = sorted(protocols[0].keys() | protocols[1].keys())
    else:
        keys = sorted((protocols[0].keys() & protocols[1].keys()) - {*_OF_THE_BOUND})
    differing = [key for key in keys if protocols[0].get(key) != protocols[1].get(key)]
    if differing:
        parts = [f"{key} is {_said(protocols[0], key)} for A and {_said(protocols[1], key)} for B" for key in differing]
        name = metric_a if metric_a == metric_b else f"{metric_a} and {metric_b}"
        raise NotComparable(f"{name}: measured by different protocols: {'; '.join(parts)}")


def _protocol(letter: str, side: Side, metric: str) -> dict[str, str]:
    scores = [score for _, score in side.row.scores(metric)]
    merged: dict[str, str] = {}
    for key in sorted({key for score in scores for key in score.protocol} - {*_OF_THE_MACHINE}):
        values = {score.protocol.get(key) for score in scores}
        if len(values) > 1:
            raise NotComparable(
                f"{metric}: the seeds of {letter} were measured by different protocols: "
                f"{key} is {_list(sorted(map(repr, values)))}"
            )
        merged[key] = str(values.pop())
    return merged


def _said(protocol: dict[str, str], key: str) -> str:
    return repr(protocol[key]) if key in protocol else "not said"


def _difference(a: Side, b: Side, metric: str, figure_a: Figure, figure_b: Figure) -> Difference:
    if figure_a.unit != figure_b.unit:
        raise NotComparable(f"{metric}: A is in {figure_a.unit!r}, B in {figure_b.unit!r}")
    comparison, basis, num_images = _test(a, b, figure_a, figure_b)
    kinds = (figure_a.kind, figure_b.kind)
    rising = any(score.higher_is_better for _, score in a.row.scores(figure_a.metric))
    winner, conclusion = _conclude(comparison, kinds, rising=rising)
    seeds = (len(figure_a.values), len(figure_b.values))
    return Difference(
        metric=metric,
        metrics=(figure_a.metric, figure_b.metric),
        kinds=kinds,
        values=(figure_a.mean, figure_b.mean),
        seeds=seeds,
        unit=figure_a.unit,
        difference=comparison.difference,
        standard_error=comparison.standard_error,
        interval=comparison.interval,
        p_value=comparison.p_value,
        basis=basis,
        num_images=num_images,
        better=winner,
        conclusion=conclusion,
        rests_on=_rests_on(basis, num_images, seeds),
    )


def _test(a: Side, b: Side, figure_a: Figure, figure_b: Figure) -> tuple[Comparison, Basis, int | None]:
    """B against A: a negative difference says that B is lower."""
    if figure_a.matrix is not None and figure_b.matrix is not None:
        common = _in_common(figure_a.matrix, figure_b.matrix)
        if common < 2:
            raise NotComparable(f"{figure_a.metric}: {common} images in common; a paired test needs 2")
        found = compare(figure_b.matrix, figure_a.matrix)
        return found, found.basis, common
    if min(len(figure_a.values), len(figure_b.values)) > 1:
        return compare_seeds(figure_b.values, figure_a.values), "seeds", None
    errors = [_standard_error(a, figure_a), _standard_error(b, figure_b)]
    if errors[0] is None or errors[1] is None:
        without = " and ".join(name for name, error in zip("AB", errors, strict=True) if error is None)
        raise NotComparable(
            f"{figure_a.metric}: one seed, no scores per image, and no standard error for {without}: "
            "nothing tells the spread"
        )
    return _normal(figure_b.mean - figure_a.mean, math.hypot(errors[0], errors[1])), "resampling", None


def _in_common(a: ScoreMatrix, b: ScoreMatrix) -> int:
    return len(pair_images(a.images, b.images)[0])


def _standard_error(side: Side, figure: Figure) -> float | None:
    """The mean over seeds: their resampled images are partly the same, so averaging seeds may not narrow it."""
    errors = [score.standard_error for _, score in side.row.scores(figure.metric)]
    known = [error for error in errors if error is not None]
    return sum(known) / len(known) if known and len(known) == len(errors) else None


def _normal(difference: float, error: float) -> Comparison:
    if error == 0:
        p_value = 1.0 if difference == 0 else 0.0
        return Comparison(difference, 0.0, math.inf, p_value, (difference, difference), "seeds")
    margin = float(stats.norm.ppf(0.975)) * error
    p_value = float(2 * stats.norm.sf(abs(difference) / error))
    return Comparison(difference, error, math.inf, p_value, (difference - margin, difference + margin), "seeds")


_MIRRORED: dict[Kind, Kind] = {"upper bound": "lower bound", "lower bound": "upper bound"}


def _conclude(
    comparison: Comparison, kinds: tuple[Kind, Kind], *, rising: bool
) -> tuple[Literal["A", "B"] | None, str]:
    """What follows from B - A. Where up is better, all is mirrored: a lower bound promises as an upper one does."""
    kind_a, kind_b = kinds
    if rising:
        comparison = replace(comparison, difference=-comparison.difference)
        kind_a, kind_b = _MIRRORED.get(kind_a, kind_a), _MIRRORED.get(kind_b, kind_b)
    if comparison.p_value > ALPHA or comparison.difference == 0:
        return None, "A and B cannot be told apart"
    winner: Literal["A", "B"] = "B" if comparison.difference < 0 else "A"
    loser = "A" if winner == "B" else "B"
    ahead, behind = (kind_b, kind_a) if winner == "B" else (kind_a, kind_b)
    below, above = ("above", "below") if rising else ("below", "above")
    if better(comparison, (kind_b, kind_a), comparison.p_value, alpha=ALPHA) is None:
        if (ahead, behind) == ("exact", "upper bound"):
            return None, (
                f"nothing follows: {loser}'s bound lies {above} {winner}'s exact value, and a bound may hide a better "
                "model"
            )
        return None, f"nothing follows: {_an(kind_a)} and {_an(kind_b)} have no order"
    if ahead == "upper bound" and behind == "exact":
        return winner, f"{winner}'s bound lies {below} {loser}'s exact value: {winner} is better"
    if ahead == behind == "upper bound":
        return winner, f"{winner} is better, by the bounds: they are compared as the promises that they are"
    return winner, f"{winner} is better"


def _an(kind: Kind) -> str:
    return f"{'a' if kind == 'lower bound' else 'an'} {kind if kind != 'exact' else 'exact value'}"


def _rests_on(basis: Basis, num_images: int | None, seeds: tuple[int, int]) -> str:
    trainings = _seeds(seeds)
    if basis == "resampling":
        return (
            f"{trainings}, and the standard errors of the figures, taken as independent: "
            "the interval does not cover training"
        )
    if num_images is None:
        return f"{trainings}, and no scores per image: the interval covers training, and not the choice of test images"
    images = f"{num_images:,} images in common, {trainings}"
    if basis == "images":
        return f"{images}: the interval does not cover training"
    return f"{images}: the interval covers training and the choice of test images"


def _seeds(seeds: tuple[int, int]) -> str:
    if seeds[0] == seeds[1]:
        return f"{seeds[0]} seed{'' if seeds[0] == 1 else 's'} each"
    return f"{seeds[0]} seed{'' if seeds[0] == 1 else 's'} of A and {seeds[1]} of B"


def _list(names: Sequence[str]) -> str:
    return ", ".join(names) or "none"
