"""The network of Deep Diffusion: convolutions at several scales beside a dense path, and a readout for each pixel."""

from __future__ import annotations

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from harness import ImageSpec

_DENSE_MAPS = 2
_SLOPE = 0.05


class MultiScaleConvolution(nn.Module):
    """A 3x3 convolution at each of several scales: maps are averaged down, convolved, and put back; all are added."""

    def __init__(self, inputs: int, outputs: int, num_scales: int) -> None:
        super().__init__()
        self.convolutions = nn.ModuleList(
            nn.Conv2d(inputs, outputs, 3, padding=1, bias=scale == 0) for scale in range(num_scales)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Maps (N, inputs, H, W) to (N, outputs, H, W)."""
        small, total = x, self.convolutions[0](x)
        for convolution in list(self.convolutions)[1:]:
            small = F.avg_pool2d(small, 2, ceil_mode=True)
            total = total + F.interpolate(convolution(small), size=x.shape[2:])
        assert isinstance(total, Tensor)
        return total


class ReverseNetwork(nn.Module):
    """What the reverse process of Deep Diffusion reads off a noisy image (appendix D.2 of the paper).

    A pixel's features are the last maps of the convolutions, two maps of the dense path, and the inputs themselves. A
    small network maps them to coefficients c_j, and at time t the output is

        y(t) = sum_j g_j(t) c_j,    g_j(t) ~ exp(-(t - tau_j)^2 / (2 w^2)),    sum_j g_j(t) = 1,

    with J bumps tau_j evenly over [0, 1], and w their distance: the rest of the network knows no time. Unlike the
    paper's, the convolutions take 2x2 blocks of pixels as maps, which are pixels again before they are read: as many
    operations make four times the maps.

    Args:
        spec: the sample space.
        inputs, outputs: numbers for each entry of the image.
        maps, layers: of the convolutions; maps are rounded up to a multiple of four.
        scales: of each convolution, each half as large as the one before; fewer where an image is small.
        dense, dense_layers: width and number of layers of the dense path.
        readout: hidden units of the readout.
        bumps: J.
    """

    times: Tensor

    def __init__(self, spec: ImageSpec, *, inputs: int, outputs: int, maps: int, layers: int, scales: int, dense: int,
                 dense_layers: int, readout: int, bumps: int) -> None:  # fmt: skip
        super().__init__()
        channels, height, width = spec.shape
        inputs, per_pixel = channels * inputs, -(-maps // 4)
        scales = min(scales, (max(height, width) + 1).bit_length() - 1)
        widths = [4 * inputs] + [4 * per_pixel] * layers
        self.convolutions = nn.ModuleList(MultiScaleConvolution(i, o, scales) for i, o in pairwise(widths))
        sizes = [inputs * height * width] + [dense] * dense_layers + [_DENSE_MAPS * height * width]
        self.dense = nn.ModuleList(nn.Linear(i, o) for i, o in pairwise(sizes))
        self.hidden = nn.Conv2d(per_pixel + _DENSE_MAPS + inputs, readout, 1)
        self.coefficients = nn.Parameter(torch.zeros(bumps, outputs * channels, readout + 1))
        self.shape = (outputs, channels, height, width)
        self.register_buffer("times", torch.linspace(0, 1, bumps))

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        """Maps inputs (N, inputs * C, H, W) and times (N,), or (1,), in [0, 1] to (N, outputs, C, H, W)."""
        height, width = x.shape[2:]
        maps, flat = F.pixel_unshuffle(F.pad(x, (0, width % 2, 0, height % 2)), 2), x.flatten(1)
        for convolution in self.convolutions:
            maps = F.leaky_relu(convolution(maps), _SLOPE)
        for layer in self.dense[:-1]:
            flat = F.leaky_relu(layer(flat), _SLOPE)
        maps = F.pixel_shuffle(maps, 2)[:, :, :height, :width]
        image = self.dense[-1](flat).view(len(x), _DENSE_MAPS, height, width)
        features = F.leaky_relu(self.hidden(torch.cat([maps, image, x], 1)), _SLOPE)
        nearness = (time[:, None] - self.times) * max(1, len(self.times) - 1)
        weights = torch.einsum("nj,jor->nor", (-nearness.square() / 2).softmax(1), self.coefficients)
        out = weights[:, :, :-1] @ features.flatten(2) + weights[:, :, -1:]
        return out.view(-1, *self.shape)
