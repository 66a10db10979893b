"""Ancestral sampling for autoregressive models: shared noise, and the raster sampler that every model gets for free.

With Gumbel noise g, ``argmax_v (log p(x_k = v | x_<k) + g_v)`` is an exact draw of x_k (Gumbel 1954; Maddison et al.
2014, arXiv 1411.0030). Samplers that share their noise give the same images, so they can be compared one by one.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol, Self

import torch
from torch import Tensor

from harness.interface.spec import ImageSpec


@dataclass(frozen=True)
class Noise:
    """All the randomness of a batch of autoregressive samples.

    ``gumbel`` is (N, levels, C, H, W) float, standard Gumbel; ``ordering`` (N,) int64, by which each image is drawn.
    """

    gumbel: Tensor
    ordering: Tensor

    @classmethod
    def draw(
        cls,
        num_samples: int,
        spec: ImageSpec,
        *,
        num_orderings: int = 1,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
    ) -> Self:
        """Draws noise from torch's global generator of ``device``."""
        exponential = torch.empty(num_samples, spec.levels, *spec.shape, device=device, dtype=dtype).exponential_()
        ordering = torch.randint(num_orderings, (num_samples,), device=device)
        return cls(-exponential.clamp_min(torch.finfo(dtype).tiny).log(), ordering)


@dataclass
class SamplingTrace:
    """What a sampler did: evaluations of the network, and how many of them had to wait for one another."""

    network_evaluations: int = 0
    sequential_depth: int = 0


class Sampler(Protocol):
    """A way to draw from a model's distribution: what the target of a ``harness.SamplerEntry`` is, a function."""

    def __call__(
        self,
        model: Any,
        num_samples: int,
        /,
        *,
        noise: Noise | None = None,
        known: Tensor | None = None,
        mask: Tensor | None = None,
        trace: SamplingTrace | None = None,
    ) -> Tensor:
        """Draws (N, C, H, W) uint8 on the model's device.

        Args:
            model: the trained model, of the class that the sampler is registered for; it is not changed.
            num_samples: N.
            noise: all the randomness, of N images; the sampler's own where None: ``model.draw_noise(num_samples)``. An
                exact sampler of an autoregressive model gives the images of the sampler ``raster`` for the same noise.
            known: (N, C, H, W) uint8, given pixels where ``mask`` (broadcastable to it, bool) is True: these are
                clamped. That is exact conditioning where every known pixel comes before the unknown ones.
            mask: where pixels are known; goes with ``known``.
            trace: counts network evaluations where given.

        What it cannot draw from, or clamp, is ``Unsupported`` with the reason; ``known`` without ``mask``, or the other
        way round, a ValueError.
        """
        ...


class BoundSampler(Protocol):
    """A ``Sampler`` of one model, as ``Model.samplers`` gives it by name."""

    def __call__(
        self,
        num_samples: int,
        *,
        noise: Noise | None = None,
        known: Tensor | None = None,
        mask: Tensor | None = None,
        trace: SamplingTrace | None = None,
    ) -> Tensor:
        """Draws (num_samples, C, H, W) uint8; see ``Sampler``."""
        ...


def clamp_known(images: Tensor, known: Tensor | None, mask: Tensor | None) -> Tensor:
    """Returns ``images`` with the entries of ``known`` where ``mask`` is True; one without the other: ValueError."""
    if (known is None) != (mask is None):
        raise ValueError("known pixels need a mask, and a mask needs known pixels")
    if known is None or mask is None:
        return images
    return torch.where(mask.to(images.device), known.to(images), images)


@torch.no_grad()
def raster_sample(
    conditional_logits: Callable[[Tensor, int], Tensor],
    generation_steps: Callable[[int], Tensor],
    spec: ImageSpec,
    noise: Noise,
    *,
    known: Tensor | None = None,
    mask: Tensor | None = None,
    trace: SamplingTrace | None = None,
) -> Tensor:
    """Draws (N, C, H, W) uint8 by one full evaluation of the network a generation step: slow, and always right.

    ``conditional_logits`` maps (N, C, H, W) uint8 and an ordering to (N, levels, C, H, W), ``generation_steps`` an
    ordering to (C, H, W) int64, the step at which each entry of the ``spec`` is drawn. Image i is drawn by ordering
    ``noise.ordering[i]``; ``known``, ``mask`` and ``trace`` are as for a ``Sampler``.
    """
    num_samples, device = len(noise.gumbel), noise.gumbel.device
    images = clamp_known(torch.zeros(num_samples, *spec.shape, dtype=torch.uint8, device=device), known, mask)
    free = ~(torch.tensor(False) if mask is None else mask).to(device).expand(images.shape)
    for ordering in torch.unique(noise.ordering).tolist():
        rows = (noise.ordering == ordering).nonzero().squeeze(1)
        part, gumbel, steps = images[rows], noise.gumbel[rows], generation_steps(ordering).to(device)
        for step in torch.unique(steps, sorted=True).tolist():
            values = (conditional_logits(part, ordering) + gumbel).argmax(dim=1).to(torch.uint8)
            part = torch.where((steps == step) & free[rows], values, part)
            if trace is not None:
                trace.network_evaluations += 1
                trace.sequential_depth += 1
        images[rows] = part
    return images
