"""How DRAW reads images and writes to its canvas: all of it at once, or through a window of Gaussian filters."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from harness import ImageSpec
from harness_layers.pixels import num_outputs


def filterbank(centre: Tensor, stride: Tensor, log_variance: Tensor, *, size: int, length: int) -> Tensor:
    """Returns (R, size, length): weights of Gaussian filters over the positions 1 to ``length``, of sum one each.

        F[i, a] = exp(-(a - mu_i)^2 / (2 sigma^2)) / Z_i,    mu_i = g + (i - size / 2 - 1/2) stride,    i = 1..size

    As a softmax, Z_i cannot underflow where a window has left the image (Gregor et al. 2015, arXiv 1502.04623).

    Args:
        centre: (R,), g, in pixels.
        stride: (R,), in pixels.
        log_variance: (R,), of the filters, in squared pixels.
        size: how many filters.
        length: how many positions.
    """
    offsets = torch.arange(1, size + 1, dtype=centre.dtype, device=centre.device) - size / 2 - 0.5
    means = centre[:, None] + stride[:, None] * offsets  # (R, size)
    positions = torch.arange(1, length + 1, dtype=centre.dtype, device=centre.device)
    precision = (-log_variance).exp()[:, None, None]
    return (-0.5 * precision * (positions - means[..., None]).square()).softmax(-1)


@dataclass(frozen=True)
class Window:
    """Filters (R, N, H) over rows and (R, N, W) over columns, and an intensity (R,)."""

    rows: Tensor
    columns: Tensor
    intensity: Tensor

    def read(self, images: Tensor) -> Tensor:
        """Maps images, rows first (R, H, C, W), to (R, N, C, N): intensity * F_rows x F_columns^T of each channel."""
        count, _, channels, width = images.shape
        size = self.rows.shape[1]
        narrow = self.rows @ images.flatten(2)  # (R, N, C * W): few and large products are fast ones
        seen = narrow.view(count, size * channels, width) @ self.columns.mT
        return self.intensity[:, None, None, None] * seen.view(count, size, channels, size)

    def write(self, patches: Tensor) -> Tensor:
        """Maps patches (R, N, C, N) to images, rows first (R, H, C, W): F_rows^T w F_columns / intensity."""
        count, size, channels, _ = patches.shape
        height, width = self.rows.shape[2], self.columns.shape[2]
        wide = (patches / self.intensity[:, None, None, None]).flatten(1, 2) @ self.columns  # (R, N * C, W)
        return (self.rows.mT @ wide.view(count, size, channels * width)).view(count, height, channels, width)


class Attention(nn.Module):
    """Places a window of N x N filters by a linear map of a hidden state.

    The map gives (g_X, g_Y, log sigma^2, log delta, log gamma): the centre, where (0, 0) is the image's, and one of
    them reaches its edge; the variance of the filters, in squared pixels; the stride, of which one lets the window
    cover the longer side; the intensity. At first the window covers half of it, and filters are half a stride wide.

    Args:
        inputs: width of the hidden state.
        size: N.
        height, width: of the image.
    """

    def __init__(self, inputs: int, *, size: int, height: int, width: int) -> None:
        super().__init__()
        self.size, self.height, self.width = size, height, width
        self.widest = max(max(height, width) - 1, 1) / max(size - 1, 1)
        self.place = nn.Linear(inputs, 5)
        with torch.no_grad():
            self.place.weight.mul_(0.1)
            self.place.bias.copy_(torch.tensor([0, 0, 2 * math.log(self.widest / 4), -math.log(2), 0]))

    def forward(self, hidden: Tensor) -> Window:
        """Maps (R, inputs) to a window for each row."""
        across, down, log_variance, log_stride, log_intensity = self.place(hidden).unbind(1)
        stride = self.widest * log_stride.exp()
        rows, columns = (
            filterbank((length + 1) / 2 * (g + 1), stride, log_variance, size=self.size, length=length)
            for g, length in ((down, self.height), (across, self.width))
        )
        return Window(rows, columns, log_intensity.exp())


class WindowReader(nn.Module):
    """Reads a patch of the image, and of what is not painted yet; maps them to ``outputs`` numbers."""

    def __init__(self, hidden: int, outputs: int, spec: ImageSpec, size: int) -> None:
        super().__init__()
        self.attention = Attention(hidden, size=size, height=spec.height, width=spec.width)
        self.linear = nn.Linear(2 * spec.channels * size * size, outputs, bias=False)

    def features(self, images: Tensor) -> Tensor:
        """Maps (N, C, H, W) in [0, 1] to what is computed once for an image: itself."""
        return images

    def forward(self, images: Tensor, visible: Tensor, hidden: Tensor) -> Tensor:
        """Maps features, what is on the canvas (R, C, H, W) in [0, 1], and (R, hidden) to (R, outputs)."""
        both = torch.cat([each.transpose(1, 2) for each in (images, images - visible)], dim=2)
        patches = self.attention(hidden).read(both)
        patch: Tensor = self.linear(patches.flatten(1))
        return patch


class WholeReader(nn.Module):
    """Reads all of the image, and of what is not painted yet; maps them to ``outputs`` numbers.

    It is linear in both, so that what the image gives is computed once: A x + B (x - c) = (A + B) x - B c.
    """

    def __init__(self, outputs: int, spec: ImageSpec) -> None:
        super().__init__()
        self.image = nn.Linear(spec.num_dimensions, outputs, bias=False)
        self.error = nn.Linear(spec.num_dimensions, outputs, bias=False)

    def features(self, images: Tensor) -> Tensor:
        """Maps (N, C, H, W) in [0, 1] to (N, outputs)."""
        flat = images.flatten(1)
        given: Tensor = self.image(flat) + self.error(flat)
        return given

    def forward(self, given: Tensor, visible: Tensor, hidden: Tensor) -> Tensor:
        """Maps features and what is on the canvas (R, C, H, W) in [0, 1] to (R, outputs); ``hidden`` places nothing."""
        read: Tensor = given - self.error(visible.flatten(1))
        return read


class WindowWriter(nn.Module):
    """Writes a patch through a window of its own."""

    def __init__(self, hidden: int, spec: ImageSpec, size: int) -> None:
        super().__init__()
        self.shape = (size, spec.channels * num_outputs(spec), size)
        self.attention = Attention(hidden, size=size, height=spec.height, width=spec.width)
        self.linear = nn.Linear(hidden, math.prod(self.shape))

    def forward(self, hidden: Tensor) -> Tensor:
        """Maps (R, hidden) to (R, C * O, H, W): what is added to the canvas."""
        window: Window = self.attention(hidden)
        return window.write(self.linear(hidden).view(len(hidden), *self.shape)).transpose(1, 2)


class WholeWriter(nn.Module):
    """Writes all of the canvas."""

    def __init__(self, hidden: int, spec: ImageSpec) -> None:
        super().__init__()
        self.shape = (spec.channels * num_outputs(spec), spec.height, spec.width)
        self.linear = nn.Linear(hidden, math.prod(self.shape))

    def forward(self, hidden: Tensor) -> Tensor:
        """Maps (R, hidden) to (R, C * O, H, W): what is added to the canvas."""
        added: Tensor = self.linear(hidden).view(len(hidden), *self.shape)
        return added
