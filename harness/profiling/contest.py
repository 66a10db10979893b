"""The samplers of several models at one size and batch size, timed against one another and against a forward pass.

Rounds are interleaved: what disturbs the machine disturbs all alike. Naive raster sampling makes one full forward pass
for each generation step: all of it is timed, or its first steps.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor

from harness.interface.model import Autoregressive, Model
from harness.interface.sampling import Noise, SamplingTrace
from harness.profiling.certificate import Certificate, certify
from harness.profiling.measurement import RASTER, CertificateCounts
from harness.profiling.profile import GenerationProfile
from harness.profiling.resources import count_flops, state_bytes, working_memory
from harness.profiling.timing import Clock
from harness.support.randomness import derive_seed, generator, isolated_rng

FEWEST_PASSES = 2
_BLOCK_SECONDS = 0.02
_MOST_CALLS = 1000
_CERTIFIED_ENTRIES = 4096  # at least: one wrong entry in a thousand is then missed with a probability of 1.7 %
_MEMORY_SECONDS = 2.0


@dataclass
class Contender:
    """A call that is timed against others, and what came out.

    ``prepare`` makes, before the clock runs, what a round of that number shares: its noise. ``call`` takes it and a
    trace to count in; ``certify`` confirms what it returned. Where ``part`` is set, so many of so many passes are timed
    and stand for the whole. ``seconds`` are of one whole call, one value for each round of ``calls`` calls;
    ``first_seconds`` of the last call of the warm-up; ``problem`` is why there are none.
    """

    prepare: Callable[[int], Any]
    call: Callable[[Any, SamplingTrace], Tensor]
    certify: Callable[[Any, Tensor], Certificate] | None = None
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
        """Calls once or twice, unless that is done, and plans as many rounds of as many calls as the budget holds."""
        if self.rounds or self.problem is not None:
            return
        spent = one = self._timed(0, 1, clock)
        if self.problem is not None:
            return
        if one > budget_seconds:
            self.seconds, self.rounds, self.warmed_up, self.first_seconds = [self._whole(one)], 1, False, one
            return
        if one < budget_seconds / 4:
            one = self._timed(0, 1, clock)
            spent += one
        self.first_seconds = one
        self.calls = min(_MOST_CALLS, max(1, int(_BLOCK_SECONDS / max(one, 1e-9))))
        self.rounds = min(rounds, max(1, int((budget_seconds - spent) / max(one * self.calls, 1e-9))))

    def measure(self, number: int, clock: Clock) -> None:
        """Times one round, and confirms its images."""
        seconds = self._timed(number, self.calls, clock) / self.calls
        if self.problem is None:
            self.seconds.append(self._whole(seconds))

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


@dataclass
class Entrant:
    """One sampler of one model in a contest, its times, and what is measured beside them; see ``Measurement``.

    ``forward`` is the forward pass of the same batch; None where the model has none.
    """

    model: Model
    sampler: str
    is_default: bool
    contender: Contender
    forward: Contender | None = None
    forward_flops: int | None = None
    peak_memory_bytes: int | None = None
    memory_cut_off: bool = False

    @property
    def certificate(self) -> CertificateCounts:
        """Of all that was timed."""
        if self.sampler == RASTER and isinstance(self.model, Autoregressive):
            return CertificateCounts(status="by definition")
        if (found := self.contender.certificate) is None:
            return CertificateCounts(status="does not apply")
        return CertificateCounts(
            status="holds" if found.holds else "fails", entries=found.entries, mismatches=found.mismatches,
            within_rounding=found.within_rounding,
        )  # fmt: skip


class Contest:
    """Times what is entered in interleaved rounds; the profile gives their number, the budget and the seed."""

    def __init__(self, batch_size: int, profile: GenerationProfile, clock: Clock) -> None:
        self.batch_size, self.profile, self.clock = batch_size, profile, clock
        self.entrants: list[Entrant] = []
        self._forwards: dict[int, Contender] = {}

    def enter(self, model: Model, name: str) -> Entrant:
        """Adds a sampler of a model by its name."""
        samplers = model.samplers()
        sampler = samplers[name]
        contender = Contender(
            lambda number: None, lambda noise, trace: sampler(self.batch_size, noise=noise, trace=trace)
        )
        entrant = Entrant(model, name, name == next(iter(samplers)), contender)
        if isinstance(model, Autoregressive):
            contender.prepare = partial(self._noise, model)
            if name != RASTER:
                contender.certify = lambda noise, images: certify(model, images, noise)
            entrant.forward = self._forward(model)
        self.entrants.append(entrant)
        return entrant

    @torch.no_grad()
    def run(self) -> None:
        """Times everything, then looks at memory and operations; a KeyboardInterrupt leaves the times so far."""
        rounds, budget, forwards = self.profile.rounds, self.profile.budget_seconds, list(self._forwards.values())
        for forward in forwards:
            forward.warm_up(rounds, budget, self.clock)
        for entrant in self.entrants:
            self._shorten(entrant)
        contenders = [*forwards, *(entrant.contender for entrant in self.entrants)]
        run_rounds(contenders, rounds=rounds, budget_seconds=budget, clock=self.clock)
        for entrant in self.entrants:
            self._confirm(entrant)
            if entrant.contender.problem is None:
                with suppress(Exception):  # a model that cannot be copied or watched still has its time
                    self._look_at(entrant)

    def _confirm(self, entrant: Entrant) -> None:
        """Confirms further calls, untimed, where the timed ones drew few entries; for the budget at most."""
        contender, start, number = entrant.contender, time.perf_counter(), 0
        while (
            contender.problem is None
            and contender.certify is not None
            and (found := contender.certificate) is not None
            and found.holds
            and found.entries < _CERTIFIED_ENTRIES
            and time.perf_counter() - start < self.profile.budget_seconds
        ):
            number -= 1
            try:
                noise = contender.prepare(number)
                contender.certificate = found + contender.certify(noise, contender.call(noise, SamplingTrace()))
            except Exception as error:  # as in a timed round
                contender.problem = error

    def _noise(self, model: Autoregressive, number: int) -> Noise:
        with isolated_rng(derive_seed(self.profile.seed, "noise", self.batch_size, number), model.device):
            return model.draw_noise(self.batch_size)

    def _forward(self, model: Autoregressive) -> Contender:
        if id(model) not in self._forwards:
            random = generator(self.profile.seed, "images", self.batch_size)
            shape = (self.batch_size, *model.spec.shape)
            images = torch.randint(model.spec.levels, shape, generator=random, dtype=torch.uint8).to(model.device)
            self._forwards[id(model)] = Contender(lambda _: None, lambda *_: model.conditional_logits(images))
        return self._forwards[id(model)]

    def _shorten(self, entrant: Entrant) -> None:
        """Makes a naive raster that would exceed the budget a few of its passes."""
        model, forward, contender = entrant.model, entrant.forward, entrant.contender
        if entrant.sampler != RASTER or not isinstance(model, Autoregressive) or forward is None:
            return
        if forward.problem is not None or forward.first_seconds is None:
            return
        noise, whole = self._noise(model, 0), contender.call
        total, orderings = full_passes(model, noise), len(torch.unique(noise.ordering))
        rounds, budget = self.profile.rounds, self.profile.budget_seconds
        passes = passes_to_time(total, forward.first_seconds, rounds=rounds, budget_seconds=budget)
        if passes is None:
            return
        steps = max(FEWEST_PASSES, passes // orderings)

        def some(noise: Noise, trace: SamplingTrace) -> Tensor:
            own = SamplingTrace()
            with first_steps(model, steps):
                images = whole(noise, own)
            wanted = steps * len(torch.unique(noise.ordering))
            if own.network_evaluations != wanted:
                raise RuntimeError(
                    f"{type(model).__name__}'s raster sampler makes {own.network_evaluations} passes in {wanted} "
                    "generation steps: it cannot be extrapolated"
                )
            trace.network_evaluations += own.network_evaluations
            trace.sequential_depth += own.sequential_depth
            return images

        contender.call, contender.part = some, (steps * orderings, total)

    def _look_at(self, entrant: Entrant) -> None:
        model = entrant.model
        if isinstance(model, Autoregressive):
            zeros = torch.zeros(1, *model.spec.shape, dtype=torch.uint8, device=model.device)
            entrant.forward_flops = count_flops(lambda: model.conditional_logits(zeros)) * self.batch_size
        copied = copy.deepcopy(model)  # a sampler that is cut off may leave its caches behind
        sampler, noise = copied.samplers()[entrant.sampler], entrant.contender.prepare(0)
        shortened = entrant.contender.part is not None and isinstance(copied, Autoregressive)
        with first_steps(copied, FEWEST_PASSES) if shortened else nullcontext():  # type: ignore[arg-type]
            working = working_memory(
                lambda: sampler(self.batch_size, noise=noise), model.device, max_seconds=_MEMORY_SECONDS
            )
        entrant.peak_memory_bytes = state_bytes(model) + working.num_bytes
        entrant.memory_cut_off = not working.finished


def full_passes(model: Autoregressive, noise: Noise) -> int:
    """Returns how many full passes naive raster sampling makes: the generation steps of every ordering in the noise."""
    orderings = torch.unique(noise.ordering).tolist()
    return sum(len(torch.unique(model.generation_steps(ordering))) for ordering in orderings)


def passes_to_time(total: int, pass_seconds: float, *, rounds: int, budget_seconds: float) -> int | None:
    """Returns how many passes a round times, where ``total`` of them exceed the budget; None where they do not."""
    if total * pass_seconds <= budget_seconds:
        return None
    return min(total, max(FEWEST_PASSES, int(budget_seconds / (rounds + 1) / max(pass_seconds, 1e-9))))


@contextmanager
def first_steps(model: Autoregressive, steps: int) -> Iterator[None]:
    """Within it, a model says that it draws all entries after its first ``steps - 1`` generation steps at once.

    So its raster sampler, whatever it does around the passes, makes ``steps`` of them and stops. Its images are not
    samples. The model's weights and buffers are not touched.
    """
    whole = model.generation_steps

    def merged(ordering: int = 0) -> Tensor:
        ranks: Tensor = torch.unique(whole(ordering), sorted=True, return_inverse=True)[1]
        return ranks.clamp_max(steps - 1)

    vars(model)["generation_steps"] = merged
    try:
        yield
    finally:
        del vars(model)["generation_steps"]
