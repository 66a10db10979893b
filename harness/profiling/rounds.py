"""Timing several calls in interleaved rounds: what disturbs the machine disturbs all of them alike."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.utils.benchmark import timer

from harness.interface.sampling import Noise, SamplingTrace
from harness.profiling.certificate import Certificate
from harness.profiling.timing import Clock

_BLOCK_SECONDS = 0.02
_MOST_CALLS = 1000


@dataclass
class Contender:
    """A call that is timed against others, and what came out.

    Attributes:
        prepare: makes, before the clock runs, the noise of a round by its number; None where there is none to share.
        call: takes that noise and a trace to count in.
        certify: confirms what a call returned for a noise; None where there is nothing to confirm.
        part: so many of so many passes are what is timed, and stands for the whole; all of it by default.
        seconds: of one whole call, one value for each round.
        calls: how many calls a round has.
        warmed_up: False where the first call took longer than the budget and is the measurement.
        certificate: of the last image of every round, and of the warm-up.
        problem: why there is no figure: the exception.
        first_seconds: of the last call of the warm-up.
    """

    prepare: Callable[[int], Noise | None]
    call: Callable[[Noise | None, SamplingTrace], Tensor]
    certify: Callable[[Noise | None, Tensor], Certificate] | None = None
    part: tuple[int, int] | None = None
    seconds: list[float] = field(default_factory=list)
    calls: int = 1
    rounds: int = 0
    warmed_up: bool = True
    certificate: Certificate | None = None
    problem: Exception | None = None
    first_seconds: float | None = None
    _evaluations: int = 0
    _depth: int = 0
    _traced: int = 0

    @property
    def complete(self) -> bool:
        """Whether all of its rounds were timed."""
        return self.problem is not None or (self.rounds > 0 and len(self.seconds) >= self.rounds)

    @property
    def network_evaluations(self) -> float | None:
        """Evaluations of the network of one whole call, on average."""
        return self._whole(self._evaluations / self._traced) if self._evaluations else None

    @property
    def sequential_depth(self) -> float | None:
        """How many of them had to wait for one another, on average."""
        return self._whole(self._depth / self._traced) if self._depth else None

    def warm_up(self, rounds: int, budget_seconds: float, clock: Clock) -> None:
        """Calls once or twice, and plans as many rounds of as many calls as the budget holds."""
        first = self._timed(0, 1, clock)
        if self.problem is not None:
            return
        if first > budget_seconds:
            self.seconds, self.rounds, self.warmed_up, self.first_seconds = [self._whole(first)], 1, False, first
            return
        spent = one = first
        if first < budget_seconds / 4:
            one = self._timed(0, 1, clock)
            spent += one
        self.first_seconds = one
        self.calls = min(_MOST_CALLS, max(1, int(_BLOCK_SECONDS / max(one, 1e-9))))
        self.rounds = min(rounds, max(1, int((budget_seconds - spent) / max(one * self.calls, 1e-9))))

    def measure(self, number: int, clock: Clock) -> None:
        """Times one round, and confirms its images."""
        seconds = self._timed(number, self.calls, clock)
        if self.problem is None:
            self.seconds.append(self._whole(seconds / self.calls))

    def _whole(self, measured: float) -> float:
        """Extrapolates: every pass is the same computation."""
        return measured if self.part is None else measured * self.part[1] / self.part[0]

    def _timed(self, number: int, calls: int, clock: Clock) -> float:
        trace = SamplingTrace()
        try:
            noise = self.prepare(number)
            start = clock()
            for _ in range(calls):
                result = self.call(noise, trace)
            seconds = clock() - start
            if self.certify is not None:
                found = self.certify(noise, result)
                self.certificate = found if self.certificate is None else self.certificate + found
        except Exception as error:  # somebody else's code: whatever it raises is this contender's row
            self.problem = error
            return 0.0
        self._evaluations += trace.network_evaluations
        self._depth += trace.sequential_depth
        self._traced += calls
        return seconds


@torch.no_grad()
def warm_up(contenders: Sequence[Contender], *, rounds: int, budget_seconds: float, clock: Clock = timer) -> None:
    """Calls each contender that has not been called yet, and plans its rounds."""
    for contender in contenders:
        if contender.rounds == 0 and contender.problem is None:
            contender.warm_up(rounds, budget_seconds, clock)


@torch.no_grad()
def run_rounds(contenders: Sequence[Contender], *, rounds: int, budget_seconds: float, clock: Clock = timer) -> None:
    """Warms all contenders up, then times them in turn, round by round; every other round runs backwards.

    A contender whose rounds would exceed ``budget_seconds`` takes part in fewer of them. A KeyboardInterrupt leaves
    what was timed until then in the contenders.
    """
    warm_up(contenders, rounds=rounds, budget_seconds=budget_seconds, clock=clock)
    for number in range(1, rounds + 1):
        for contender in contenders if number % 2 else contenders[::-1]:
            if not contender.complete and number <= contender.rounds:
                contender.measure(number, clock)
