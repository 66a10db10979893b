"""Networks that are told how noisy an image is: a small U-Net, and a residual MLP for images of few pixels."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from harness import ImageSpec

_FREQUENCIES = 6
_FEWEST_ROWS = 8  # of an image that is worth a convolution
_CHUNK_ENTRIES, _LARGEST_CHUNK = 2**16, 4096  # so that what a network computes stays in a processor's caches


class NoiseEmbedding(nn.Module):
    """Maps noise levels (N,), numbers between about -15 and 15, to (N, width)."""

    frequencies: Tensor

    def __init__(self, width: int) -> None:
        super().__init__()
        self.register_buffer("frequencies", 2.0 ** torch.arange(_FREQUENCIES))
        self.layers = nn.Sequential(nn.Linear(2 * _FREQUENCIES, width), nn.SiLU(), nn.Linear(width, width), nn.SiLU())

    def forward(self, noise_level: Tensor) -> Tensor:
        """Maps (N,) to (N, width)."""
        angles = noise_level[:, None] * self.frequencies * (math.pi / 30)
        embedding: Tensor = self.layers(torch.cat([angles.sin(), angles.cos()], dim=1))
        return embedding


class _ConvBlock(nn.Module):
    """x + conv(silu(norm(conv(silu(norm(x)))) scaled and shifted by the noise level))."""

    def __init__(self, maps: int, embedding: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = (nn.GroupNorm(math.gcd(8, maps), maps) for _ in range(2))
        self.conv1, self.conv2 = (nn.Conv2d(maps, maps, 3, padding=1) for _ in range(2))
        self.noise = nn.Linear(embedding, 2 * maps)
        _start_at_zero(self.conv2)

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        hidden = self.norm2(self.conv1(F.silu(self.norm1(x))))
        scale, shift = self.noise(embedding)[:, :, None, None].chunk(2, dim=1)
        change: Tensor = self.conv2(F.silu(torch.addcmul(shift, hidden, 1 + scale)))
        return x + change


class UNet(nn.Module):
    """Two resolutions, a half and a quarter of the image's, with skips between them.

    The image's 2x2 blocks are channels of the first convolution, so that nothing is computed at full size. Sides are
    padded to a multiple of four.
    """

    def __init__(self, channels: int, outputs: int, *, width: int, blocks: int) -> None:
        super().__init__()
        embedding, inner = 2 * width, 2 * width
        self.embedding = NoiseEmbedding(embedding)
        self.first = nn.Conv2d(4 * channels, width, 3, padding=1)
        self.down = nn.ModuleList(_ConvBlock(width, embedding) for _ in range(blocks))
        self.shrink = nn.Conv2d(width, inner, 2, stride=2)
        self.middle = nn.ModuleList(_ConvBlock(inner, embedding) for _ in range(2 * blocks))
        self.grow = nn.ConvTranspose2d(inner, width, 2, stride=2)
        self.up = nn.ModuleList(_ConvBlock(width, embedding) for _ in range(blocks))
        self.norm = nn.GroupNorm(math.gcd(8, width), width)
        self.last = nn.Conv2d(width, 4 * outputs, 3, padding=1)
        _start_at_zero(self.last)

    def forward(self, x: Tensor, noise_level: Tensor) -> Tensor:
        """Maps (N, channels, H, W) and (N,) or (1,) to (N, outputs, H, W)."""
        height, width = x.shape[2:]
        padded = F.pad(x, (0, -width % 4, 0, -height % 4))
        embedding = self.embedding(noise_level)
        hidden = self.first(F.pixel_unshuffle(padded, 2).contiguous(memory_format=torch.channels_last))
        skips = []
        for block in self.down:
            hidden = block(hidden, embedding)
            skips.append(hidden)
        hidden = self.shrink(hidden)
        for block in self.middle:
            hidden = block(hidden, embedding)
        hidden = self.grow(hidden)
        for block in self.up:
            hidden = block(hidden + skips.pop(), embedding)
        out = F.pixel_shuffle(self.last(F.silu(self.norm(hidden))).contiguous(), 2)
        return out[:, :, :height, :width]


class ResidualMLP(nn.Module):
    """Layers x + linear(silu(linear(x) + the noise level's)) on all entries at once."""

    def __init__(self, inputs: int, outputs: int, *, width: int, blocks: int) -> None:
        super().__init__()
        self.embedding = NoiseEmbedding(width)
        self.first = nn.Linear(inputs, width)
        self.inner = nn.ModuleList(nn.Linear(width, width) for _ in range(blocks))
        self.noise = nn.ModuleList(nn.Linear(width, width) for _ in range(blocks))
        self.outer = nn.ModuleList(nn.Linear(width, width) for _ in range(blocks))
        self.last = nn.Linear(width, outputs)
        _start_at_zero(self.last)

    def forward(self, x: Tensor, noise_level: Tensor) -> Tensor:
        """Maps (N, inputs) and (N,) or (1,) to (N, outputs)."""
        embedding, hidden = self.embedding(noise_level), self.first(x)
        for inner, noise, outer in zip(self.inner, self.noise, self.outer, strict=True):
            hidden = hidden + outer(F.silu(inner(hidden) + noise(embedding)))
        out: Tensor = self.last(F.silu(hidden))
        return out


class ImageNetwork(nn.Module):
    """A network from an image's features and its noise level to some numbers for each entry.

    Args:
        spec: of the images; both sides have at least 8 pixels for a U-Net, otherwise it is an MLP.
        features, outputs: F and O, numbers for each entry.
        width: maps at half the image's size, twice as many at a quarter; of an MLP, hidden units.
        blocks: residual blocks on the way down and on the way up, and twice as many in the middle; of an MLP, four
            times as many.
    """

    def __init__(self, spec: ImageSpec, *, features: int, outputs: int, width: int, blocks: int) -> None:
        super().__init__()
        self.shape, self.outputs = spec.shape, outputs
        self.network: UNet | ResidualMLP
        if min(spec.height, spec.width) >= _FEWEST_ROWS:
            self.network = UNet(features * spec.channels, outputs * spec.channels, width=width, blocks=blocks)
        else:
            inputs, out = (count * spec.num_dimensions for count in (features, outputs))
            self.network = ResidualMLP(inputs, out, width=width, blocks=4 * blocks)

    def forward(self, features: Tensor, noise_level: Tensor) -> Tensor:
        """Maps (N, F, C, H, W) and (N,) or (1,) to (N, O, C, H, W)."""
        flat = features.flatten(1, 2) if isinstance(self.network, UNet) else features.flatten(1)
        out: Tensor = self.network(flat, noise_level)
        return out.view(len(features), self.outputs, *self.shape)


def chunks(num_images: int, spec: ImageSpec) -> list[int]:
    """Returns numbers of images, ``num_images`` in all, that a network takes at a time."""
    size = min(_LARGEST_CHUNK, max(1, _CHUNK_ENTRIES // spec.num_dimensions))
    sizes = [size] * (num_images // size) + [num_images % size]
    return sizes if sizes[-1] or len(sizes) == 1 else sizes[:-1]


def _start_at_zero(layer: nn.Conv2d | nn.Linear) -> None:
    nn.init.zeros_(layer.weight)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
