"""Ways to draw from a diffusion in fewer steps. They draw from another distribution than the model's bound is of."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from harness import Noise, SamplingTrace, Unsupported
from harness_diffusion.gaussian_diffusion import GaussianDiffusion
from harness_diffusion.unet import chunks


@torch.no_grad()
def _ddim(model: GaussianDiffusion, num_samples: int) -> Tensor:
    """Draws the last z: noise is taken away step by step, and none is added.

    z_s = alpha_s f^ + sigma_s noise^ (Song, Meng & Ermon 2021, arXiv 2010.02502, eta = 0).
    """
    gammas = model.gammas()
    z = torch.randn(num_samples, *model.spec.shape, dtype=model.dtype, device=model.device)
    for step in range(model.num_steps, model.first_step - 1, -1):
        noise, _ = model.predict(z, gammas[step : step + 1])
        points = (z - gammas[step].sigmoid().sqrt() * noise) / (-gammas[step]).sigmoid().sqrt()
        z = model.diffuse(points, gammas[step - 1 : step], noise)
    return z


def _ancestral(model: GaussianDiffusion, num_samples: int) -> Tensor:
    """Draws the last z of p, whatever number of steps it has."""
    *_, last = model.ancestral(num_samples)
    return last


@dataclass(frozen=True)
class FewerSteps:
    """A ``harness.Sampler`` of a diffusion that has at least as many steps."""

    last: Callable[[GaussianDiffusion, int], Tensor]
    num_steps: int

    @torch.no_grad()
    def __call__(
        self,
        model: GaussianDiffusion,
        num_samples: int,
        /,
        *,
        noise: Noise | None = None,
        known: Tensor | None = None,
        mask: Tensor | None = None,
        trace: SamplingTrace | None = None,
    ) -> Tensor:
        """Draws (num_samples, C, H, W) uint8; given noise or pixels, or fewer steps, are ``Unsupported``."""
        if noise is not None or known is not None or mask is not None:
            raise Unsupported("a diffusion draws its own noise and cannot clamp pixels")
        if model.num_steps < self.num_steps:
            raise Unsupported(f"the model has {model.num_steps} steps, fewer than {self.num_steps}")
        fewer = model.with_steps(self.num_steps)
        sizes = chunks(num_samples, fewer.spec)
        images = torch.cat([fewer.draw(self.last(fewer, size)) for size in sizes])
        if trace is not None:
            trace.network_evaluations += self.num_steps * len(sizes)
            trace.sequential_depth += self.num_steps * len(sizes)
        return images


ddim_50, ddim_20 = FewerSteps(_ddim, 50), FewerSteps(_ddim, 20)
ancestral_50, ancestral_20 = FewerSteps(_ancestral, 50), FewerSteps(_ancestral, 20)
