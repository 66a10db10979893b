"""The one engine of tests: whether two figures differ, for one pair or for all pairs of a column; and ranks from that.

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
p-value stands: of two groups of seeds of one model it keeps its level. (Different models of very different spread, the
wider one with fewer seeds, may still separate in 6 to 9 %: give them equal numbers of seeds.)
"""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations_with_replacement
from typing import Any, Literal, NamedTuple, Self, get_args

import numpy as np
import numpy.typing as npt
from scipy import special

from harness.boards.figures import ROUNDING, Floats, Integers, Measured, deviation, pair_images

Basis = Literal["seeds x images", "seeds", "images", "resampling"]

ALPHA = 0.05

_CHUNK, _FEW = 64, 1000  # rows that are tested against all others at once; of which all tests are in memory at once
_LEAST, _BIN_BITS = 2.0**-60, 44  # below it, p-values share a bin; others do that differ by less than 0.4 %
_CANCELLED = 1e-4  # of |a|^2 + |b|^2: above it, the product keeps twelve of sixteen digits
_REVERSED = "another training might reverse the result"
_SAYS: dict[Basis, str] = {
    "seeds x images": "seeds x images",
    "seeds": "seeds alone: there are no scores per image",
    "images": f"images alone: a model with one seed, of which {_REVERSED}",
    "resampling": f"resampling alone: a row with one seed, whose training variance is unseen, so that {_REVERSED}",
}


@dataclass(frozen=True)
class Comparison:
    """Whether two models differ: the first one's mean minus the second's, over the images that both scored."""

    difference: float
    standard_error: float
    degrees_of_freedom: float  # infinite where nothing varies, and for a normal test
    p_value: float  # two-sided
    interval: tuple[float, float]  # 95 %
    basis: Basis  # what the test generalises to


@dataclass(frozen=True)
class RankInterval:
    """The ranks that a model may have: both ends included, 1 is best. Ties are not transitive, so print both ends."""

    best: int
    worst: int

    def __str__(self) -> str:
        return str(self.best) if self.best == self.worst else f"{self.best}–{self.worst}"


@dataclass(frozen=True)
class Ranks:
    """Rank intervals in the order of the figures, and what the ``num_pairs`` tests between them rest on."""

    intervals: tuple[RankInterval, ...] = ()
    bases: tuple[Basis, ...] = ()
    num_pairs: int = 0
    untested: int = 0

    @property
    def sentence(self) -> str:
        """What the ranks rest on."""
        if not self.num_pairs and not self.untested:
            return "A single row is ranked: there is nothing to test."
        bases = "; or on ".join(_SAYS[basis] for basis in self.bases) or "nothing"
        untested = f" {self.untested} pairs could not be tested and count as not told apart." if self.untested else ""
        pairs = "pair" if self.num_pairs == 1 else "pairs"
        return f"Ranks at alpha = {ALPHA:g}, Holm over {self.num_pairs} {pairs}. The tests rest on {bases}.{untested}"


def rank(figures: Sequence[Measured]) -> Ranks:
    """Ranks K figures of one quantity: from 1 + the number proven better to K - the number proven worse.

    The chance of any false claim on the board is at most ``ALPHA``. A pair that cannot be tested is not told apart.
    """
    number, num_tested, found = len(figures), 0, set[Basis]()
    kinds, codes = np.unique([figure.kind for figure in figures], return_inverse=True)
    decided, won, lost = decides(kinds[:, None], kinds), np.zeros(number, np.int64), np.zeros(number, np.int64)
    parts = [*compare_pairs(figures, alpha=ALPHA)] if number <= _FEW else None
    for tests in rejected(lambda: parts or compare_pairs(figures, alpha=ALPHA), ALPHA):
        proven = decided[codes[tests.lower], codes[tests.higher]]
        won += np.bincount(tests.lower[proven], minlength=number)
        lost += np.bincount(tests.higher[proven], minlength=number)
        num_tested, found = num_tested + tests.num_tested, found | tests.bases
    ends = zip(lost.tolist(), won.tolist(), strict=True)
    intervals = tuple(RankInterval(1 + worse, number - better) for worse, better in ends)
    bases = tuple(basis for basis in get_args(Basis) if basis in found)
    return Ranks(intervals, bases, num_tested, number * (number - 1) // 2 - num_tested)


def decides(lower: npt.ArrayLike, higher: npt.ArrayLike) -> npt.NDArray[np.bool_]:
    """Tells for pairs of kinds whether a significantly lower figure is proven better, where lower is better.

    - Equal kinds compare by value: exact values, bounds as the promises that they are, estimates as estimates.
    - An upper bound below an exact value is better, for its true value is lower still.
    - An exact value below an upper bound proves nothing: the bound may hide a better model.
    - Any other mixture is left unordered.
    """
    low, high = np.asarray(lower, dtype=object), np.asarray(higher, dtype=object)
    return np.asarray((low == high) | ((low == "upper bound") & (high == "exact")), dtype=bool)


class PairTests(NamedTuple):
    """The tests of some pairs of figures, and those P of which the p-value is small enough to be kept."""

    lower: Integers  # (P,) which of a pair has the lower mean
    higher: Integers  # (P,)
    p_values: Floats  # (P,) not adjusted
    num_tested: int  # of how many pairs there is a test
    bases: frozenset[Basis]

    def part(self, which: npt.NDArray[Any]) -> Self:
        """Returns some of what is kept, by a mask or by places."""
        return self._replace(lower=self.lower[which], higher=self.higher[which], p_values=self.p_values[which])

    @classmethod
    def joined(cls, parts: Iterable[Self]) -> Self:
        """Returns the tests of all parts."""
        nothing = cls(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0), 0, frozenset())
        lower, higher, p_values, numbers, bases = zip(nothing, *parts, strict=True)
        arrays = np.concatenate(lower), np.concatenate(higher), np.concatenate(p_values)
        return cls(*arrays, sum(numbers), frozenset().union(*bases))


def rejected(read: Callable[[], Iterable[PairTests]], alpha: float) -> Iterator[PairTests]:
    """Yields what Holm's (1979) method rejects, part by part: any is false with a chance of at most ``alpha``.

    The i-th smallest of m p-values is rejected if it and all before it are at most alpha / (m - i + 1). All of them may
    be more than memory holds: ``read`` gives the tests, of p-values up to ``alpha``, twice. First they are counted in
    narrow bins, which says of all bins but a few that they are rejected, or come after one that is not; then the few
    are sorted.
    """
    first, last = np.array([_LEAST, alpha]).view(np.int64) >> _BIN_BITS
    edges = (np.arange(first, last + 2) << _BIN_BITS).view(np.float64)
    counts, number = np.zeros(len(edges) - 1, np.int64), 0
    for tests in read():
        bins = np.maximum((tests.p_values.view(np.int64) >> _BIN_BITS) - first, 0)
        counts, number = counts + np.bincount(bins, minlength=len(counts)), number + tests.num_tested
    left = number - (np.cumsum(counts) - counts)  # by bin: m - i + 1 of its smallest
    may_stop, stops = ((ends * left > alpha) & (counts > 0) for ends in (edges[1:], edges[:-1]))
    sure, end = (int(np.argmax(np.append(found, True))) for found in (may_stop, stops))
    few = list[PairTests]()
    for tests in read():
        yield tests.part(tests.p_values < edges[sure])
        few.append(tests.part((edges[sure] <= tests.p_values) & (tests.p_values < edges[end])))
    tests = PairTests.joined(few)._replace(num_tested=0)
    order = np.argsort(tests.p_values, kind="stable")
    allowed = tests.p_values[order] * (number - counts[:sure].sum() - np.arange(len(order))) <= alpha
    yield tests.part(order[: len(order) if allowed.all() else int(np.argmin(allowed))])


def compare(a: Measured, b: Measured) -> Comparison | None:
    """Tests whether two figures differ: a less b. None where they share fewer than two images, or nothing varies."""
    pairs = (None, None) if a.matrix is None or b.matrix is None else pair_images(a.matrix.images, b.matrix.images)
    if pairs[0] is not None and len(pairs[0]) < 2:
        return None
    tested = _test(_rows_of([a], pairs[0]), _rows_of([b], pairs[1]))
    difference, variance, freedom, p_value = (float(array[0, 0]) for array in tested[:4])
    if math.isnan(p_value):
        return None
    error = math.sqrt(variance)
    quantile = special.ndtri(0.975) if math.isinf(freedom) else special.stdtrit(freedom, 0.975)
    interval = (difference - float(quantile) * error, difference + float(quantile) * error)
    return Comparison(difference, error, freedom, p_value, interval, tested.bases[0 if tested.crossed[0, 0] else 1])


def compare_pairs(figures: Sequence[Measured], *, alpha: float) -> Iterator[PairTests]:
    """Tests every pair of K figures, a part of the pairs at a time; p-values above ``alpha`` are not kept."""
    for places_a, places_b, rows_a, rows_b in _blocks(figures):
        is_triangle = rows_a is rows_b
        for start in range(0, len(places_a), _CHUNK):
            some, others = slice(start, start + _CHUNK), slice(start if is_triangle else 0, None)
            tested = _test(_part(rows_a, some), _part(rows_b, others))
            a, b = np.broadcast_arrays(places_a[some, None], places_b[others])
            is_tested = ~np.isnan(tested.p_values) & ((a < b) | (not is_triangle))
            where = (is_tested & tested.crossed, is_tested & ~tested.crossed)
            bases = frozenset(basis for basis, found in zip(tested.bases, where, strict=True) if found.any())
            claimed = is_tested & (tested.p_values <= alpha) & (tested.difference != 0)
            is_lower, first, second = tested.difference[claimed] < 0, a[claimed], b[claimed]
            pairs = np.where(is_lower, first, second), np.where(is_lower, second, first)
            yield PairTests(*pairs, tested.p_values[claimed], int(is_tested.sum()), bases)


class PairDifferences(NamedTuple):
    """(K, K) of K figures: the row's less the column's, where lower is better; NaN where there is no test.

    ``p_values`` are adjusted by Holm's method over all pairs. An interval ``difference ± half_width`` holds for all
    pairs at once with 95 %, by Bonferroni's inequality: what it proves Holm's method proves too.
    """

    difference: Floats
    half_width: Floats
    p_values: Floats


def differences(figures: Sequence[Measured]) -> PairDifferences:
    """Returns by how much all figures differ: of few figures, for it holds all pairs."""
    shape = (len(figures), len(figures))
    difference, variance, freedom, p_values = (np.full(shape, np.nan) for _ in range(4))
    for places_a, places_b, rows_a, rows_b in _blocks(figures):
        tested, there = _test(rows_a, rows_b), np.ix_(places_a, places_b)
        for into, found in ((variance, tested.variance), (freedom, tested.freedom), (p_values, tested.p_values)):
            into[there], into.T[there] = found, found
        difference[there], difference.T[there] = tested.difference, -tested.difference
    p_values[np.diag_indices(len(figures))] = np.nan
    first, second = np.nonzero(np.triu(~np.isnan(p_values)))
    adjusted = holm(p_values[first, second])
    p_values[first, second], p_values[second, first] = adjusted, adjusted
    level = 1 - ALPHA / 2 / max(len(first), 1)
    quantile = np.where(np.isinf(freedom), special.ndtri(level), special.stdtrit(freedom, level))
    return PairDifferences(difference, quantile * np.sqrt(variance), p_values)


def holm(p_values: Floats) -> Floats:
    """Returns (P,) p-values adjusted by Holm's method: at most alpha where it rejects at alpha."""
    order, number = np.argsort(p_values, kind="stable"), len(p_values)
    adjusted = np.empty(number)
    adjusted[order] = np.minimum(np.maximum.accumulate(p_values[order] * (number - np.arange(number))), 1.0)
    return adjusted


class _Rows(NamedTuple):
    """K rows on one set of images; or without images."""

    number: Integers  # (K,) of seeds
    mean: Floats  # (K,)
    deviation: Floats  # (K,) of the seeds' means, zero for one seed
    largest: Floats  # (K,) of the absolute scores
    error: Floats  # (K,) by resampling; NaN if unknown
    means: Floats | None = None  # (K, N) of the images over seeds, less the row's mean


def _part(rows: _Rows, part: slice | tuple[slice, None]) -> _Rows:
    arrays: Iterator[Any] = (array[part] for array in rows if array is not None)
    return _Rows(*arrays)


def _blocks(figures: Sequence[Measured]) -> Iterator[tuple[Integers, Integers, _Rows, _Rows]]:
    """Splits all pairs into rectangles of rows that share their images, and triangles, whose sides are one object."""
    sets: dict[bytes, list[int]] = {}
    for place, figure in enumerate(figures):
        sets.setdefault(b"" if figure.matrix is None else figure.matrix.images.tobytes(), []).append(place)
    bare = sets.pop(b"", [])
    for a, b in combinations_with_replacement(sets, 2):
        first, second = np.frombuffer(a, np.int64), np.frombuffer(b, np.int64)
        columns = (np.arange(len(first)),) * 2 if a is b else pair_images(first, second)
        if len(columns[0]) > 1:
            rows = _rows_of([figures[place] for place in sets[a]], columns[0])
            others = rows if a is b else _rows_of([figures[place] for place in sets[b]], columns[1])
            yield np.array(sets[a]), np.array(sets[b]), rows, others
    if bare:
        rows = _rows_of([figures[place] for place in bare])
        yield np.array(bare), np.array(bare), rows, rows
        if scored := [place for some in sets.values() for place in some]:
            yield np.array(bare), np.array(scored), rows, _rows_of([figures[place] for place in scored])


def _rows_of(figures: Sequence[Measured], columns: Integers | None = None) -> _Rows:
    """Rows by one figure for each seed; or by their scores per image, of which ``columns`` are taken, in that order."""
    scores, means = [figure.values[:, None] for figure in figures], None
    if columns is not None:
        scores = [np.take(figure.matrix.values, columns, axis=1) for figure in figures if figure.matrix is not None]
        means = np.stack([of_row.mean(axis=0) for of_row in scores])
        means -= means.mean(axis=1, keepdims=True)
    values = [of_row.mean(axis=1) for of_row in scores]
    return _Rows(
        number=np.array([len(of_row) for of_row in values]),
        mean=np.array([of_row.mean() for of_row in values]),
        deviation=np.array([deviation(of_row) if len(of_row) > 1 else 0.0 for of_row in values]),
        largest=np.array([np.abs(of_row).max() for of_row in scores]),
        error=np.array([figure.error for figure in figures], dtype=np.float64),  # NaN for None
        means=means,
    )


class _Tested(NamedTuple):
    """(A, B) arrays: each of A rows against each of B. The p-value is NaN where there is no test."""

    difference: Floats
    variance: Floats
    freedom: Floats
    p_values: Floats
    crossed: npt.NDArray[np.bool_]  # whether both have several seeds
    bases: tuple[Basis, Basis]  # where they have, and where not


def _test(a: _Rows, b: _Rows) -> _Tested:
    """Tests each of A rows against each of B."""
    a = _part(a, (slice(None), None))  # (A, 1), against (B,)
    rounding = ROUNDING * np.maximum(a.largest, b.largest)  # (A, B), as all below
    difference = a.mean - b.mean
    number_a, number_b = np.broadcast_arrays(a.number, b.number)
    crossed = (number_a > 1) & (number_b > 1)
    from_a, from_b = (
        np.where(crossed & (side.deviation > rounding), side.deviation**2 / side.number, 0.0) for side in (a, b)
    )
    parts = [(from_a, np.maximum(number_a - 1, 1)), (from_b, np.maximum(number_b - 1, 1))]
    others: list[tuple[Floats, Integers]] = []
    if a.means is not None and b.means is not None:
        num_images = b.means.shape[1]
        variances = _squared_distances(a.means[:, 0], b.means) / (num_images - 1)
        of_images = np.where(variances <= rounding * rounding, 0.0, variances / num_images)
        others = [(of_images, np.full_like(number_a, num_images - 1))]
    found = _student(difference, [*parts, *others], rounding)
    unequal = (number_a != number_b) & (from_a > 0) & (from_b > 0)
    if unequal.any():
        free = np.maximum(number_a + number_b - 2, 1)
        squares = from_a * number_a * (number_a - 1) + from_b * number_b * (number_b - 1)
        pooled = squares / free * (1 / number_a + 1 / number_b)
        together = _student(difference, [(pooled, free), *others], rounding)
        larger = unequal & (together[2] > found[2])
        found = _where(larger, together, found)
    if others:
        return _Tested(difference, *found, crossed, ("seeds x images", "images"))
    of_errors = np.square(a.error) + np.square(b.error)
    with np.errstate(divide="ignore", invalid="ignore"):
        normal = special.erfc(np.abs(difference) / np.sqrt(of_errors) / math.sqrt(2))
    normal[(difference == 0) & (of_errors == 0)] = 1.0
    found = _where(crossed, found, (of_errors, np.full_like(normal, math.inf), normal))
    return _Tested(difference, *found, crossed, ("seeds", "resampling"))


def _squared_distances(rows: Floats, others: Floats) -> Floats:
    """(A, B): |row - other|^2 for (A, N) and (B, N): by their products; where that would cancel, in full."""
    sizes = np.einsum("an,an->a", rows, rows)[:, None] + np.einsum("bn,bn->b", others, others)
    squares = sizes - 2 * rows @ others.T
    near = squares < _CANCELLED * sizes
    for row in np.flatnonzero(near.any(axis=1)):
        differences = others[near[row]] - rows[row]
        squares[row, near[row]] = np.einsum("kn,kn->k", differences, differences)
    return np.asarray(squares, dtype=np.float64)


_Student = tuple[Floats, Floats, Floats]  # variance, degrees of freedom, p-values


def _student(difference: Floats, parts: Sequence[tuple[Floats, Integers]], rounding: Floats) -> _Student:
    """Variance, Satterthwaite's degrees of freedom and two-sided p-values of Student's t over (variance, freedom)."""
    variance = sum((part for part, _ in parts), np.zeros_like(difference))
    p_values = np.where(np.abs(difference) <= rounding, 1.0, 0.0)
    freedom = np.full_like(difference, math.inf)
    varies = variance > 0
    total = variance[varies]
    # In fractions of the whole, so that tiny variances do not underflow when they are squared.
    freedom[varies] = 1 / sum((part[varies] / total) ** 2 / free[varies] for part, free in parts)
    p_values[varies] = 2 * special.stdtr(freedom[varies], -np.abs(difference[varies]) / np.sqrt(total))
    return variance, freedom, p_values


def _where(condition: npt.NDArray[np.bool_], first: _Student, second: _Student) -> _Student:
    variance, freedom, p_values = (np.where(condition, *both) for both in zip(first, second, strict=True))
    return variance, freedom, p_values
