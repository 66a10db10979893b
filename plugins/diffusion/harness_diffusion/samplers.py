"""Ways to draw in fewer steps. They draw from other distributions than the models' own, which a bound is of."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from harness import Noise, SamplingTrace, Unsupported
from harness_diffusion.flow_matching import FlowMatching, Solver, euler, heun
from harness_diffusion.gaussian_diffusion import GaussianDiffusion
from harness_diffusion.unet import chunks


@dataclass(frozen=True)
class Approximate:
    """A ``harness.Sampler`` that draws as many images as it is asked for by so many evaluations of a network."""

    draw: Callable[[Any, int], Tensor]
    evaluations: int

    @torch.no_grad()
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
        """Draws (num_samples, C, H, W) uint8; to be given noise or pixels is ``Unsupported``."""
        if noise is not None or known is not None or mask is not None:
            raise Unsupported("it draws its own noise and cannot clamp pixels")
        images = self.draw(model, num_samples)
        if trace is not None:
            trace.network_evaluations += self.evaluations
            trace.sequential_depth += self.evaluations
        return images


def _fewer(
    last: Callable[[GaussianDiffusion, int], Tensor], num_steps: int, model: GaussianDiffusion, num_samples: int
) -> Tensor:
    """Draws images by a way to the last z, from a model of fewer steps; ``Unsupported`` where it has no more."""
    if model.num_steps < num_steps:
        raise Unsupported(f"the model has {model.num_steps} steps, fewer than {num_steps}")
    fewer = model.with_steps(num_steps)
    return torch.cat([fewer.draw(last(fewer, size)) for size in chunks(num_samples, model.spec)])


def _ancestral(model: GaussianDiffusion, num_samples: int) -> Tensor:
    *_, last = model.ancestral(num_samples)
    return last


def _ddim(model: GaussianDiffusion, num_samples: int) -> Tensor:
    """z_s = alpha_s f^ + sigma_s noise^, without new noise (Song, Meng & Ermon 2021, arXiv 2010.02502, eta = 0)."""
    gammas = model.gammas()
    z = torch.randn(num_samples, *model.spec.shape, dtype=model.dtype, device=model.device)
    for step in range(model.num_steps, model.first_step - 1, -1):
        noise, _ = model.predict(z, gammas[step : step + 1])
        points = (z - gammas[step].sigmoid().sqrt() * noise) / (-gammas[step]).sigmoid().sqrt()
        z = model.diffuse(points, gammas[step - 1 : step], noise)
    return z


def _solve(solver: Solver, num_steps: int, model: FlowMatching, num_samples: int) -> Tensor:
    return model.solve(num_samples, solver, num_steps)


ddim_50, ddim_20 = (Approximate(partial(_fewer, _ddim, steps), steps) for steps in (50, 20))
ancestral_50, ancestral_20 = (Approximate(partial(_fewer, _ancestral, steps), steps) for steps in (50, 20))
euler_20, heun_10 = Approximate(partial(_solve, euler, 20), 20), Approximate(partial(_solve, heun, 10), 20)
