"""The tests of ``harness.boards.statistics.compare`` and ``compare_seeds`` on all pairs of a column at once.

A board of K rows has K (K - 1) / 2 pairs. With m_i (N,) a row's means over seeds on one set of images, the variance
over images of every difference comes from the Gram matrix of the centred means,

    |m_i - m_j|^2 = |m_i|^2 + |m_j|^2 - 2 m_i m_j.

Where that cancels, the difference itself is formed. Only p-values that Holm's method may reject are kept.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
import numpy.typing as npt
from scipy import special

from harness.boards.statistics import ROUNDING, Basis, ScoreMatrix, pair_images

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]
Booleans = npt.NDArray[np.bool_]

_CHUNK = 1 << 18  # pairs at a time: some 2 MB an array
_CANCELLED = 1e-5  # of |m_i|^2 + |m_j|^2: the Gram matrix keeps eleven of sixteen digits above it
_NEAR_ROUNDING = 1e3


class Scored(Protocol):
    """What is tested; see ``harness.report.rows.Figure``."""

    @property
    def values(self) -> Floats:
        """(S,) float64, one figure a seed, lower is better."""

    @property
    def matrix(self) -> ScoreMatrix | None:
        """The scores per image, where every seed has them."""


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
        """Returns the positions of the p-values that Holm's (1979) method rejects, of all ``num_tested``."""
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
    means: Floats | None = None  # (K, N) of the images over seeds, less a row common to all that are compared

    def __getitem__(self, part: slice) -> _Rows:
        means = None if self.means is None else self.means[part]
        return _Rows(self.number[part], self.mean[part], self.deviation[part], self.largest[part], means)


@dataclass(frozen=True)
class _Tested:
    """(A, B) arrays of a block of pairs. The p-value is NaN where there is no test, and 1 where it is above alpha."""

    difference: Floats
    p_values: Floats
    bases: dict[Basis, Booleans]


def compare_pairs(figures: Sequence[Scored], *, alpha: float) -> PairTests:
    """Tests every pair of K figures: on scores per image where both have them, else on seeds.

    A pair without two common images, or with a single seed where there are no scores per image, is not tested.

    Args:
        figures: K, lower is better.
        alpha: p-values above it are not kept.
    """
    found: list[tuple[Integers, Integers, Floats]] = []
    num_tested, bases = 0, set[Basis]()
    for places_a, places_b, rows_a, rows_b, same in _blocks(figures):
        step = max(1, _CHUNK // max(1, len(places_b)))
        for start in range(0, len(places_a), step):
            part, rest = slice(start, start + step), slice(start if same else 0, None)
            tested = _test(rows_a[part], rows_b[rest], alpha)
            p_values, firsts, seconds = tested.p_values, places_a[part], places_b[rest]
            if same:  # each pair once, and no row against itself
                p_values = np.where(np.arange(len(seconds)) > np.arange(len(firsts))[:, None], p_values, np.nan)
            is_tested = ~np.isnan(p_values)
            num_tested += int(is_tested.sum())
            bases |= {basis for basis, of_it in tested.bases.items() if bool((of_it & is_tested).any())}
            i, j = np.nonzero((p_values <= alpha) & (tested.difference != 0))  # NaN is not
            first_is_lower = tested.difference[i, j] < 0
            lower, higher = (
                np.where(is_lower, firsts[i], seconds[j]) for is_lower in (first_is_lower, ~first_is_lower)
            )
            found.append((lower, higher, p_values[i, j]))
    if not found:
        return PairTests(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0), 0, frozenset())
    lower, higher, p_values = (np.concatenate(parts) for parts in zip(*found, strict=True))
    return PairTests(lower, higher, p_values, num_tested, frozenset(bases))


def _blocks(figures: Sequence[Scored]) -> Iterator[tuple[Integers, Integers, _Rows, _Rows, bool]]:
    """Splits all pairs into rectangles of rows that share their images, and triangles; True for a triangle."""
    groups: dict[bytes, list[int]] = {}
    matrices: dict[int, ScoreMatrix] = {}
    for place, figure in enumerate(figures):
        if figure.matrix is not None:
            groups.setdefault(figure.matrix.images.tobytes(), []).append(place)
            matrices[place] = figure.matrix
    sets = list(groups.values())
    for index, places in enumerate(sets):
        [rows] = _centred(_of_images([matrices[place] for place in places]))
        if rows.means is not None and rows.means.shape[1] > 1:
            yield np.array(places), np.array(places), rows, rows, True
        for others in sets[index + 1 :]:
            columns = pair_images(matrices[places[0]].images, matrices[others[0]].images)
            if len(columns[0]) > 1:
                pair = [
                    _of_images([matrices[place] for place in some], chosen)
                    for some, chosen in zip((places, others), columns, strict=True)
                ]
                first, second = _centred(*pair)
                yield np.array(places), np.array(others), first, second, False
    bare = np.array([place for place in range(len(figures)) if place not in matrices], dtype=np.int64)
    if len(bare):
        rows = _of_seeds([figures[place].values for place in bare])
        yield bare, bare, rows, rows, True
    if len(bare) and matrices:
        others = list(matrices)
        yield bare, np.array(others), rows, _of_seeds([figures[place].values for place in others]), False


def _of_images(matrices: Sequence[ScoreMatrix], columns: Integers | None = None) -> _Rows:
    """Rows by their scores per image; ``columns`` chooses images and their order."""
    values = [matrix.values if columns is None else matrix.values[:, columns] for matrix in matrices]
    rows = _of_seeds([scores.mean(axis=1) for scores in values])
    largest = np.array([max(scores.max(), -scores.min()) for scores in values])
    return _Rows(rows.number, rows.mean, rows.deviation, largest, np.stack([scores.mean(axis=0) for scores in values]))


def _of_seeds(values: Sequence[Floats]) -> _Rows:
    """Rows by one figure a seed."""
    return _Rows(
        number=np.array([len(of_row) for of_row in values]),
        mean=np.array([of_row.mean() for of_row in values]),
        deviation=np.array([of_row.std(ddof=1) if len(of_row) > 1 else 0.0 for of_row in values]),
        largest=np.array([np.abs(of_row).max() for of_row in values]),
    )


def _centred(*sides: _Rows) -> list[_Rows]:
    """Takes from every row what all have in common, and its mean: differences vary as before, and cancel less."""
    means = [side.means for side in sides if side.means is not None]
    common = sum((of_side.sum(axis=0) for of_side in means), np.zeros(means[0].shape[1])) / sum(map(len, means))
    centred = []
    for side, of_side in zip(sides, means, strict=True):
        of_side -= common
        of_side -= of_side.mean(axis=1, keepdims=True)
        centred.append(replace(side, means=of_side))
    return centred


def _test(a: _Rows, b: _Rows, alpha: float) -> _Tested:
    """Tests A rows against B; see ``harness.boards.statistics.compare``."""
    rounding = ROUNDING * np.maximum(a.largest[:, None], b.largest)  # (A, B), as all below
    difference = a.mean[:, None] - b.mean
    number_a, number_b = np.broadcast_arrays(a.number[:, None], b.number)
    crossed = (number_a > 1) & (number_b > 1)
    from_a, from_b = (
        np.where(crossed & (deviation > rounding), deviation**2 / number, 0.0)
        for deviation, number in ((a.deviation[:, None], number_a), (b.deviation, number_b))
    )
    images = None if a.means is None else _image_variances(a, b, rounding)
    others = [] if a.means is None or images is None else [(images, a.means.shape[1] - 1)]
    parts = [(from_a, np.maximum(number_a - 1, 1)), (from_b, np.maximum(number_b - 1, 1)), *others]
    p_values = _student(difference, parts, rounding, alpha)
    unequal = np.nonzero((number_a != number_b) & (from_a > 0) & (from_b > 0))
    if len(unequal[0]):
        num_a, num_b = number_a[unequal], number_b[unequal]
        freedom = num_a + num_b - 2
        squares = from_a[unequal] * num_a * (num_a - 1) + from_b[unequal] * num_b * (num_b - 1)
        pooled = [(squares / freedom * (1 / num_a + 1 / num_b), freedom)]
        pooled += [(variance[unequal], num_images) for variance, num_images in others]
        together = _student(difference[unequal], pooled, rounding[unequal], alpha)
        p_values[unequal] = np.maximum(p_values[unequal], together)
    if images is None:
        return _Tested(difference, np.where(crossed, p_values, np.nan), {"seeds": crossed})
    return _Tested(difference, p_values, {"seeds x images": crossed, "images": ~crossed})


def _image_variances(a: _Rows, b: _Rows, rounding: Floats) -> Floats:
    """(A, B): the variance over images of the mean of every difference; zero where it is rounding."""
    assert a.means is not None
    assert b.means is not None
    num_images = a.means.shape[1]
    of_a, of_b = np.einsum("kn,kn->k", a.means, a.means), np.einsum("kn,kn->k", b.means, b.means)
    sizes = of_a[:, None] + of_b
    squares = np.maximum(sizes - 2 * (a.means @ b.means.T), 0.0)
    near = _NEAR_ROUNDING * rounding
    inexact = np.nonzero((squares < _CANCELLED * sizes) | (squares <= near * near * (num_images - 1)))
    step = max(1, 8 * _CHUNK // num_images)
    for start in range(0, len(inexact[0]), step):
        i, j = (places[start : start + step] for places in inexact)
        differences = a.means[i] - b.means[j]
        differences -= differences.mean(axis=1, keepdims=True)
        squares[i, j] = np.einsum("pn,pn->p", differences, differences)
    variances = squares / (num_images - 1)
    return np.where(variances <= rounding * rounding, 0.0, variances / num_images)


def _student(
    difference: Floats, parts: Sequence[tuple[Floats, Integers | int]], rounding: Floats, alpha: float
) -> Floats:
    """Two-sided p-values of Student's t with Satterthwaite's degrees of freedom over (variance, freedom) parts.

    Those above ``alpha`` may be given as 1: Student's p-value is above the normal distribution's, which is cheap.
    """
    variance = sum((part for part, _ in parts), np.zeros_like(difference))
    distance = np.abs(difference)
    p_values = np.where(distance <= rounding, 1.0, 0.0)
    varies = variance > 0
    p_values[varies] = 1.0
    threshold = float(special.ndtri(1 - alpha / 2)) * (1 - 1e-6) if 0 < alpha < 1 else 0.0
    asked = np.nonzero(varies & (distance >= threshold * np.sqrt(variance)))
    total = variance[asked]
    # In fractions of the whole, so that tiny variances do not underflow when they are squared.
    shares = np.zeros_like(total)
    for part, freedom in parts:
        of_pair = freedom if isinstance(freedom, int) else freedom[asked]
        shares += (part[asked] / total) ** 2 / of_pair
    p_values[asked] = 2 * special.stdtr(1 / shares, -distance[asked] / np.sqrt(total))
    return p_values
