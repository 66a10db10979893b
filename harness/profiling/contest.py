"""Samplers at one batch size, timed against one another and against a forward pass.

Rounds are interleaved: what disturbs the machine disturbs all alike. Naive raster sampling makes one full forward pass
for each generation step: all of it is timed, or its first steps.
"""

import copy
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import Any

import torch
from torch import Tensor

from harness.interface.model import Autoregressive, Model, Unsupported
from harness.interface.sampling import Noise, SamplingTrace, raster_sample
from harness.profiling.certificate import Certificate, certify
from harness.profiling.profile import RASTER, CertificateCounts, GenerationProfile
from harness.profiling.resources import random_images, state_bytes, working_memory
from harness.profiling.timing import Clock, default_sampler
from harness.support.flops import count_flops
from harness.support.randomness import derive_seed, isolated_rng

FEWEST_PASSES = 2
_BLOCK_SECONDS = 0.02
_MOST_CALLS = 1000
_CERTIFIED_ENTRIES = 4096  # at least: one wrong entry in a thousand is then missed with a probability of 1.7 %
_MEMORY_SECONDS = 2.0


class Contender:
    """A call that is timed against others, and what came out.

    ``seconds`` are of one whole call, one value for each of ``rounds`` rounds of ``calls`` calls; ``first_seconds`` of
    the last call of the warm-up. Where ``part`` is set, so many of so many equal passes are timed and stand for the
    whole. ``problem`` is why there is no figure.
    """

    def __init__(self, call: Callable[..., object]) -> None:
        self._call = call
        self.seconds: list[float] = []
        self.calls, self.rounds, self.warmed_up = 1, 0, True
        self.part: tuple[int, int] | None = None
        self.certificate: Certificate | None = None
        self.problem: Exception | None = None
        self.first_seconds: float | None = None
        self._evaluations = self._depth = self._traced = 0

    def _prepare(self, number: int) -> Any:
        """Makes, before the clock runs, what a round of that number shares: its noise."""

    def _certify(self, noise: Any, result: Any) -> Certificate | None:
        """Confirms what a call returned; None where there is nothing to confirm."""

    @property
    def complete(self) -> bool:
        """Whether all of its rounds were timed."""
        return self.problem is not None or (self.rounds > 0 and len(self.seconds) >= self.rounds)

    def warm_up(self, rounds: int, budget_seconds: float, clock: Clock) -> None:
        """Calls once or twice, and plans as many rounds of as many calls as the budget holds."""
        spent = one = self.time(0, 1, clock)
        if one > budget_seconds:
            self.seconds, self.rounds, self.warmed_up = [self._whole(one)], 1, False
        elif self.problem is None:
            if one < budget_seconds / 4:
                one = self.time(0, 1, clock)
                spent += one
            self.calls = min(_MOST_CALLS, max(1, int(_BLOCK_SECONDS / max(one, 1e-9))))
            self.rounds = min(rounds, max(1, int((budget_seconds - spent) / max(one * self.calls, 1e-9))))
        self.first_seconds = None if self.problem else one

    def measure(self, number: int, clock: Clock) -> None:
        """Times one round, and confirms its images."""
        seconds = self.time(number, self.calls, clock) / self.calls
        if self.problem is None:
            self.seconds.append(self._whole(seconds))

    def time(self, number: int, calls: int, clock: Clock) -> float:
        """Returns the seconds of so many calls, and confirms what the last one gave; 0 where there is a problem."""
        trace = SamplingTrace()
        try:
            noise = self._prepare(number)
            start = clock()
            for _ in range(calls):
                result = self._call(noise=noise, trace=trace)
            seconds = clock() - start
            if (found := self._certify(noise, result)) is not None:
                self.certificate = found if self.certificate is None else self.certificate + found
        except Exception as error:  # somebody else's code: whatever it raises is this contender's row
            self.problem = error
            return 0.0
        self._evaluations += trace.network_evaluations
        self._depth += trace.sequential_depth
        self._traced += calls
        return seconds

    def _whole(self, measured: float) -> float:
        """Extrapolates: every pass is the same computation."""
        return measured if self.part is None else measured * self.part[1] / self.part[0]


@torch.no_grad()
def run_rounds(contenders: Sequence[Contender], *, rounds: int, budget_seconds: float, clock: Clock) -> None:
    """Warms all contenders up, then times them in turn, round by round; every other round runs backwards.

    A contender whose rounds would exceed ``budget_seconds`` takes part in fewer of them. A KeyboardInterrupt leaves
    what was timed until then in the contenders.
    """
    for contender in contenders:
        contender.warm_up(rounds, budget_seconds, clock)
    for number in range(1, rounds + 1):
        for contender in contenders if number % 2 else contenders[::-1]:
            if not contender.complete and number <= contender.rounds:
                contender.measure(number, clock)


def forward_pass(model: Autoregressive, batch_size: int, seed: int) -> Contender:
    """One pass of a model's own network on as many images."""
    images = random_images(model, batch_size, seed).to(model.device)
    return Contender(lambda noise, trace: model.conditional_logits(images))


class SamplerCall(Contender):
    """A model's sampler, as it is ``asked`` for; an autoregressive model has a ``forward`` pass as well."""

    def __init__(self, model: Model, asked: dict[str, Any], profile: GenerationProfile, forward: Contender | None):
        self.asked, self.name, self.batch_size = asked, asked["sampler"], asked["batch_size"]
        self.model, self.profile, self.forward = model, profile, forward
        super().__init__(partial(model.samplers()[self.name], self.batch_size))
        self.taken: dict[str, Any] = {}  # memory and operations, as a measurement says them

    def _prepare(self, number: int) -> Any:
        if isinstance(self.model, Autoregressive):
            with isolated_rng(derive_seed(self.profile.seed, "noise", self.batch_size, number), self.model.device):
                return self.model.draw_noise(self.batch_size)
        return None

    def _certify(self, noise: Any, result: Any) -> Certificate | None:
        if not isinstance(self.model, Autoregressive) or self.name == RASTER:  # the raster is the definition
            return None
        return certify(self.model, result, noise)

    def warm_up(self, rounds: int, budget_seconds: float, clock: Clock) -> None:
        """Shortens a naive raster that would exceed the budget, going by the forward pass, before it is called."""
        one = self.forward.first_seconds if self.forward is not None and self.name == RASTER else None
        if one is not None and isinstance(model := self.model, Autoregressive):
            orderings = torch.unique(self._prepare(0).ordering).tolist()
            total = sum(len(torch.unique(model.generation_steps(ordering))) for ordering in orderings)
            if total * one > budget_seconds:
                passes = min(total, int(budget_seconds / (rounds + 1) / max(one, 1e-9)))
                steps = max(FEWEST_PASSES, passes // len(orderings))
                self._call = partial(first_passes(model, steps), self.batch_size)
                self.part = (steps * len(orderings), total)
        super().warm_up(rounds, budget_seconds, clock)

    @torch.no_grad()
    def finish(self) -> None:
        """Confirms more images where few were timed, for the budget at most, then looks at memory and operations."""
        start, number = time.perf_counter(), 0
        while (found := self.certificate) is not None and found.holds and found.entries < _CERTIFIED_ENTRIES:
            if self.problem is not None or time.perf_counter() - start >= self.profile.budget_seconds:
                break
            number -= 1
            self.time(number, 1, time.perf_counter)
        if self.problem is None:
            with suppress(Exception):  # a model that cannot be copied or watched still has its time
                self._look()

    def _look(self) -> None:
        model = self.model
        if isinstance(model, Autoregressive):
            zeros = torch.zeros(1, *model.spec.shape, dtype=torch.uint8, device=model.device)
            flops = count_flops(partial(model.conditional_logits, zeros))
            if not flops.not_counted:
                self.taken["forward_flops"] = flops * self.batch_size
        copied = copy.deepcopy(model)  # a sampler that is cut off may leave its caches behind
        sampler: Callable[..., Tensor] = copied.samplers()[self.name]
        if self.part is not None and isinstance(copied, Autoregressive):
            sampler = first_passes(copied, FEWEST_PASSES)
        draw = partial(sampler, self.batch_size, noise=self._prepare(0))
        working = working_memory(draw, model.device, max_seconds=_MEMORY_SECONDS)
        self.taken["peak_memory_bytes"] = state_bytes(model) + working.num_bytes
        self.taken["memory_cut_off"] = not working.finished

    def outcome(self, gemm_flops_per_second: float) -> dict[str, Any]:
        """What a ``Measurement`` says of it: its figures, or why there are none."""
        if isinstance(self.problem, Unsupported):
            return {"status": "skipped", "reason": str(self.problem)}
        if self.problem is not None:
            return {"status": "failed", "reason": f"{type(self.problem).__name__}: {self.problem}"}
        if (found := self.certificate) is None:
            defined = self.forward is not None and self.name == RASTER
            certificate = CertificateCounts(status="by definition" if defined else "does not apply")
        else:
            counts = {name: getattr(found, name) for name in ("entries", "mismatches", "within_rounding")}
            certificate = CertificateCounts(status="holds" if found.holds else "fails", **counts)
        if certificate.status == "fails":
            return {"status": "failed certificate", "reason": str(found), "certificate": certificate}
        timed, total = self.part or (None, None)
        traced = {"network_evaluations": self._evaluations, "sequential_depth": self._depth}
        return {
            "default": self.name == default_sampler(self.model), "complete": self.complete, "calls": self.calls,
            "seconds": tuple(self.seconds), "warmed_up": self.warmed_up, "extrapolated_from": timed,
            "full_passes": total, "forward_seconds": () if self.forward is None else tuple(self.forward.seconds),
            "gemm_flops_per_second": gemm_flops_per_second, "certificate": certificate,
            "precision": str(self.model.dtype).removeprefix("torch."), **self.taken,
            **{name: self._whole(made / self._traced) if made else None for name, made in traced.items()},
        }  # fmt: skip


def first_passes(model: Autoregressive, steps: int) -> Callable[..., Tensor]:
    """Returns a raster sampler of ``steps`` passes: entries after the first ``steps - 1`` steps are drawn at once."""

    def merged(ordering: int) -> Tensor:
        ranks: Tensor = torch.unique(model.generation_steps(ordering), sorted=True, return_inverse=True)[1]
        return ranks.clamp_max(steps - 1)

    def draw(num_samples: int, *, noise: Noise, trace: SamplingTrace | None = None) -> Tensor:
        return raster_sample(model.conditional_logits, merged, model.spec, noise, trace=trace)

    return draw
