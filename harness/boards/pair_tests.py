"""The one engine of tests: whether two figures differ, for one pair or for all pairs of a column at once.

Where both figures have scores per image, seeds are nested in models and crossed with paired images. With
v1 = s_A^2 / S_A and v2 = s_B^2 / S_B from the seeds' means and v3 = s_img^2 / N from the images' differences of means
over seeds, t = difference / sqrt(v1 + v2 + v3) has Satterthwaite's (1946) degrees of freedom

    (v1 + v2 + v3)^2 / (v1^2 / (S_A - 1) + v2^2 / (S_B - 1) + v3^2 / (N - 1)).

The interaction of seed and image is in v1, v2 and again in v3, which errs on the safe side. With one seed in either
model, the test is the paired t-test on images alone. Without scores per image v3 is left out, which is Welch's test
over seeds. With one seed in either model, z = difference / sqrt(e_A^2 + e_B^2) with the standard errors of resampling:
both hold the error of the reference images that all rows share, so that z is too small rather than too large.

With *unequal* numbers of few seeds Welch's test is not safe: one model split into 2 and 5 seeds would separate in 6 %
of repetitions, because the smaller group's s^2 is often small by chance. So the same test with the seeds' variance
pooled over both models, v = s_p^2 (1/S_A + 1/S_B) on S_A + S_B - 2 degrees of freedom, is made as well, and the larger
p-value stands. Two groups of seeds of one model have one variance: there the pooled test keeps its level, and so does
the larger p-value. (Different models of very different spread, the wider one with fewer seeds, may still separate in 6
to 9 %: give them equal numbers of seeds.)
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
from scipy import special

from harness.boards.statistics import ROUNDING, Basis, Comparison, Floats, Integers, ScoreMatrix, deviation, pair_images

_CHUNK = 256  # rows whose products with all others are taken at once
_CANCELLED = 1e-4  # of |a|^2 + |b|^2: above it, the product keeps twelve of sixteen digits


class Scored(Protocol):
    """What is tested; see ``harness.boards.figures.Figure``. Lower is better."""

    @property
    def values(self) -> Floats:
        """(S,) float64, one figure for each seed."""

    @property
    def matrix(self) -> ScoreMatrix | None:
        """The scores per image, where every seed has them."""

    @property
    def error(self) -> float | None:
        """The standard error of the mean over seeds by resampling; None if unknown."""


@dataclass(frozen=True)
class PairTests:
    """The tests of all pairs of K figures.

    Attributes:
        lower, higher: (P,) int64, the pairs of which the p-value is at most ``alpha``: which has the lower mean.
        p_values: (P,) float64, theirs, not adjusted.
        num_tested: of how many pairs there is a test.
        bases: what the tests generalise to, each once.
    """

    lower: Integers
    higher: Integers
    p_values: Floats
    num_tested: int
    bases: frozenset[Basis]

    def rejected(self, alpha: float) -> Integers:
        """Returns the positions of the p-values that Holm's (1979) method rejects, of all ``num_tested``.

        The i-th smallest of m is rejected if it and all before it are at most alpha / (m - i + 1): the chance of any
        false claim among all m is then at most alpha, whatever the dependence.
        """
        order = np.argsort(self.p_values, kind="stable")
        allowed = self.p_values[order] * (self.num_tested - np.arange(len(order))) <= alpha
        return order[: len(order) if allowed.all() else int(np.argmin(allowed))]


@dataclass(frozen=True)
class _Rows:
    """K rows on one set of images; or without images."""

    number: Integers  # (K,) of seeds
    mean: Floats  # (K,)
    deviation: Floats  # (K,) of the seeds' means, zero for one seed
    largest: Floats  # (K,) of the absolute scores
    error: Floats  # (K,) by resampling; NaN if unknown
    size: Floats  # (K,) of the squared norm of ``means``
    means: Floats | None = None  # (K, N) of the images over seeds, less the row's mean

    def __getitem__(self, part: slice) -> _Rows:
        means = None if self.means is None else self.means[part]
        spread = self.mean[part], self.deviation[part], self.largest[part]
        return _Rows(self.number[part], *spread, self.error[part], self.size[part], means)


@dataclass(frozen=True)
class _Tested:
    """(K,) arrays: one row against K others. The p-value is NaN where there is no test."""

    difference: Floats
    variance: Floats
    freedom: Floats
    p_values: Floats
    bases: dict[Basis, Integers]  # where each holds


def compare(a: Scored, b: Scored) -> Comparison | None:
    """Tests whether two figures differ: a less b. None where they share fewer than two images, or nothing varies."""
    for places, _, first, second, same in _blocks([a, b]):
        if same and len(places) == 1:
            continue  # each with itself: they share no set of images
        tested = _test(first[:1], second[1:] if same else second)
        p_value = float(tested.p_values[0])
        if not math.isnan(p_value):
            sign = 1 if places[0] == 0 else -1
            difference, freedom = sign * float(tested.difference[0]), float(tested.freedom[0])
            error = math.sqrt(float(tested.variance[0]))
            quantile = special.ndtri(0.975) if math.isinf(freedom) else special.stdtrit(freedom, 0.975)
            margin = float(quantile) * error
            [basis] = [name for name, found in tested.bases.items() if len(found)]
            return Comparison(difference, error, freedom, p_value, (difference - margin, difference + margin), basis)
    return None


def compare_pairs(figures: Sequence[Scored], *, alpha: float) -> PairTests:
    """Tests every pair of K figures.

    Args:
        figures: K, lower is better.
        alpha: p-values above it are not kept.
    """
    lower, higher, kept = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)], [np.zeros(0)]
    num_tested, bases = 0, set[Basis]()
    for places_a, places_b, rows_a, rows_b, same in _blocks(figures):
        for k, place in enumerate(places_a):
            rest, products = slice(k + 1 if same else 0, None), None
            if rows_a.means is not None and rows_b.means is not None:
                if k % _CHUNK == 0:
                    chunk = rows_a.means[k : k + _CHUNK] @ rows_b.means.T
                products = chunk[k % _CHUNK, rest]
            tested, others = _test(rows_a[k : k + 1], rows_b[rest], products), places_b[rest]
            is_tested = ~np.isnan(tested.p_values)
            num_tested += int(is_tested.sum())
            bases |= {basis for basis, of_it in tested.bases.items() if bool(is_tested[of_it].any())}
            [claimed] = np.nonzero((tested.p_values <= alpha) & (tested.difference != 0))  # NaN is not
            is_lower, others = tested.difference[claimed] < 0, others[claimed]
            lower.append(np.where(is_lower, place, others))
            higher.append(np.where(is_lower, others, place))
            kept.append(tested.p_values[claimed])
    return PairTests(np.concatenate(lower), np.concatenate(higher), np.concatenate(kept), num_tested, frozenset(bases))


def _blocks(figures: Sequence[Scored]) -> Iterator[tuple[Integers, Integers, _Rows, _Rows, bool]]:
    """Splits all pairs into rectangles of rows that share their images, and triangles; True for a triangle."""
    groups: dict[bytes, list[int]] = {}
    bare: list[int] = []
    for place, figure in enumerate(figures):
        if figure.matrix is None:
            bare.append(place)
        else:
            groups.setdefault(figure.matrix.images.tobytes(), []).append(place)
    sets = list(groups.values())
    for index, places in enumerate(sets):
        some = [figures[place] for place in places]
        if len(_images(some[0])) > 1:
            rows = _of_images(some)
            yield np.array(places), np.array(places), rows, rows, True
        for others in sets[index + 1 :]:
            beside = [figures[place] for place in others]
            columns = pair_images(_images(some[0]), _images(beside[0]))
            if len(columns[0]) > 1:
                first, second = _of_images(some, columns[0]), _of_images(beside, columns[1])
                yield np.array(places), np.array(others), first, second, False
    if bare:
        rows = _of_seeds([figures[place] for place in bare])
        yield np.array(bare), np.array(bare), rows, rows, True
        others = [place for places in sets for place in places]
        if others:
            yield np.array(bare), np.array(others), rows, _of_seeds([figures[place] for place in others]), False


def _images(figure: Scored) -> Integers:
    assert figure.matrix is not None
    return figure.matrix.images


def _of_images(figures: Sequence[Scored], columns: Integers | None = None) -> _Rows:
    """Rows by their scores per image; ``columns`` chooses images and their order."""
    matrices = [figure.matrix.values for figure in figures if figure.matrix is not None]
    values = [scores if columns is None else scores[:, columns] for scores in matrices]
    largest = np.array([max(scores.max(), -scores.min()) for scores in values])
    means = np.stack([scores.mean(axis=0) for scores in values])
    means -= means.mean(axis=1, keepdims=True)
    size = np.einsum("kn,kn->k", means, means)
    return replace(_of_values([scores.mean(axis=1) for scores in values]), largest=largest, size=size, means=means)


def _of_seeds(figures: Sequence[Scored]) -> _Rows:
    """Rows by one figure for each seed."""
    errors = np.array([math.nan if figure.error is None else figure.error for figure in figures])
    return replace(_of_values([figure.values for figure in figures]), error=errors)


def _of_values(values: Sequence[Floats]) -> _Rows:
    return _Rows(
        number=np.array([len(of_row) for of_row in values]),
        mean=np.array([of_row.mean() for of_row in values]),
        deviation=np.array([deviation(of_row) if len(of_row) > 1 else 0.0 for of_row in values]),
        largest=np.array([np.abs(of_row).max() for of_row in values]),
        error=np.full(len(values), math.nan),
        size=np.zeros(len(values)),
    )


def _test(a: _Rows, b: _Rows, products: Floats | None = None) -> _Tested:
    """Tests one row against K others; ``products`` are (K,) those of the row's means with theirs, where known."""
    rounding = ROUNDING * np.maximum(a.largest, b.largest)  # (K,), as all below
    difference = a.mean - b.mean
    number_a, number_b = np.broadcast_arrays(a.number, b.number)
    crossed = (number_a > 1) & (number_b > 1)
    from_a, from_b = (
        np.where(crossed & (side.deviation > rounding), side.deviation**2 / side.number, 0.0) for side in (a, b)
    )
    parts = [(from_a, np.maximum(number_a - 1, 1)), (from_b, np.maximum(number_b - 1, 1))]
    others: list[tuple[Floats, Integers]] = []
    if a.means is not None and b.means is not None:
        num_images = a.means.shape[1]
        variances = _squared_distances(
            a.means[0], b.means, a.size + b.size, b.means @ a.means[0] if products is None else products
        ) / (num_images - 1)
        of_images = np.where(variances <= rounding * rounding, 0.0, variances / num_images)
        others = [(of_images, np.full(len(difference), num_images - 1))]
    variance, freedom, p_values = _student(difference, [*parts, *others], rounding)
    [unequal] = np.nonzero((number_a != number_b) & (from_a > 0) & (from_b > 0))
    if len(unequal):
        num_a, num_b = number_a[unequal], number_b[unequal]
        free = num_a + num_b - 2
        squares = from_a[unequal] * num_a * (num_a - 1) + from_b[unequal] * num_b * (num_b - 1)
        pooled = [(squares / free * (1 / num_a + 1 / num_b), free), *((v[unequal], f[unequal]) for v, f in others)]
        together = _student(difference[unequal], pooled, rounding[unequal])
        larger = together[2] > p_values[unequal]
        for array, of_pooled in zip((variance, freedom, p_values), together, strict=True):
            array[unequal] = np.where(larger, of_pooled, array[unequal])
    [with_seeds], [without] = np.nonzero(crossed), np.nonzero(~crossed)
    if others:
        return _Tested(difference, variance, freedom, p_values, {"seeds x images": with_seeds, "images": without})
    of_errors = np.square(a.error) + np.square(b.error)
    with np.errstate(divide="ignore", invalid="ignore"):
        normal = special.erfc(np.abs(difference) / np.sqrt(of_errors) / math.sqrt(2))
    normal[(difference == 0) & (of_errors == 0)] = 1.0
    return _Tested(
        difference,
        np.where(crossed, variance, of_errors),
        np.where(crossed, freedom, math.inf),
        np.where(crossed, p_values, normal),
        {"seeds": with_seeds, "resampling": without},
    )


def _squared_distances(row: Floats, others: Floats, sizes: Floats, products: Floats) -> Floats:
    """(K,): |row - other|^2 = size - 2 row other for (K, N) others; where that would cancel, in full."""
    squares = sizes - 2 * products
    [near] = np.nonzero(squares < _CANCELLED * sizes)
    differences = others[near] - row
    squares[near] = np.einsum("kn,kn->k", differences, differences)
    return np.asarray(squares, dtype=np.float64)


def _student(
    difference: Floats, parts: Sequence[tuple[Floats, Integers]], rounding: Floats
) -> tuple[Floats, Floats, Floats]:
    """Variance, Satterthwaite's degrees of freedom and two-sided p-values of Student's t over (variance, freedom)."""
    variance = sum((part for part, _ in parts), np.zeros_like(difference))
    p_values = np.where(np.abs(difference) <= rounding, 1.0, 0.0)
    freedom = np.full_like(difference, math.inf)
    [varies] = np.nonzero(variance > 0)
    total = variance[varies]
    # In fractions of the whole, so that tiny variances do not underflow when they are squared.
    freedom[varies] = 1 / sum((part[varies] / total) ** 2 / free[varies] for part, free in parts)
    p_values[varies] = 2 * special.stdtr(freedom[varies], -np.abs(difference[varies]) / np.sqrt(total))
    return variance, freedom, p_values
