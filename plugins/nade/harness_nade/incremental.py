"""Ancestral sampling that carries the first layer's pre-activations along: O(H) for each entry, not a whole network."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from harness import ImageSpec, Noise, SamplingTrace, clamp_known


@torch.no_grad()
def incremental_sample(order: Tensor, activations: Tensor, logits_at: Callable[[Tensor, int], Tensor],
                       absorb: Callable[[Tensor, int, Tensor], Tensor], spec: ImageSpec, noise: Noise, *,
                       known: Tensor | None = None, mask: Tensor | None = None,
                       trace: SamplingTrace | None = None) -> Tensor:  # fmt: skip
    """Draws images entry by entry in one order, by x_d = argmax_v (logit_v + gumbel_v), as the raster sampler does.

    Args:
        order: (D,) int64, entries in the order in which they are drawn.
        activations: (N, H), what the network has before it sees anything.
        logits_at: maps activations (N, H) and a position to (N, levels), unnormalised log-probabilities.
        absorb: maps activations (N, H), a position and its values (N,) int64 to the next activations (N, H).
        spec: the sample space.
        noise: the randomness of N images; its orderings are not looked at.
        known, mask: pixels to clamp, see ``harness.Sampler``.
        trace: gets D network evaluations, each for one entry alone, and a sequential depth of D.

    Returns:
        (N, C, H, W) uint8.
    """
    gumbel = noise.gumbel.flatten(2)  # (N, levels, D)
    num_images = len(gumbel)
    images = torch.zeros(num_images, *spec.shape, dtype=torch.uint8, device=gumbel.device)
    images = clamp_known(images, known, mask).flatten(1)
    clamped = None if mask is None else mask.to(images.device).expand(num_images, *spec.shape).flatten(1)
    for position, entry in enumerate(order.tolist()):
        values = (logits_at(activations, position) + gumbel[:, :, entry]).argmax(dim=1)  # (N,)
        if clamped is not None:
            values = torch.where(clamped[:, entry], images[:, entry].long(), values)
        images[:, entry] = values.to(torch.uint8)
        activations = absorb(activations, position, values)
        if trace is not None:
            trace.network_evaluations += 1
            trace.sequential_depth += 1
    return images.view(num_images, *spec.shape)
