"""Degrees of the units of a masked network: how many of the first entries each may see (Germain et al. 2015)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def draw_degrees(size: int, hidden: Sequence[int], generator: torch.Generator) -> list[Tensor]:
    """Draws the degrees m(k) of every hidden layer's units, (H,) int64 each, for D = ``size`` entries.

    A unit of degree m sees the first m entries. A layer of at least D - 1 units has every degree from 1 to D - 1, so
    that no past entry is lost on the way; a narrower one has degrees spread evenly, with the same random offset in
    every layer. Which unit has which degree is random.
    """
    span = size - 1
    if span == 0:  # one entry has no past: all its units are blind
        return [torch.zeros(width, dtype=torch.int64) for width in hidden]
    offset = torch.rand((), generator=generator).item()
    layers = []
    for width in hidden:
        if width >= span:
            extra = torch.randint(1, size, (width - span,), generator=generator)
            degrees = torch.cat([torch.arange(1, size), extra])
        else:
            degrees = ((torch.arange(width) + offset) * span / width).long().clamp(0, span - 1) + 1
        layers.append(degrees[torch.randperm(width, generator=generator)])
    return layers
