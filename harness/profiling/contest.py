"""The samplers of several models at one size and batch size, timed against one another and against a forward pass.

Naive raster sampling makes one full forward pass for each generation step: all of it is timed, or its first steps.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from harness.interface.model import Autoregressive, Model
from harness.interface.sampling import BoundSampler, Noise, SamplingTrace
from harness.profiling.certificate import Certificate, certify
from harness.profiling.flops import count_flops
from harness.profiling.measurement import RASTER, CertificateCounts
from harness.profiling.memory import state_bytes, working_memory
from harness.profiling.profile import GenerationProfile
from harness.profiling.rounds import Contender, run_rounds, warm_up
from harness.profiling.timing import Clock
from harness.support.randomness import derive_seed, generator, isolated_rng

FEWEST_PASSES = 2
_MEMORY_SECONDS = 2.0
Draw = Callable[[Noise | None, SamplingTrace], Tensor]


@dataclass
class Entrant:
    """One sampler of one model in a contest, and what is measured of it beside its time.

    Attributes:
        model, sampler: what draws; ``is_default``: whether it is the model's default.
        contender: its times, as far as they were taken.
        forward: the forward pass of the same batch; None where the model has none.
        forward_flops, peak_memory_bytes, memory_cut_off: as ``Measurement`` has them.
    """

    model: Model
    sampler: str
    is_default: bool
    contender: Contender
    forward: Contender | None
    forward_flops: int | None = None
    peak_memory_bytes: int | None = None
    memory_cut_off: bool = False

    @property
    def certificate(self) -> CertificateCounts:
        """Of all that was timed."""
        if self.sampler == RASTER and isinstance(self.model, Autoregressive):
            return CertificateCounts(status="by definition")
        if self.contender.certificate is None:
            return CertificateCounts(status="does not apply")
        return CertificateCounts.of(self.contender.certificate)


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
        confirm = partial(_confirm, model) if isinstance(model, Autoregressive) and sampler != RASTER else None
        contender = Contender(lambda number: self._noise(model, number), draw, confirm)
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
        entrant.contender.part = steps * orderings, total

    @torch.no_grad()
    def _look_at(self, entrant: Entrant) -> None:
        model = entrant.model
        if isinstance(model, Autoregressive):
            zeros = torch.zeros(1, *model.spec.shape, dtype=torch.uint8, device=model.device)
            entrant.forward_flops = count_flops(lambda: model.conditional_logits(zeros)) * self.batch_size
        copied = copy.deepcopy(model)  # a sampler that is cut off may leave its caches behind
        sampler = copied.samplers()[entrant.sampler]
        noise = self._noise(copied, 0)
        shortened = entrant.contender.part is not None and isinstance(copied, Autoregressive)
        with first_steps(copied, 2) if shortened else nullcontext():  # type: ignore[arg-type]
            working = working_memory(
                lambda: sampler(self.batch_size, noise=noise), model.device, max_seconds=_MEMORY_SECONDS
            )
        entrant.peak_memory_bytes = state_bytes(model) + working.num_bytes
        entrant.memory_cut_off = not working.finished


def _confirm(model: Autoregressive, noise: Noise | None, images: Tensor) -> Certificate:
    assert noise is not None
    return certify(model, images, noise)


def full_passes(model: Autoregressive, noise: Noise) -> int:
    """Returns how many full passes naive raster sampling makes: the generation steps of every ordering in the noise."""
    return sum(_steps(model.generation_steps(ordering)) for ordering in torch.unique(noise.ordering).tolist())


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
        found = whole(ordering)
        ranks: Tensor = torch.unique(found, sorted=True, return_inverse=True)[1]
        return ranks.clamp_max(steps - 1)

    vars(model)["generation_steps"] = merged
    try:
        yield
    finally:
        del vars(model)["generation_steps"]


def _steps(generation_steps: Tensor) -> int:
    return int(torch.unique(generation_steps).numel())
