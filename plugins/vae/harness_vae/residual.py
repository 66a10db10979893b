"""The residual convolutional encoder and decoder of Kingma et al. 2016, arXiv 1606.04934: ELU, weight-normalised.

The encoder halves height and width, rounded up, once for each number of ``maps``; between two of these blocks is one
that keeps them. The decoder mirrors it. Convolutions of stride 2 stand in for the shortcuts that change the shape.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import cast

from torch import Tensor, nn
from torch.nn import functional as F

from harness import ImageSpec
from harness_layers.pixels import num_outputs
from harness_vae.weight_norm import NormedConv, NormedLinear, NormedTransposedConv

_SMALL = 0.1  # the deviation of what a block adds to its shortcut, at the start


class Block(nn.Module):
    """shortcut(x) + second(elu(first(elu(x)))); no shortcut is the identity."""

    def __init__(self, first: nn.Module, second: nn.Module, shortcut: nn.Module | None = None) -> None:
        super().__init__()
        self.first, self.second = first, second
        self.shortcut = nn.Identity() if shortcut is None else shortcut

    def forward(self, maps: Tensor) -> Tensor:
        """Maps (N, inputs, H, W) to (N, outputs, H', W')."""
        return cast("Tensor", self.shortcut(maps) + self.second(F.elu(self.first(F.elu(maps)))))


def keeping(maps: int) -> Block:
    """Returns a block that keeps the shape."""
    return Block(NormedConv(maps, maps), NormedConv(maps, maps, deviation=_SMALL))


def halving(inputs: int, outputs: int) -> Block:
    """Returns a block that halves height and width."""
    first = NormedConv(inputs, outputs, stride=2)
    return Block(first, NormedConv(outputs, outputs, deviation=_SMALL), NormedConv(inputs, outputs, stride=2))


def doubling(inputs: int, outputs: int, size: tuple[int, int], deviation: float = 1.0) -> Block:
    """Returns a block that doubles height and width onto ``size``; ``deviation`` is that of its shortcut."""
    second = NormedTransposedConv(inputs, outputs, size, deviation=_SMALL)
    shortcut = NormedTransposedConv(inputs, outputs, size, deviation=deviation)
    return Block(NormedConv(inputs, inputs), second, shortcut)


def halved_sizes(spec: ImageSpec, count: int) -> list[tuple[int, int]]:
    """Returns height and width of an image, of its half, and so on: ``count`` + 1 of them."""
    sizes = [(spec.height, spec.width)]
    for _ in range(count):
        height, width = sizes[-1]
        sizes.append((-(-height // 2), -(-width // 2)))
    return sizes


class ResidualEncoder(nn.Module):
    """Maps images (N, C, H, W) in [-1, 1] to features (N, hidden)."""

    def __init__(self, spec: ImageSpec, maps: Sequence[int], hidden: int) -> None:
        super().__init__()
        blocks: list[Block] = []
        for inputs, outputs in pairwise([spec.channels, *maps]):
            blocks += [keeping(inputs)] * bool(blocks) + [halving(inputs, outputs)]
        self.blocks = nn.Sequential(*blocks)
        height, width = halved_sizes(spec, len(maps))[-1]
        self.dense = NormedLinear(maps[-1] * height * width, hidden)

    def forward(self, images: Tensor) -> Tensor:
        """Maps (N, C, H, W) to (N, hidden)."""
        return F.elu(self.dense(F.elu(self.blocks(images)).flatten(1)))


class ResidualDecoder(nn.Module):
    """Maps latents (N, D) to outputs (N, C * O, H, W), see ``harness_layers.pixels``."""

    def __init__(self, size: int, hidden: int, maps: Sequence[int], spec: ImageSpec) -> None:
        super().__init__()
        *sizes, smallest = halved_sizes(spec, len(maps))
        self.shape = (maps[-1], *smallest)
        self.dense = nn.Sequential(
            NormedLinear(size, hidden), nn.ELU(), NormedLinear(hidden, maps[-1] * smallest[0] * smallest[1])
        )
        blocks: list[Block] = []
        for (inputs, outputs), onto in zip(pairwise(maps[::-1]), sizes[:0:-1], strict=True):
            blocks += [doubling(inputs, outputs, onto), keeping(outputs)]
        blocks.append(doubling(maps[0], spec.channels * num_outputs(spec), sizes[0], deviation=_SMALL))
        self.blocks = nn.Sequential(*blocks)

    def forward(self, latents: Tensor) -> Tensor:
        """Maps (N, D) to (N, C * O, H, W)."""
        return cast("Tensor", self.blocks(self.dense(latents).view(-1, *self.shape)))
