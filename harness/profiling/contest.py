"""The samplers of several models at one size and batch size, timed against one another and against a forward pass."""

from __future__ import annotations

import copy
from collections.abc import Callable
from contextlib import nullcontext, suppress
from dataclasses import dataclass

import torch
from torch import Tensor

from harness.interface.model import Autoregressive, Model
from harness.interface.sampling import BoundSampler, Noise, SamplingTrace
from harness.profiling.certificate import Certificate, certify
from harness.profiling.flops import count_flops
from harness.profiling.measurement import CertificateCounts
from harness.profiling.memory import state_bytes, working_memory
from harness.profiling.passes import RASTER, extrapolated, first_steps, full_passes, passes_to_time
from harness.profiling.profile import GenerationProfile
from harness.profiling.rounds import Contender, run_rounds, warm_up
from harness.profiling.timing import Clock
from harness.support.randomness import derive_seed, generator, isolated_rng

_MEMORY_SECONDS = 2.0
Draw = Callable[[Noise | None, SamplingTrace], Tensor]


@dataclass
class Entrant:
    """One sampler of one model in a contest, and what is measured of it beside its time.

    Attributes:
        model, sampler: what draws; ``is_default``: whether it is the model's default.
        contender: its times, as far as they were taken.
        forward: the forward pass of the same batch; None where the model has none.
        passes, full_passes: of a naive raster that is extrapolated: how many passes are timed, and how many it has.
        forward_flops, peak_memory_bytes, memory_cut_off: as ``Measurement`` has them.
    """

    model: Model
    sampler: str
    is_default: bool
    contender: Contender
    forward: Contender | None
    passes: int | None = None
    full_passes: int | None = None
    forward_flops: int | None = None
    peak_memory_bytes: int | None = None
    memory_cut_off: bool = False

    @property
    def seconds(self) -> list[float]:
        """Of one call, one value a round."""
        return [self._whole(seconds) for seconds in self.contender.seconds]

    @property
    def forward_seconds(self) -> list[float]:
        """Of one forward pass, one value a round."""
        return [] if self.forward is None else self.forward.seconds

    @property
    def network_evaluations(self) -> float | None:
        """Of one call, on average."""
        found = self.contender.network_evaluations
        return None if found is None else self._whole(found)

    @property
    def sequential_depth(self) -> float | None:
        """Of one call, on average."""
        found = self.contender.sequential_depth
        return None if found is None else self._whole(found)

    @property
    def certificate(self) -> CertificateCounts:
        """Of all that was timed."""
        if self.sampler == RASTER and isinstance(self.model, Autoregressive):
            return CertificateCounts(status="by definition")
        if self.contender.certificate is None:
            return CertificateCounts(status="does not apply")
        return CertificateCounts.of(self.contender.certificate)

    def _whole(self, measured: float) -> float:
        if self.passes is None or self.full_passes is None:
            return measured
        return extrapolated(measured, self.passes, self.full_passes)


class Contest:
    """Times what is entered in interleaved rounds.

    Args:
        batch_size: images of a call.
        profile: gives rounds, budget and seed.
        clock: gives seconds, once the accelerator is done.
    """

    def __init__(self, batch_size: int, profile: GenerationProfile, clock: Clock) -> None:
        self.batch_size, self.profile, self.clock = batch_size, profile, clock
        self.entrants: list[Entrant] = []
        self._forwards: dict[int, Contender] = {}

    def enter(self, model: Model, sampler: str) -> Entrant:
        """Adds a sampler of a model by its name."""
        samplers = model.samplers()
        draw = self._draw(samplers[sampler])
        certifies = isinstance(model, Autoregressive) and sampler != RASTER
        contender = Contender(lambda number: self._noise(model, number), draw, _confirm(model) if certifies else None)
        entrant = Entrant(model, sampler, sampler == next(iter(samplers)), contender, self._forward(model))
        self.entrants.append(entrant)
        return entrant

    def run(self) -> None:
        """Times everything, then looks at memory and operations.

        Raises:
            KeyboardInterrupt: what was timed until then is in the entrants.
        """
        forwards = list(self._forwards.values())
        budget = self.profile.budget_seconds
        warm_up(forwards, rounds=self.profile.rounds, budget_seconds=budget, clock=self.clock)
        for entrant in self.entrants:
            self._shorten(entrant)
        contenders = [*forwards, *(entrant.contender for entrant in self.entrants)]
        run_rounds(contenders, rounds=self.profile.rounds, budget_seconds=budget, clock=self.clock)
        for entrant in self.entrants:
            if entrant.contender.problem is None:
                with suppress(Exception):  # a model that cannot be copied or watched still has its time
                    self._look_at(entrant)

    def _noise(self, model: Model, number: int) -> Noise | None:
        if not isinstance(model, Autoregressive):
            return None
        with isolated_rng(derive_seed(self.profile.seed, "noise", self.batch_size, number), model.device):
            return model.draw_noise(self.batch_size)

    def _draw(self, sampler: BoundSampler) -> Draw:
        def draw(noise: Noise | None, trace: SamplingTrace) -> Tensor:
            return sampler(self.batch_size, noise=noise, trace=trace)

        return draw

    def _forward(self, model: Model) -> Contender | None:
        if not isinstance(model, Autoregressive):
            return None
        if id(model) not in self._forwards:
            random = generator(self.profile.seed, "images", self.batch_size)
            shape = (self.batch_size, *model.spec.shape)
            images = torch.randint(model.spec.levels, shape, generator=random, dtype=torch.uint8).to(model.device)
            self._forwards[id(model)] = Contender(lambda _: None, lambda *_: model.conditional_logits(images))
        return self._forwards[id(model)]

    def _shorten(self, entrant: Entrant) -> None:
        """Makes a naive raster that would exceed the budget a few of its passes."""
        model, forward = entrant.model, entrant.forward
        if entrant.sampler != RASTER or not isinstance(model, Autoregressive) or forward is None:
            return
        if forward.problem is not None or forward.first_seconds is None:
            return
        noise = self._noise(model, 0)
        assert noise is not None
        total = full_passes(model, noise)
        orderings = len(torch.unique(noise.ordering))
        steps = passes_to_time(
            total, forward.first_seconds, rounds=self.profile.rounds, budget_seconds=self.profile.budget_seconds
        )
        if steps is None:
            return
        steps = max(2, steps // orderings)
        whole = entrant.contender.call

        def some(noise: Noise | None, trace: SamplingTrace) -> Tensor:
            own = SamplingTrace()
            with first_steps(model, steps):
                images = whole(noise, own)
            wanted = steps if noise is None else steps * len(torch.unique(noise.ordering))
            if own.network_evaluations != wanted:
                raise RuntimeError(
                    f"{type(model).__name__}'s raster sampler makes {own.network_evaluations} passes in {wanted} "
                    "generation steps: it cannot be extrapolated"
                )
            trace.network_evaluations += own.network_evaluations
            trace.sequential_depth += own.sequential_depth
            return images

        entrant.contender.call = some
        entrant.passes, entrant.full_passes = steps * orderings, total

    @torch.no_grad()
    def _look_at(self, entrant: Entrant) -> None:
        model = entrant.model
        if isinstance(model, Autoregressive):
            zeros = torch.zeros(1, *model.spec.shape, dtype=torch.uint8, device=model.device)
            entrant.forward_flops = count_flops(lambda: model.conditional_logits(zeros)) * self.batch_size
        copied = copy.deepcopy(model)  # a sampler that is cut off may leave its caches behind
        sampler = copied.samplers()[entrant.sampler]
        noise = self._noise(copied, 0)
        shortened = entrant.passes is not None and isinstance(copied, Autoregressive)
        with first_steps(copied, 2) if shortened else nullcontext():  # type: ignore[arg-type]
            working = working_memory(
                lambda: sampler(self.batch_size, noise=noise), model.device, max_seconds=_MEMORY_SECONDS
            )
        entrant.peak_memory_bytes = state_bytes(model) + working.num_bytes
        entrant.memory_cut_off = not working.finished


def _confirm(model: Model) -> Callable[[Noise | None, Tensor], Certificate]:
    def confirm(noise: Noise | None, images: Tensor) -> Certificate:
        assert isinstance(model, Autoregressive)
        assert noise is not None
        return certify(model, images, noise)

    return confirm
