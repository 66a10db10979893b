"""Couplings: some entries stay, and say by how much the others are moved (Dinh et al. 2017, arXiv 1605.08803).

    y = m x + (1 - m) (x exp(s(m x)) + t(m x)),    log |det| = sum of (1 - m) s,    s = learned scale * tanh

An additive coupling (Dinh et al. 2015, arXiv 1410.8516) has s = 0. Networks see asinh(m x): an entry that hardly ever
varies in the first training images, and does later, is far out.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

_CONVOLVED = 4  # pixels a side; smaller images have fully connected networks


def checkerboard(shape: Sequence[int], *, parity: int) -> Tensor:
    """Returns (C, H, W) bool: true where row + column + parity is even, in every channel."""
    channels, height, width = shape
    place = torch.arange(height)[:, None] + torch.arange(width) + parity
    return (place % 2 == 0).expand(channels, height, width).clone()


def alternate(shape: Sequence[int], *, parity: int) -> Tensor:
    """Returns (D,) bool: every other entry, the first of them where ``parity`` is even."""
    return (torch.arange(*shape) + parity) % 2 == 0


def channel_halves(shape: Sequence[int], *, parity: int) -> Tensor:
    """Returns (C, H, W) bool: true in the first half of the channels, or in the second where ``parity`` is odd."""
    first = torch.arange(shape[0]) < (shape[0] + 1) // 2
    return (first ^ bool(parity % 2))[:, None, None].expand(*shape).clone()


class Coupling(nn.Module):
    """Moves the entries of (N, ...) where ``stays`` is false.

    Args:
        stays: (...) bool, without the axis of the batch.
        network: maps (N, ...) to shifts and, unless it is additive, raw scales after them: (N, 2 C, ...).
        additive: whether there is no scale.
    """

    stays: Tensor

    def __init__(self, stays: Tensor, network: nn.Module, *, additive: bool = False) -> None:
        super().__init__()
        self.register_buffer("stays", stays)
        self.network, self.additive = network, additive
        if not additive:
            self.scale = nn.Parameter(torch.ones(stays.shape[0], *(1 for _ in stays.shape[1:])))

    def _moves(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        """Returns shifts and log scales, zero where entries stay."""
        outputs = self.network(torch.asinh(x * self.stays))
        if self.additive:
            return outputs * ~self.stays, None
        shift, raw = outputs.chunk(2, 1)
        return shift * ~self.stays, self.scale * torch.tanh(raw) * ~self.stays

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Maps (N, ...) to (N, ...) and the log-determinant (N,) nats."""
        shift, log_scale = self._moves(x)
        if log_scale is None:
            return x + shift, x.new_zeros(len(x))
        return x * log_scale.exp() + shift, log_scale.flatten(1).sum(1)

    def inverse(self, z: Tensor) -> Tensor:
        """Maps (N, ...) to (N, ...)."""
        shift, log_scale = self._moves(z)
        return z - shift if log_scale is None else (z - shift) * (-log_scale).exp()


def start_at_zero(layer: nn.Conv2d | nn.Linear) -> nn.Module:
    """Returns the layer with all weights at zero: a coupling starts as the identity."""
    for value in layer.parameters():
        nn.init.zeros_(value)
    return layer


class Residual(nn.Module):
    """x + conv1x1(relu(conv3x3(relu(x))))."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.wide, self.narrow = nn.Conv2d(channels, channels, 3, padding=1), nn.Conv2d(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Maps (N, C, H, W) to (N, C, H, W)."""
        hidden: Tensor = self.narrow(F.relu(self.wide(F.relu(x))))
        return x + hidden


class ConvolutionalNetwork(nn.Module):
    """Residual blocks between two convolutions, with a bias for every place; its outputs start at zero.

    Even sides of at least 8 pixels are halved first: 2x2 pixels become channels, and there are twice as many maps. That
    costs as much as ``channels`` maps at full size, and sees twice as far.

    Args:
        shape: of an image, (C, H, W).
        outputs: channels of what comes out, at the size of the image.
        channels: maps of the blocks.
        blocks: how many there are.
    """

    def __init__(self, shape: Sequence[int], outputs: int, *, channels: int, blocks: int) -> None:
        super().__init__()
        size, height, width = shape
        self.factor = 2 if height % 2 == width % 2 == 0 and min(height, width) >= 8 else 1
        area, maps = self.factor**2, self.factor * channels
        self.first = nn.Conv2d(size * area, maps, 3, padding=1)
        self.place_bias = nn.Parameter(torch.zeros(maps, height // self.factor, width // self.factor))
        self.blocks = nn.Sequential(*(Residual(maps) for _ in range(blocks)))
        self.last = start_at_zero(nn.Conv2d(maps, outputs * area, 1))

    def forward(self, x: Tensor) -> Tensor:
        """Maps (N, C, H, W) to (N, outputs, H, W)."""
        hidden = self.first(F.pixel_unshuffle(x, self.factor)) + self.place_bias
        return F.pixel_shuffle(self.last(F.relu(self.blocks(hidden))), self.factor)


class DenseNetwork(nn.Module):
    """Fully connected ReLU layers, for rows of entries or images of a few pixels; it starts at zero.

    Args:
        shape: of an image (C, H, W), or of a row (D,).
        outputs: the first axis of what comes out, whose other axes are those of ``shape``.
        hidden: widths of the layers.
    """

    def __init__(self, shape: Sequence[int], outputs: int, *, hidden: Sequence[int]) -> None:
        super().__init__()
        self.shape = (outputs, *shape[1:])
        sizes = [torch.Size(shape).numel(), *hidden]
        layers = [nn.Sequential(nn.Linear(a, b), nn.ReLU()) for a, b in pairwise(sizes)]
        self.layers = nn.Sequential(*layers, start_at_zero(nn.Linear(sizes[-1], torch.Size(self.shape).numel())))

    def forward(self, x: Tensor) -> Tensor:
        """Maps (N, C, H, W) to (N, outputs, H, W), or (N, D) to (N, outputs)."""
        outputs: Tensor = self.layers(x.flatten(1))
        return outputs.view(-1, *self.shape)


def network_for(shape: Sequence[int], outputs: int, *, channels: int, blocks: int) -> nn.Module:
    """Returns a convolutional network, or a fully connected one where a side of the image is below 4 pixels."""
    if min(shape[1:]) < _CONVOLVED:
        return DenseNetwork(shape, outputs, hidden=(4 * channels,) * (blocks + 1))
    return ConvolutionalNetwork(shape, outputs, channels=channels, blocks=blocks)
