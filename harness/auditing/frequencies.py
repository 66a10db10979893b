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
    order = torch.argsort(probs)  # rare cells first, pooled until what is pooled is expected often enough
    expected = total * probs[order]
    rare = int((expected < LEAST_EXPECTED).sum())
    while 0 < rare < len(expected) and float(expected[:rare].sum()) < LEAST_EXPECTED:
        rare += 1
    cells = [_pool(values[order].double(), rare) for values in (counts.double(), total * probs, total**2 * variances)]
    observed, expected, extra = cells
    if len(observed) < 2:
        return 1.0, 0
    statistic = float(((observed - expected).square() / (expected + extra)).sum())
    freedom = len(observed) - (errors is None)
    return float(stats.chi2.sf(statistic, freedom)), freedom


def _pool(values: Tensor, rare: int) -> Tensor:
    return torch.cat([values[:rare].sum()[None], values[rare:]]) if rare else values


def same_distribution(first: Tensor, second: Tensor) -> tuple[float, int]:
    """The chi-square test that two vectors of counts (M,) come from one distribution: p-value, degrees of freedom."""
    both = (first + second).double()
    order = torch.argsort(both)
    rare = int((both[order] < 2 * LEAST_EXPECTED).sum())
    while 0 < rare < len(both) and float(both[order][:rare].sum()) < 2 * LEAST_EXPECTED:
        rare += 1
    one, two = (_pool(counts[order].double(), rare) for counts in (first, second))
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
