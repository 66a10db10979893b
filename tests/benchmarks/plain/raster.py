"""Naive raster sampling: a full forward pass of the network an entry."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor


@torch.no_grad()
def naive_raster(logits: Callable[[Tensor], Tensor], threshold: Tensor, *, passes: int | None = None) -> Tensor:
    """Draws binary images entry by entry: an entry is one where its logit is above its threshold.

    Args:
        logits: maps (N, 1, H, W) float, zeros and ones, to (N, 1, H, W).
        threshold: (N, 1, H, W), what the noise asks of the logits.
        passes: how many entries are drawn; all of them by default.

    Returns:
        (N, 1, H, W) float.
    """
    images = torch.zeros_like(threshold)
    height, width = images.shape[2:]
    for entry in range(height * width if passes is None else passes):
        row, column = divmod(entry, width)
        images[:, :, row, column] = (logits(images) > threshold)[:, :, row, column].to(images.dtype)
    return images
