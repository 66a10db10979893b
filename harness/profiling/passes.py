"""Naive raster sampling, one full forward pass a generation step: all of it, or its first steps and a factor."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from harness.interface.model import Autoregressive
from harness.interface.sampling import Noise

RASTER = "raster"
FEWEST_PASSES = 2


def full_passes(model: Autoregressive, noise: Noise) -> int:
    """Returns how many full passes naive raster sampling makes: the generation steps of every ordering in the noise."""
    return sum(_steps(model.generation_steps(ordering)) for ordering in torch.unique(noise.ordering).tolist())


def passes_to_time(total: int, pass_seconds: float, *, rounds: int, budget_seconds: float) -> int | None:
    """Returns how many passes a round times, where ``total`` of them exceed the budget; None where they do not."""
    if total * pass_seconds <= budget_seconds:
        return None
    return min(total, max(FEWEST_PASSES, int(budget_seconds / (rounds + 1) / max(pass_seconds, 1e-9))))


def extrapolated(seconds: float, timed: int, total: int) -> float:
    """Returns the seconds of ``total`` passes, from those of ``timed``: every pass is the same computation."""
    return seconds * total / timed


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
