"""The tests under the boards: training seeds crossed with test images, Holm over the pairs, ranks as intervals.

Two sources of variance are kept apart. A *seed* belongs to one model (seed 0 of two models has nothing in common), a
test *image* is shared by all models and is recognised by its content. Scores are lower-is-better throughout; negate
those where up is better.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
from scipy import special

from harness.interface.spec import ScoreKind

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]

Basis = Literal["seeds x images", "images", "seeds"]
Kind = ScoreKind

# Sums of float64 round: a standard deviation or difference this small relative to the scores is none.
ROUNDING = 1e-12


@dataclass(frozen=True)
class ScoreMatrix:
    """One model's scores, an image a column and a training a row.

    Attributes:
        values: (S, N) float64, lower is better; the mean over draws where the data are random.
        images: (N,) int64, the digest of each image's content. Copies of one image share a digest.
    """

    values: Floats
    images: Integers

    def __post_init__(self) -> None:
        if self.values.ndim != 2 or self.values.size == 0 or self.values.dtype != np.float64:
            raise ValueError(f"values must be (S, N) float64, not {self.values.shape} {self.values.dtype}")
        if self.images.shape != self.values.shape[1:] or self.images.dtype != np.int64:
            raise ValueError(
                f"images must be ({self.values.shape[1]},) int64, not {self.images.shape} {self.images.dtype}"
            )
        if not np.isfinite(self.values).all():
            seed, image = np.argwhere(~np.isfinite(self.values))[0]
            raise ValueError(
                f"the score of seed {seed}, image {image} is {self.values[seed, image]}, which is not finite"
            )


@dataclass(frozen=True)
class Summary:
    """A row's figures.

    Attributes:
        mean: over seeds and images.
        standard_deviation: over seeds, of the seeds' means; None for one seed.
        standard_error: over test images, of the images' means over seeds; None for one image.
        num_seeds, num_images: S and N.
    """

    mean: float
    standard_deviation: float | None
    standard_error: float | None
    num_seeds: int
    num_images: int


@dataclass(frozen=True)
class Comparison:
    """Whether two models differ.

    Attributes:
        difference: the first model's mean minus the second's, over the images that both scored.
        standard_error: of the difference; 0 where nothing varies.
        degrees_of_freedom: of Student's t; infinite where nothing varies.
        p_value: two-sided, of no difference.
        interval: 95 % confidence interval of the difference.
        basis: what the test generalises to. ``images``: a model had a single seed, and another training might
            reverse the result. ``seeds``: there are no values per image.
    """

    difference: float
    standard_error: float
    degrees_of_freedom: float
    p_value: float
    interval: tuple[float, float]
    basis: Basis


@dataclass(frozen=True)
class _Component:
    """A part of the variance of the difference, estimated with its own degrees of freedom."""

    variance: float
    degrees_of_freedom: int


def summary(scores: ScoreMatrix) -> Summary:
    """Returns mean, standard deviation over seeds and standard error over images of one model's (S, N) scores."""
    num_seeds, num_images = scores.values.shape
    seed_means, image_means = scores.values.mean(axis=1), scores.values.mean(axis=0)  # (S,), (N,)
    return Summary(
        float(scores.values.mean()),
        float(seed_means.std(ddof=1)) if num_seeds > 1 else None,
        float(image_means.std(ddof=1) / math.sqrt(num_images)) if num_images > 1 else None,
        num_seeds,
        num_images,
    )


def pair_images(first: Integers, second: Integers) -> tuple[Integers, Integers]:
    """Pairs images by content; copies of one image are paired in order of occurrence, what is left over is dropped.

    Args:
        first, second: (N,) and (M,) int64 digests.

    Returns:
        Two (P,) int64 arrays of positions: ``first[p] == second[q]`` for every pair (p, q).
    """
    digests = np.concatenate([first, second])
    occurrences = np.concatenate([_occurrences(first), _occurrences(second)])
    order = np.lexsort((occurrences, digests))  # stable: of two equal keys, the one of ``first`` comes first
    digests, occurrences = digests[order], occurrences[order]
    equal = (digests[1:] == digests[:-1]) & (occurrences[1:] == occurrences[:-1])
    return order[:-1][equal], order[1:][equal] - len(first)


def _occurrences(digests: Integers) -> Integers:
    """(N,) int64: how many equal digests stand before each."""
    order = np.argsort(digests, kind="stable")
    positions = np.arange(len(digests))
    starts = np.r_[True, digests[order][1:] != digests[order][:-1]]
    counts = np.empty_like(positions)
    counts[order] = positions - np.maximum.accumulate(np.where(starts, positions, 0))
    return counts


def compare(a: ScoreMatrix, b: ScoreMatrix) -> Comparison:
    """Tests whether two models' means differ, over seeds nested in models and crossed with paired images.

    With v1 = s_A^2 / S_A and v2 = s_B^2 / S_B from the seeds' means and v3 = s_img^2 / N from the images' differences
    of means over seeds, t = difference / sqrt(v1 + v2 + v3) has Satterthwaite's (1946) degrees of freedom

        (v1 + v2 + v3)^2 / (v1^2 / (S_A - 1) + v2^2 / (S_B - 1) + v3^2 / (N - 1)).

    The interaction of seed and image is in v1, v2 and again in v3, which errs on the safe side. With *unequal* numbers
    of few seeds Welch's test does not: one model split into 2 and 5 seeds would separate in 6 % of repetitions, because
    the smaller group's s^2 is often small by chance. So the same test with the seeds' variance pooled over both models,
    v = s_p^2 (1/S_A + 1/S_B) on S_A + S_B - 2 degrees of freedom, is made as well, and the larger p-value stands. Two
    groups of seeds of one model have one variance: there the pooled test keeps its level, and so does the larger
    p-value. Equal numbers of seeds, and a model that does not depend on its seed, need only the first test.
    (Different models of very different spread, the wider one with fewer seeds, may still separate in 6 to 9 %: give
    them equal numbers of seeds.)

    With one seed in either model, the test is the paired t-test on images alone, ``basis="images"``.

    Args:
        a, b: scores on overlapping sets of images, in any order.

    Raises:
        ValueError: the models share fewer than two images.
    """
    values_a, values_b = a.values, b.values
    if not np.array_equal(a.images, b.images):  # equal on most boards: one test set in one order
        columns_a, columns_b = pair_images(a.images, b.images)
        values_a, values_b = a.values[:, columns_a], b.values[:, columns_b]  # (S_A, P), (S_B, P)
    if values_a.shape[1] < 2:
        raise ValueError(f"a paired test needs at least 2 images that both models scored, not {values_a.shape[1]}")
    differences = values_a.mean(axis=0) - values_b.mean(axis=0)  # (P,)
    rounding = ROUNDING * max(float(np.abs(values_a).max()), float(np.abs(values_b).max()))
    images = _component(differences, rounding)
    if min(len(values_a), len(values_b)) == 1:
        return _student(float(differences.mean()), [images], rounding, "images")
    return _crossed(values_a.mean(axis=1), values_b.mean(axis=1), [images], rounding, "seeds x images")


def compare_seeds(a: Floats, b: Floats) -> Comparison:
    """Tests whether two models differ in a score without values per image, such as FID: ``compare`` without images.

    Args:
        a, b: (S_A,) and (S_B,) float64, one figure a seed, lower is better.

    Raises:
        ValueError: a model has a single seed, so that nothing tells the spread.
    """
    if min(len(a), len(b)) < 2:
        raise ValueError(f"a test over seeds needs at least 2 seeds of each model, not {len(a)} and {len(b)}")
    return _crossed(a, b, [], ROUNDING * float(np.abs(np.concatenate([a, b])).max()), "seeds")


def _component(values: Floats, rounding: float) -> _Component:
    """The variance of the mean of independent values, zero where they differ by no more than rounding."""
    deviation = float(values.std(ddof=1))
    variance = 0.0 if deviation <= rounding else deviation**2 / len(values)
    return _Component(variance, len(values) - 1)


def _crossed(means_a: Floats, means_b: Floats, others: list[_Component], rounding: float, basis: Basis) -> Comparison:
    difference = float(means_a.mean() - means_b.mean())
    a, b = _component(means_a, rounding), _component(means_b, rounding)
    apart = _student(difference, [a, b, *others], rounding, basis)
    num_a, num_b = len(means_a), len(means_b)
    if num_a == num_b or a.variance == 0 or b.variance == 0:
        return apart
    freedom = num_a + num_b - 2
    squares = a.variance * num_a * (num_a - 1) + b.variance * num_b * (num_b - 1)
    pooled = _Component(squares / freedom * (1 / num_a + 1 / num_b), freedom)
    together = _student(difference, [pooled, *others], rounding, basis)
    return max(apart, together, key=lambda comparison: comparison.p_value)


def _student(difference: float, components: list[_Component], rounding: float, basis: Basis) -> Comparison:
    variance = sum(part.variance for part in components)
    if variance == 0:
        p_value = 1.0 if abs(difference) <= rounding else 0.0
        return Comparison(difference, 0.0, math.inf, p_value, (difference, difference), basis)
    # In fractions of the whole, so that tiny variances do not underflow when they are squared.
    freedom = 1 / sum((part.variance / variance) ** 2 / part.degrees_of_freedom for part in components)
    error = math.sqrt(variance)
    p_value = float(2 * special.stdtr(freedom, -abs(difference) / error))
    margin = float(special.stdtrit(freedom, 0.975)) * error
    return Comparison(difference, error, freedom, p_value, (difference - margin, difference + margin), basis)


def holm(p_values: Sequence[float]) -> tuple[float, ...]:
    """Adjusts p-values for their number by Holm's (1979) step-down method.

    With p_(1) <= ... <= p_(m), the i-th becomes max over j <= i of min(1, (m - j + 1) p_(j)): those adjusted values at
    most alpha keep the chance of any false claim among all m at alpha, whatever the dependence.

    Raises:
        ValueError: a value is outside [0, 1] or NaN.
    """
    for value in p_values:
        if not 0 <= value <= 1:
            raise ValueError(f"p-values lie in [0, 1], {value} does not")
    values = np.asarray(p_values, dtype=np.float64)
    order = np.argsort(values, kind="stable")
    steps = np.minimum(1.0, (len(values) - np.arange(len(values))) * values[order])
    adjusted = np.empty_like(values)
    adjusted[order] = np.maximum.accumulate(steps)
    return tuple(adjusted.tolist())


def better(comparison: Comparison, kinds: tuple[Kind, Kind], p_value: float, *, alpha: float = 0.05) -> int | None:
    """Returns which of two models is proven better, 0 (the first) or 1, or None.

    Let ``low`` be the model whose printed value is significantly lower.

    - Equal kinds compare by value: exact values, bounds as the promises that they are, estimates as estimates.
    - ``low`` an upper bound, the other exact: ``low`` is better, for its true value is lower still.
    - ``low`` exact, the other an upper bound: nothing is proven. The bound may hide a better model; a looser promise
      never beats an exact value either.
    - Any other mixture is left unordered.

    Args:
        comparison: the first model against the second.
        kinds: of the first and the second model's score.
        p_value: adjusted for the number of comparisons.
        alpha: the level.
    """
    if p_value > alpha or comparison.difference == 0:
        return None
    low = 0 if comparison.difference < 0 else 1
    proven = kinds[0] == kinds[1] or (kinds[low], kinds[1 - low]) == ("upper bound", "exact")
    return low if proven else None


@dataclass(frozen=True)
class RankInterval:
    """The ranks that a model may have: both ends included, 1 is best. Ties are not transitive, so print both ends."""

    best: int
    worst: int

    def __str__(self) -> str:
        return str(self.best) if self.best == self.worst else f"{self.best}-{self.worst}"


@dataclass(frozen=True)
class Ranking:
    """A partial order of K models.

    Attributes:
        intervals: K, in the models' order.
        beats: the pairs (i, j) of which model i is proven better than model j.
        p_values: for each compared pair (i, j), adjusted by Holm over all of them.
    """

    intervals: tuple[RankInterval, ...]
    beats: frozenset[tuple[int, int]]
    p_values: Mapping[tuple[int, int], float]


def compare_all(models: Sequence[ScoreMatrix]) -> dict[tuple[int, int], Comparison]:
    """Compares every pair of K models: {(i, j): model i against model j, i < j}.

    Raises:
        ValueError: two models share fewer than two images.
    """
    return {(i, j): compare(models[i], models[j]) for j in range(len(models)) for i in range(j)}


def rank(kinds: Sequence[Kind], comparisons: Mapping[tuple[int, int], Comparison], *, alpha: float = 0.05) -> Ranking:
    """Ranks K models: from 1 + the number proven better to K - the number proven worse.

    Holm's method over all pairs keeps the chance of any false claim on the board at ``alpha``.

    Args:
        kinds: K, what each model's score is of what the board ranks, see ``better``.
        comparisons: {(i, j): model i against model j}, at most one of (i, j) and (j, i). A pair that is left out cannot
            be told apart.
        alpha: the family-wise level.

    Raises:
        ValueError: a pair is given twice, or names no two models.
    """
    for i, j in comparisons:
        if i == j or not (0 <= i < len(kinds) and 0 <= j < len(kinds)) or (j, i) in comparisons:
            raise ValueError(f"pair ({i}, {j}) must name two of {len(kinds)} models, once in either order")
    p_values = dict(zip(comparisons, holm([item.p_value for item in comparisons.values()]), strict=True))
    beats = set()
    for pair, comparison in comparisons.items():
        winner = better(comparison, (kinds[pair[0]], kinds[pair[1]]), p_values[pair], alpha=alpha)
        if winner is not None:
            beats.add((pair[winner], pair[1 - winner]))
    won, lost = Counter(winner for winner, _ in beats), Counter(loser for _, loser in beats)
    intervals = tuple(RankInterval(1 + lost[k], len(kinds) - won[k]) for k in range(len(kinds)))
    return Ranking(intervals, frozenset(beats), p_values)


def rank_intervals(
    models: Sequence[ScoreMatrix], kinds: Sequence[Kind] | None = None, *, alpha: float = 0.05
) -> tuple[RankInterval, ...]:
    """Returns the ranks of K models by their scores per image: ``rank`` of ``compare_all``, all exact unless told."""
    return rank(kinds if kinds is not None else ["exact"] * len(models), compare_all(models), alpha=alpha).intervals


def draw_share(values: Floats) -> float:
    """Returns the share of the mean's variance that comes from the random draws of the test images.

    Image i's score under draw r is mu + a_i + e_ri with independent draws an image. The mean over R draws and N images
    has variance (var(a) + var(e) / R) / N, of which var(e) / (R N) is the draws'. With s_e^2 the variance within images
    and s_m^2 that of the images' means, the share is s_e^2 / (R s_m^2), at most 1: the inverse of a one-way F.

    Args:
        values: (R, N) float64, one model's scores on R draws of N images.

    Returns:
        A number in [0, 1]; 0 where nothing varies.

    Raises:
        ValueError: fewer than two draws or two images.
    """
    within, between = _draw_variances(values)
    if within == 0:
        return 0.0
    return 1.0 if between == 0 else min(1.0, within / (len(values) * between))


def draw_standard_deviation(values: Floats) -> float:
    """Returns by how much one draw moves the mean over N images: s_e / sqrt(N), see ``draw_share``.

    Args:
        values: (R, N) float64.

    Raises:
        ValueError: fewer than two draws or two images.
    """
    return math.sqrt(_draw_variances(values)[0] / values.shape[1])


def _draw_variances(values: Floats) -> tuple[float, float]:
    """(s_e^2, s_m^2): within images over draws, and of the images' means."""
    if values.ndim != 2 or min(values.shape) < 2:
        raise ValueError(f"values must be (R, N) of at least 2 draws and 2 images, not {values.shape}")
    floor = (ROUNDING * float(np.abs(values).max())) ** 2
    within, between = float(values.var(axis=0, ddof=1).mean()), float(values.mean(axis=0).var(ddof=1))
    return (within if within > floor else 0.0), (between if between > floor else 0.0)
