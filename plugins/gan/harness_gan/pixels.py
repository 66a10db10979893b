"""Pixels in and out of the players: levels as numbers in [-1, 1], the range of the generator's tanh."""

from __future__ import annotations

import torch
from torch import Tensor


def scale(images: Tensor, levels: int, dtype: torch.dtype) -> Tensor:
    """Maps integers in {0, ..., levels-1} to ``dtype`` in [-1, 1], linearly: 0 to -1 and levels-1 to 1."""
    return images.to(dtype) * (2 / (levels - 1)) - 1


def quantize(images: Tensor, levels: int) -> Tensor:
    """Maps [-1, 1] to uint8 in {0, ..., levels-1}, every value to the nearest level; of two levels by its sign."""
    return ((images + 1) * ((levels - 1) / 2)).round().clamp(0, levels - 1).to(torch.uint8)
