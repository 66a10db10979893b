"""One measurement of a check, held against what it should be: exactly, or by a test that holds far into its tail."""

import math
import traceback
from collections.abc import Callable
from dataclasses import KW_ONLY, dataclass
from typing import Self

import torch
from scipy import optimize, stats
from torch import Tensor

POWER = 0.95  # the smallest defect is the one that is seen with this probability
LEAST_EXPECTED = 10.0  # cells of a chi-square test that expect fewer counts are pooled
NOT_DECIDED = "not decided"  # of weights that no training reaches, or where another check has told the exception
NOT_REACHED = "not reached within the budget"  # what a check leaves out of an expensive model
NOT_FINITE = "a score or a weight there is infinite or NaN"


class NotApplicable(Exception):
    """A check does not apply to this model, or cannot be made here; the message says why."""


@dataclass(frozen=True)
class Trial:
    """One measurement: made as it is, that of any test with a p-value that is valid far into its tail.

    The statistic is a deviation (fails above ``tolerance``), or a p-value (fails below its share of the error rate,
    where ``tolerance`` is None). NaN fails, and so does None: what was found cannot be right.
    """

    where: str  # sample space, state and sampler
    quantity: str  # what is measured there
    statistic: float | None
    _: KW_ONLY
    meaning: str  # what is likely wrong if this fails
    smallest_defect: Callable[[float], str] = str  # maps the threshold to words
    tolerance: float | None = None
    cause: str = ""  # of an exception: its type, and the line of code that raised it

    @classmethod
    def exact(
        cls, where: str, quantity: str, deviation: float, *, tolerance: float = 0, meaning: str, unit: str = ""
    ) -> Self:
        """A count, or what is right up to rounding: ``deviation`` is the distance from what is right."""
        if math.isnan(deviation):
            return cls.broken(where, f"{quantity}: NaN; {NOT_FINITE}")
        smallest = f"{tolerance or 1:.1g} {unit}".rstrip()
        return cls(
            where, quantity, float(deviation), meaning=meaning, smallest_defect=lambda _: smallest, tolerance=tolerance
        )

    @classmethod
    def z_test(
        cls, where: str, quantity: str, estimate: float, standard_error: float, *, side: int = 0, unit: str = "",
        meaning: str, rounding: float = 0.0,
    ) -> Self:  # fmt: skip
        """A mean that is zero (``side`` 0), at least zero (``side`` -1 fails below) or at most zero (+1 fails above).

        Deviations up to ``rounding`` are none: where the standard error is zero, all others fail.
        """
        excess, tails = {0: abs(estimate), -1: -estimate, 1: estimate}[side] - rounding, 1 if side else 2
        if math.isnan(estimate) or excess == math.inf or (math.isnan(standard_error) and excess > 0):
            return cls.broken(where, f"{quantity}: {estimate:.3g} ± {standard_error:.3g}; {NOT_FINITE}")
        if excess <= 0 or standard_error <= 0:
            p = float(excess <= 0)
        else:
            p = min(1.0, tails * float(stats.norm.sf(excess / standard_error)))

        def smallest(threshold: float) -> str:
            if math.isnan(standard_error):
                return "none: the mean is infinite"
            z = stats.norm.isf(threshold / tails) + stats.norm.isf(1 - POWER)
            return f"{z * standard_error + rounding:.2g} {unit}".rstrip()

        return cls(where, quantity, p, meaning=meaning, smallest_defect=smallest)

    @classmethod
    def follows(
        cls, where: str, quantity: str, counts: Tensor, probs: Tensor, errors: Tensor | None = None, *, meaning: str,
        both_tails: bool = False,
    ) -> Self:  # fmt: skip
        """Counts (M,) against probabilities (M,) by ``chi_square``; how far they are apart is added to the quantity."""
        p, freedom = chi_square(counts, probs, errors, both_tails=both_tails)
        if math.isnan(p):
            return cls.broken(where, f"{quantity}: NaN; {NOT_FINITE}")
        total = float(counts.sum())
        words = f"{quantity} (total variation {float(0.5 * (counts.double() / total - probs).abs().sum()):.3g})"
        return cls(where, words, p, meaning=meaning, smallest_defect=smallest_total_variation(freedom, total))

    @classmethod
    def broken(cls, where: str, meaning: str, error: BaseException | None = None) -> Self:
        """What was found cannot be right: a wrong shape, NaN, or an exception, known by where the model raised it."""
        lines = traceback.walk_tb(error.__traceback__ if error else None)
        causes = [f"{type(error)}, {frame.f_code}, line {line}" for frame, line in lines]
        return cls(where, "", None, meaning=meaning, cause=causes[-1] if causes else "")

    @property
    def is_random(self) -> bool:
        """Whether a right model may fail, so that it takes a share of the error rate."""
        return self.tolerance is None and self.statistic is not None and not math.isnan(self.statistic)

    def threshold(self, error_rate: float) -> float:
        """What the statistic is held against, where a right model may fail with probability ``error_rate``."""
        return error_rate if self.tolerance is None else self.tolerance

    def fails(self, error_rate: float) -> bool:
        """Whether this is a defect."""
        return self.severity(error_rate) > 1

    def severity(self, error_rate: float) -> float:
        """How far out this is, to find the worst: above one is a failure."""
        if self.statistic is None or math.isnan(self.statistic):
            return math.inf
        if self.tolerance is None:
            return math.log(max(self.statistic, 1e-300)) / math.log(error_rate)
        return self.statistic / self.tolerance if self.tolerance > 0 else (math.inf if self.statistic > 0 else 0.0)


Evidence = Trial | str  # what a check yields: a text is a note, no failure, but what a reader should know


def unlike(found: float, other: float) -> str:
    """Returns a number in words, with as many digits as it takes to tell it from another; six are the least."""
    return next((text for digits in range(6, 17) if float(text := f"{found:.{digits}g}") != other), repr(found))


def chi_square(
    counts: Tensor, probs: Tensor, errors: Tensor | None = None, *, both_tails: bool = False
) -> tuple[float, int]:
    """Pearson's test of counts (M,) against probabilities (M,) of known errors: p-value, degrees of freedom or 0.

    With ``both_tails`` counts may not be nearer to what is expected than independent draws are, either. In that tail
    counts are no normal deviates: each is taken to be half a count further away, the far side of its cell.
    """
    total = float(counts.sum())
    variances = torch.zeros_like(probs) if errors is None else errors.square()
    expected = total * probs
    observed, expected, extra = _pool_rare(expected, LEAST_EXPECTED, counts, expected, total**2 * variances)
    if len(observed) < 2:
        return 1.0, 0
    statistic = float(((observed - expected).square() / (expected + extra)).sum())
    freedom = len(observed) - (errors is None)
    further = ((observed - expected).abs() + 0.5).square() / (expected + extra)
    return _tail(statistic, float(further.sum()) if both_tails else None, freedom), freedom


def same_distribution(first: Tensor, second: Tensor, *, both_tails: bool = False) -> tuple[float, int]:
    """The chi-square test that two vectors of counts (M,) come from one distribution: p-value, degrees of freedom.

    With ``both_tails`` they may not be more alike than independent ones are, as in ``chi_square``.
    """
    one, two = _pool_rare((first + second).double(), 2 * LEAST_EXPECTED, first, second)
    if len(one) < 2:
        return 1.0, 0
    ratio = math.sqrt(float(two.sum()) / float(one.sum()))
    apart, step = (one * ratio - two / ratio).abs(), 0.5 * (ratio + 1 / ratio)  # half of what one count changes
    statistic, further = (float(((apart + more).square() / (one + two)).sum()) for more in (0.0, step))
    return _tail(statistic, further if both_tails else None, len(one) - 1), len(one) - 1


def _tail(statistic: float, further: float | None, freedom: int) -> float:
    """Returns the p-value of a chi-square statistic, two-sided where the lower tail has a statistic of its own."""
    upper = float(stats.chi2.sf(statistic, freedom))
    return upper if further is None else min(1.0, 2 * min(upper, float(stats.chi2.cdf(further, freedom))))


def _pool_rare(expected: Tensor, least: float, *tables: Tensor) -> list[Tensor]:
    """Returns tables (M,) in float64, all cells that expect less than ``least`` as one, and more until it does not."""
    order = torch.argsort(expected)
    expected = expected[order]
    rare = int((expected < least).sum())
    while 0 < rare < len(expected) and float(expected[:rare].sum()) < least:
        rare += 1
    ordered = [table[order].double() for table in tables]
    return [torch.cat([table[:rare].sum()[None], table[rare:]]) if rare else table for table in ordered]


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
