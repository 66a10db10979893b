"""Right masked convolutions: a PixelCNN that declares its blind spot, and a gated one that has none."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from harness import ImageSpec

from .autoregressive import Trained
from .common import at_most, centred
from .registry import right

Kind = Literal["A", "B"]


def causal_mask(channels: tuple[int, int], groups: int, kernel: tuple[int, int], kind: Kind) -> Tensor:
    """Returns (out, in, kh, kw) bool: above, or left, or here where the order of channels allows it.

    Features are in equal blocks, one a channel of the image. A sees earlier blocks of its pixel, B itself too.
    """
    out, into = (torch.arange(count) * groups // count for count in channels)
    height, width = kernel
    mask = torch.zeros(*channels, height, width, dtype=torch.bool)
    mask[:, :, : height // 2] = True
    mask[:, :, height // 2, : width // 2] = True
    mask[:, :, height // 2, width // 2] = out[:, None] > into if kind == "A" else out[:, None] >= into
    return mask


class MaskedConv(nn.Conv2d):
    """A convolution whose weights are masked when it is applied."""

    def __init__(
        self, into: int, out: int, kernel: tuple[int, int], *, groups: int, kind: Kind, copies: int = 1
    ) -> None:
        super().__init__(into, copies * out, kernel, padding=(kernel[0] // 2, kernel[1] // 2))
        mask = causal_mask((out, into), groups, kernel, kind).repeat(copies, 1, 1, 1)
        self.register_buffer("mask", mask, persistent=False)

    def forward(self, inputs: Tensor) -> Tensor:
        """Maps (N, in, H, W) to (N, out, H, W)."""
        return F.conv2d(inputs, self.weight * self.mask, self.bias, padding=self.padding)


def logits_of(features: Tensor, spec: ImageSpec) -> Tensor:
    """Maps (N, C * levels, H, W) to (N, levels, C, H, W)."""
    return features.view(len(features), spec.channels, spec.levels, spec.height, spec.width).transpose(1, 2)


@right
class PixelCNN(Trained):
    """Masked convolutions, with a blind spot and a finite reach (van den Oord et al. 2016, arXiv 1601.06759)."""

    kinds: tuple[Kind, ...] = ("A", "B", "B")

    def __init__(self, spec: ImageSpec, *, width: int = 4) -> None:
        super().__init__(spec)
        at_most(spec, 1100)
        channels = spec.channels
        self.layers = nn.ModuleList()
        into = channels
        for kind in self.kinds:
            self.layers.append(MaskedConv(into, width * channels, (3, 3), groups=channels, kind=kind))
            into = width * channels
        self.out = MaskedConv(into, channels * spec.levels, (1, 1), groups=channels, kind="B")

    def conditional_logits(self, images: Tensor, ordering: int = 0) -> Tensor:
        features = centred(images, self.spec, self.dtype).view(images.shape)
        for layer in self.layers:
            features = F.elu(layer(features))
        return logits_of(self.out(features), self.spec)

    def dependence(self, ordering: int = 0) -> Tensor:
        channels, size = self.spec.channels, self.spec.num_dimensions
        reached = torch.eye(size).view(size, *self.spec.shape)
        for kind in PixelCNN.kinds:
            mask = causal_mask((channels, channels), channels, (3, 3), kind).float()
            reached = (F.conv2d(reached, mask, padding=1) > 0).float()
        return reached.flatten(1).T > 0


@right
class GatedPixelCNN(Trained):
    """A vertical stack that sees the rows above and a horizontal one (van den Oord et al. 2016, arXiv 1606.05328).

    The first kernels are as large as the image, so that all of the past is seen.
    """

    def __init__(self, spec: ImageSpec, *, width: int = 4) -> None:
        super().__init__(spec)
        at_most(spec, 1100)
        channels, rows, columns = spec.shape
        size = width * channels
        self.vertical = nn.Conv2d(channels, 2 * size, (rows, 2 * columns - 1))
        self.vertical_next = nn.Conv2d(size, 2 * size, (2, 3))
        self.link, self.link_next = nn.Conv2d(2 * size, 2 * size, 1), nn.Conv2d(2 * size, 2 * size, 1)
        kernel = (1, 2 * columns - 1)
        self.horizontal = MaskedConv(channels, size, kernel, groups=channels, kind="A", copies=2)
        self.horizontal_next = MaskedConv(size, size, (1, 3), groups=channels, kind="B", copies=2)
        self.residual = MaskedConv(size, size, (1, 1), groups=channels, kind="B")
        self.out = MaskedConv(size, channels * spec.levels, (1, 1), groups=channels, kind="B")

    def conditional_logits(self, images: Tensor, ordering: int = 0) -> Tensor:
        pixels = centred(images, self.spec, self.dtype).view(images.shape)
        above = self.vertical(self.shifted_down(pixels))
        across = self.gate(self.horizontal(pixels) + self.link(above))
        above = self.vertical_next(F.pad(self.gate(above), (1, 1, 1, 0)))
        across = across + self.residual(self.gate(self.horizontal_next(across) + self.link_next(above)))
        return logits_of(self.out(across), self.spec)

    def shifted_down(self, pixels: Tensor) -> Tensor:
        """Pads (N, C, H, W) so that a kernel of the vertical stack ends in the row above."""
        _, rows, columns = self.spec.shape
        return F.pad(pixels, (columns - 1, columns - 1, rows, 0))[:, :, :-1]

    @staticmethod
    def gate(features: Tensor) -> Tensor:
        """Maps (N, 2 F, H, W) to (N, F, H, W)."""
        first, second = features.chunk(2, 1)
        return torch.tanh(first) * torch.sigmoid(second)
