"""Ranks of figures that have no scores per image, such as FID: on seeds where rows have several, else on resampling."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
import numpy.typing as npt
from scipy import special

from harness.boards.statistics import RankInterval
from harness.report.pair_tests import PairTests, compare_pairs
from harness.report.ranking import ALPHA

Floats = npt.NDArray[np.float64]
SeedBasis = Literal["seeds", "resampling"]

_SAYS: dict[SeedBasis, str] = {
    "seeds": "seeds",
    "resampling": "resampling alone: a row with one seed, whose training variance is unseen, so that another training "
    "might reverse the result",
}


@dataclass(frozen=True)
class Replicates:
    """One row's figures, lower is better.

    Attributes:
        values: (S,) float64, one a seed.
        error: the resampling standard error of their mean; None if unknown.
    """

    values: Floats
    error: float | None
    matrix: ClassVar[None] = None


@dataclass(frozen=True)
class SeedRanks:
    """Rank intervals in the order of the rows, and what the tests between them rest on.

    Attributes:
        intervals: one a row.
        bases: of the tests that were made, each once.
        num_pairs, untested: how many pairs were tested, and how many could not be.
    """

    intervals: tuple[RankInterval, ...] = ()
    bases: tuple[SeedBasis, ...] = ()
    num_pairs: int = 0
    untested: int = 0

    @property
    def basis(self) -> str:
        """The bases as one value for a table, empty without a test."""
        return "; ".join(self.bases)

    @property
    def sentence(self) -> str:
        """What the ranks rest on."""
        if not self.num_pairs and not self.untested:
            return "A single row is ranked: there is nothing to test."
        untested = f" {self.untested} pairs could not be tested and count as not told apart." if self.untested else ""
        pairs = "pair" if self.num_pairs == 1 else "pairs"
        bases = "; or on ".join(_SAYS[basis] for basis in self.bases) or "nothing"
        return f"Ranks at alpha = {ALPHA:g}, Holm over {self.num_pairs} {pairs}. The tests rest on {bases}.{untested}"


def rank_replicates(rows: Sequence[Replicates]) -> SeedRanks:
    """Ranks K rows: from 1 + the number proven better to K - the number proven worse.

    Two rows of several seeds each are compared as ``statistics.compare_seeds`` does. If a row has one seed,
    the test is z = difference / sqrt(e_1^2 + e_2^2) with the resampling standard errors e. Both hold the error of the
    reference images, which all rows share: its covariance is left out, so that z is too small rather than too large.
    Holm's (1979) method over all pairs keeps the chance of any false claim at ``ALPHA``.
    """
    seeds = compare_pairs(rows, alpha=ALPHA)
    resampled = _compare_resampled(rows)
    tests = PairTests(
        np.concatenate([seeds.lower, resampled.lower]),
        np.concatenate([seeds.higher, resampled.higher]),
        np.concatenate([seeds.p_values, resampled.p_values]),
        seeds.num_tested + resampled.num_tested,
        frozenset(),
    )
    proven = tests.rejected(ALPHA)
    won = np.bincount(tests.lower[proven], minlength=len(rows)).tolist()
    lost = np.bincount(tests.higher[proven], minlength=len(rows)).tolist()
    intervals = tuple(RankInterval(1 + lost[k], len(rows) - won[k]) for k in range(len(rows)))
    made: dict[SeedBasis, PairTests] = {"seeds": seeds, "resampling": resampled}
    bases = tuple(basis for basis, of_it in made.items() if of_it.num_tested)
    return SeedRanks(intervals, bases, tests.num_tested, len(rows) * (len(rows) - 1) // 2 - tests.num_tested)


def _compare_resampled(rows: Sequence[Replicates]) -> PairTests:
    """Tests every row of one seed against those of several, and against the later ones of one."""
    number = np.array([len(row.values) for row in rows], dtype=np.int64)
    mean = np.array([row.values.mean() for row in rows], dtype=np.float64)
    errors = np.array([math.nan if row.error is None else row.error for row in rows], dtype=np.float64)
    num_tested = 0
    lower, higher = [np.zeros(0, dtype=np.int64)], [np.zeros(0, dtype=np.int64)]
    kept = [np.zeros(0, dtype=np.float64)]
    for k in np.nonzero(number == 1)[0]:
        others = np.nonzero((number > 1) | (np.arange(len(rows)) > k))[0]
        difference, error = mean[k] - mean[others], np.hypot(errors[k], errors[others])
        with np.errstate(divide="ignore", invalid="ignore"):
            p_values = special.erfc(np.abs(difference) / error / math.sqrt(2))
        p_values[(difference == 0) & (error == 0)] = 1.0
        num_tested += int((~np.isnan(p_values)).sum())
        close = p_values <= ALPHA  # NaN, without an error, is not
        lower.append(np.where(difference < 0, k, others)[close])
        higher.append(np.where(difference < 0, others, k)[close])
        kept.append(p_values[close])
    return PairTests(np.concatenate(lower), np.concatenate(higher), np.concatenate(kept), num_tested, frozenset())
