"""What each conditional of a causal network can see at all, by following every entry through the kernels' masks."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from harness import ImageSpec


def whole_past(spec: ImageSpec) -> Tensor:
    """Returns (D, D) bool, row i true at the entries before i, in raster order with the channels of a pixel in turn."""
    channels, height, width = spec.shape
    order = torch.arange(height * width * channels).view(height, width, channels).permute(2, 0, 1).flatten()
    return order[:, None] > order[None, :]


@torch.no_grad()
def dependence_by(spread: Callable[[Tensor], Tensor], spec: ImageSpec, device: torch.device) -> Tensor | None:
    """Returns (D, D) bool, row i true where entry i sees entry j, or None where that is the whole past.

    Args:
        spread: maps (N, C, H, W) of zeros and ones, what is reached among the inputs, to the same among the outputs.
        spec: the sample space.
        device: where the kernels' masks are, and the result.
    """
    size = spec.num_dimensions
    entries = torch.eye(size, device=device).view(size, *spec.shape)
    seen = spread(entries).flatten(1).T > 0  # (D, D), from entry j's column to row i
    return None if torch.equal(seen, whole_past(spec).to(device)) else seen.contiguous()
