"""Two ways to compute the same, timed in turn, round by round: what disturbs the machine disturbs both."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from pytest_benchmark.fixture import BenchmarkFixture


@dataclass(frozen=True)
class Ratio:
    """How many times as long as another call took, the ratio of each round by itself.

    Attributes:
        median, low, high: over rounds; low and high are the smallest and the largest.
        baseline_seconds, seconds: medians.
    """

    median: float
    low: float
    high: float
    baseline_seconds: float
    seconds: float

    @classmethod
    def of(cls, baseline: Sequence[float], own: Sequence[float]) -> Ratio:
        ratios = [one / other for one, other in zip(baseline, own, strict=True)]
        return cls(
            statistics.median(ratios), min(ratios), max(ratios), statistics.median(baseline), statistics.median(own)
        )

    def __str__(self) -> str:
        digits = 0 if self.median >= 20 else 2
        return (
            f"{self.median:.{digits}f}x ({self.low:.{digits}f} to {self.high:.{digits}f}; "
            f"{self.baseline_seconds:.3g} s against {self.seconds:.3g} s)"
        )


def side_by_side(benchmark: BenchmarkFixture, call: Callable[[], object], baseline: Callable[[], object], *,
                 rounds: int, times: float = 1.0) -> Ratio:  # fmt: skip
    """Times ``baseline`` before every round of ``benchmark``, and returns how much longer it takes.

    Args:
        benchmark: the fixture; it holds the times of ``call``.
        call, baseline: what is compared; each is called once before.
        rounds: how often.
        times: what the baseline's time stands for, where it is a part of the whole.
    """
    seconds: list[float] = []

    def timed() -> None:
        started = time.perf_counter()
        baseline()
        seconds.append((time.perf_counter() - started) * times)

    benchmark.pedantic(call, setup=timed, rounds=rounds, warmup_rounds=1)
    ratio = Ratio.of(seconds[-rounds:], benchmark.stats.stats.data)
    benchmark.extra_info["ratio"] = ratio.median
    benchmark.extra_info["ratios of rounds"] = [ratio.low, ratio.high]
    return ratio
