"""Counts of samples against probabilities, by tests that hold far into their tails."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from scipy import optimize, stats
from torch import Tensor

from harness.auditing.trial import POWER

LEAST_EXPECTED = 10.0


def chi_square(counts: Tensor, probs: Tensor, errors: Tensor | None = None) -> tuple[float, int]:
    """Pearson's test of counts (M,) against probabilities (M,), themselves known to within standard errors (M,).

    Cells that expect fewer than ``LEAST_EXPECTED`` are one cell.

    Returns:
        The p-value and the number of degrees of freedom; 1.0 and 0 where one cell is left.
    """
    total = float(counts.sum())
    variances = torch.zeros_like(probs) if errors is None else errors.square()
    expected = total * probs
    observed, expected, extra = _pool_rare(expected, LEAST_EXPECTED, counts, expected, total**2 * variances)
    if len(observed) < 2:
        return 1.0, 0
    statistic = float(((observed - expected).square() / (expected + extra)).sum())
    freedom = len(observed) - (errors is None)
    return float(stats.chi2.sf(statistic, freedom)), freedom


def _pool_rare(expected: Tensor, least: float, *tables: Tensor) -> list[Tensor]:
    """Returns tables (M,) as float64, with the cells that are expected least often as one, which is so ``least`` times.

    All cells that are expected less often are pooled, and more until that is reached.
    """
    order = torch.argsort(expected)
    expected = expected[order]
    rare = int((expected < least).sum())
    while 0 < rare < len(expected) and float(expected[:rare].sum()) < least:
        rare += 1
    ordered = [table[order].double() for table in tables]
    return [torch.cat([table[:rare].sum()[None], table[rare:]]) if rare else table for table in ordered]


def same_distribution(first: Tensor, second: Tensor) -> tuple[float, int]:
    """The chi-square test that two vectors of counts (M,) come from one distribution: p-value, degrees of freedom."""
    one, two = _pool_rare((first + second).double(), 2 * LEAST_EXPECTED, first, second)
    if len(one) < 2:
        return 1.0, 0
    ratio = math.sqrt(float(two.sum()) / float(one.sum()))
    statistic = float(((one * ratio - two / ratio).square() / (one + two)).sum())
    return float(stats.chi2.sf(statistic, len(one) - 1)), len(one) - 1


def smallest_total_variation(freedom: int, total: float) -> Callable[[float], str]:
    """Returns, for a threshold, the total variation that a chi-square test sees, where a defect is spread evenly."""

    def words(threshold: float) -> str:
        if freedom == 0:
            return "nothing: there is one image"
        critical = stats.chi2.isf(threshold, freedom)
        upper = 10 * (critical + 10)
        seen = optimize.brentq(lambda far: stats.ncx2.sf(critical, freedom, far) - POWER, 1e-6, upper)
        return f"a total variation of {0.5 * math.sqrt(seen / total):.2g}, spread evenly"

    return words


def total_variation(counts: Tensor, probs: Tensor) -> float:
    """Returns half the sum of the absolute differences of frequencies and probabilities."""
    return float(0.5 * (counts.double() / float(counts.sum()) - probs).abs().sum())
