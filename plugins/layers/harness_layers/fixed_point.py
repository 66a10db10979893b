"""Exact samples by parallel fixed-point iteration: all entries at once, again and again, until nothing changes."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from harness import Autoregressive, ImageSpec, Noise, SamplingTrace, clamp_known


def fixed_point(model: Autoregressive, num_samples: int, /, *, noise: Noise | None = None, known: Tensor | None = None,
                mask: Tensor | None = None, trace: SamplingTrace | None = None) -> Tensor:  # fmt: skip
    """Draws from any model of one ordering by fixed-point iteration; see ``harness.Sampler``."""
    noise = model.draw_noise(num_samples) if noise is None else noise

    def logits(images: Tensor, places: Tensor) -> Tensor:
        return model.conditional_logits(images)

    return fixed_point_sample(logits, model.spec, noise, known=known, mask=mask, trace=trace)


@torch.no_grad()
def fixed_point_sample(logits: Callable[[Tensor, Tensor], Tensor], spec: ImageSpec, noise: Noise, *,
                       known: Tensor | None = None, mask: Tensor | None = None,
                       trace: SamplingTrace | None = None) -> Tensor:  # fmt: skip
    """Draws the raster sample by Jacobi iteration of x -> argmax_v (logits_v(x) + gumbel_v).

    By causality an image that is mapped to itself *is* the raster sample of its noise: its first entry depends on the
    noise alone, the second on the first, and so on. After k iterations the first k entries are right, so that there
    are never more iterations than entries; there are far fewer where the conditionals are sure of themselves. An image
    that has come to rest leaves the batch. See Song, Meng, Liao & Ermon 2021, arXiv 2002.03629.

    Args:
        logits: maps images (M, C, H, W) uint8 and their places in the batch (M,) int64 to (M, levels, C, H, W).
        spec: the sample space.
        noise: the randomness of N images.
        known, mask: pixels to clamp, see ``harness.Sampler``.
        trace: gets a network evaluation, and a sequential depth of one, for each iteration.

    Returns:
        (N, C, H, W) uint8.
    """
    gumbel, device = noise.gumbel, noise.gumbel.device
    start = torch.zeros(len(gumbel), *spec.shape, dtype=torch.uint8, device=device)
    images = clamp_known(start, known, mask)
    moving = torch.arange(len(gumbel), device=device)
    for _ in range(spec.num_dimensions + 1):
        if len(moving) == 0:
            break
        drawn = (logits(images[moving], moving) + gumbel[moving]).argmax(dim=1).to(torch.uint8)
        if known is not None and mask is not None:
            drawn = clamp_known(drawn, known.to(device)[moving], mask.to(device).expand(start.shape)[moving])
        changed = (drawn != images[moving]).flatten(1).any(1)
        images[moving] = drawn
        moving = moving[changed]
        if trace is not None:
            trace.network_evaluations += 1
            trace.sequential_depth += 1
    return images
