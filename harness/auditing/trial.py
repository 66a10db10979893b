"""One measurement of a check, held against what it should be: exactly, or by a test of a known size."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from scipy import stats

POWER = 0.95
"""The smallest defect is the one that is seen with this probability."""


class NotApplicable(Exception):
    """A check does not apply to this model, or cannot be made here; the message says why."""


@dataclass(frozen=True)
class Trial:
    """One measurement. Make it by ``exact``, ``z_test``, ``p_value`` or ``broken``.

    Attributes:
        where: sample space, state, sampler, in words.
        quantity: what is measured, in words.
        statistic: a deviation (fails above ``tolerance``), or a p-value (fails below its share of the error rate).
        tolerance: of a deviation; None for a p-value.
        smallest_defect: maps the threshold to words.
        meaning: what is likely wrong if this fails.
        always_fails: what was found cannot be right, whatever the statistic.
    """

    where: str
    quantity: str
    statistic: float | None
    tolerance: float | None
    smallest_defect: Callable[[float], str]
    meaning: str
    always_fails: bool = False

    @classmethod
    def exact(
        cls, where: str, quantity: str, deviation: float, *, tolerance: float = 0, meaning: str, unit: str = ""
    ) -> Trial:
        """A count, or up to rounding: ``deviation`` is the distance from what is right, NaN fails."""
        words = f"{unit and ' '}{unit}"
        return cls(where, quantity, float(deviation), tolerance, lambda t: f"{t or 1:.1g}{words}", meaning)

    @classmethod
    def z_test(
        cls,
        where: str,
        quantity: str,
        estimate: float,
        standard_error: float,
        *,
        side: int = 0,
        unit: str = "",
        meaning: str,
        rounding: float = 0.0,
    ) -> Trial:
        """A mean that is zero (``side`` 0), at least zero (``side`` -1 fails below) or at most zero (+1 fails above).

        Args:
            where, quantity, meaning: see the class.
            estimate: the mean.
            standard_error: of it; zero allows the estimate to differ from zero by ``rounding`` alone.
            side: which deviations fail.
            unit: of the estimate, for the smallest defect.
            rounding: deviations up to this are none.
        """
        excess = {0: abs(estimate), -1: -estimate, 1: estimate}[side]
        words = f"{unit and ' '}{unit}"
        if math.isnan(estimate) or math.isnan(standard_error):
            return cls(where, quantity, math.nan, None, lambda t: "", meaning, always_fails=True)
        if excess <= rounding:
            p = 1.0
        elif standard_error <= 0:
            p = 0.0
        else:
            p = float(stats.norm.sf((excess - rounding) / standard_error)) * (1 if side else 2)

        def smallest(threshold: float) -> str:
            z = stats.norm.isf(threshold if side else threshold / 2) + stats.norm.isf(1 - POWER)
            return f"{z * standard_error + rounding:.2g}{words}"

        return cls(where, quantity, min(1.0, p), None, smallest, meaning)

    @classmethod
    def p_value(
        cls, where: str, quantity: str, p: float, *, smallest_defect: Callable[[float], str], meaning: str
    ) -> Trial:
        """Any test that has a p-value, valid far into its tail; NaN fails."""
        return cls(where, quantity, p, None, smallest_defect, meaning, always_fails=math.isnan(p))

    @classmethod
    def broken(cls, where: str, meaning: str) -> Trial:
        """What was found cannot be right: an exception, a wrong shape, NaN."""
        return cls(where, "", None, None, lambda t: "", meaning, always_fails=True)

    def fails(self, error_rate: float) -> bool:
        """Whether this is a defect, where a right model may fail with probability ``error_rate``."""
        if self.always_fails or self.statistic is None:
            return self.always_fails
        if self.tolerance is None:
            return self.statistic < error_rate
        return not self.statistic <= self.tolerance

    def threshold(self, error_rate: float) -> float:
        """What the statistic is held against."""
        return error_rate if self.tolerance is None else self.tolerance

    def severity(self, error_rate: float) -> float:
        """How far out this is, to find the worst: above one is a failure."""
        if self.always_fails or self.statistic is None or math.isnan(self.statistic):
            return math.inf if self.always_fails else 0.0
        if self.tolerance is None:
            return math.log(max(self.statistic, 1e-300)) / math.log(error_rate)
        return self.statistic / self.tolerance if self.tolerance > 0 else (math.inf if self.statistic > 0 else 0.0)


@dataclass(frozen=True)
class Note:
    """What a check found that is no failure, and that a reader should know."""

    text: str


Evidence = Trial | Note
"""What a check yields."""
