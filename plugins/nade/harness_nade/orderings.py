"""Orderings of an image's entries. An *order* (D,) lists entries as they are drawn; *ranks* (D,) is its inverse.

Entries are numbered as in ``images.flatten(1)``.
"""

from __future__ import annotations

import torch
from torch import Tensor

from harness import ImageSpec


def raster_order(spec: ImageSpec) -> Tensor:
    """Returns (D,) int64: pixel after pixel, row after row, the channels of a pixel one after another."""
    channels, height, width = spec.shape
    return torch.arange(spec.num_dimensions).view(channels, height, width).permute(1, 2, 0).flatten()


def random_orders(spec: ImageSpec, count: int, generator: torch.Generator) -> Tensor:
    """Returns (count, D) int64, independent uniform orders; the first ones are the same whatever ``count``."""
    orders = [torch.randperm(spec.num_dimensions, generator=generator) for _ in range(count)]
    return torch.stack(orders) if orders else torch.empty(0, spec.num_dimensions, dtype=torch.int64)


def ranks_of(orders: Tensor) -> Tensor:
    """Maps orders (..., D) to ranks (..., D): the position at which each entry is drawn, from 0."""
    return orders.argsort(dim=-1)
