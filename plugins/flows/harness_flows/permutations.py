"""What stands between couplings: squeezes, parts of a row, linear maps of channels, scales that start from data."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from harness_flows.flow import Started, Step

_SMALLEST = 0.05  # of the usual deviation: what hardly varies in the first images is not blown up


class Part(nn.Module):
    """A step for images, on the first entries of a row; the rest is factored out (Dinh et al. 2017, arXiv 1605.08803).

    Args:
        shape: of the images, (C, H, W); C H W is at most the length of the rows.
        step: maps (N, C, H, W) to as many entries.
    """

    def __init__(self, shape: Sequence[int], step: nn.Module) -> None:
        super().__init__()
        self.shape, self.step = tuple(shape), step
        self.size = math.prod(shape)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Maps (N, D) to (N, D) and the log-determinant (N,) nats."""
        values, log_det = cast("Step", self.step)(self._images(x))
        return torch.cat([values.flatten(1), x[:, self.size :]], 1), log_det

    def inverse(self, z: Tensor) -> Tensor:
        """Maps (N, D) to (N, D)."""
        values = cast("Step", self.step).inverse(self._images(z))
        return torch.cat([values.flatten(1), z[:, self.size :]], 1)

    def start(self, x: Tensor) -> None:
        """Starts the step, if it does, on inputs (N, D)."""
        if isinstance(self.step, Started):
            self.step.start(self._images(x))

    def _images(self, rows: Tensor) -> Tensor:
        return rows[:, : self.size].reshape(-1, *self.shape)


class Squeeze(nn.Module):
    """Makes 2x2 pixels into four channels: (N, C, H, W) to (N, 4 C, H / 2, W / 2)."""

    def __init__(self, shape: Sequence[int]) -> None:
        super().__init__()
        channels, height, width = shape
        self.squeezed = (4 * channels, height // 2, width // 2)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Maps (N, C, H, W) to (N, 4 C, H / 2, W / 2) and the log-determinant, zeros (N,)."""
        return F.pixel_unshuffle(x, 2), x.new_zeros(len(x))

    def inverse(self, z: Tensor) -> Tensor:
        """Maps as many entries back to (N, C, H, W)."""
        return F.pixel_shuffle(z.reshape(-1, *self.squeezed), 2)


class ActNorm(nn.Module):
    """y = (x - shift) exp(log scale), which starts with mean 0 and deviation 1 (Kingma & Dhariwal, arXiv 1807.03039).

    Shift and scale are parameters, of a channel in the paper; what starts them is kept with the weights.

    Args:
        shape: of an input, without the batch.
        each: the shape of shift and scale, which broadcasts against it, such as (C, 1, 1).
    """

    def __init__(self, shape: Sequence[int], each: Sequence[int]) -> None:
        super().__init__()
        self.shift, self.log_scale = nn.Parameter(torch.zeros(*each)), nn.Parameter(torch.zeros(*each))
        self.shared = math.prod(shape) / math.prod(each)
        self.over = [0, *(axis for axis, size in enumerate(each, start=1) if size == 1)]

    @torch.no_grad()
    def start(self, x: Tensor) -> None:
        """Sets shift and scale for inputs (N, ...)."""
        self.shift.copy_(x.mean(self.over, keepdim=True)[0])
        deviation = x.std(self.over, keepdim=True, correction=0)[0]
        usual = deviation.square().mean().sqrt().clamp_min(torch.finfo(x.dtype).tiny)
        self.log_scale.copy_(-torch.maximum(deviation, _SMALLEST * usual).log())

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Maps (N, ...) to (N, ...) and the log-determinant (N,) nats."""
        return (x - self.shift) * self.log_scale.exp(), (self.shared * self.log_scale.sum()).expand(len(x))

    def inverse(self, z: Tensor) -> Tensor:
        """Maps (N, ...) to (N, ...)."""
        return z * (-self.log_scale).exp() + self.shift


class Invertible1x1(nn.Module):
    """y = W x for the channels of every pixel, log |det| = H W log |det W| (Kingma & Dhariwal 2018, arXiv 1807.03039).

    W starts as a random rotation, W = P L (U + diag(s)), of which P and the signs of s stay as they are: so that it is
    invertible throughout, and log |det W| the sum of log |s|.

    Args:
        channels: of the images.
    """

    order: Tensor
    signs: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        rotation, _ = torch.linalg.qr(torch.randn(channels, channels))
        order, lower, upper = torch.linalg.lu(rotation)
        self.register_buffer("order", order)
        self.register_buffer("signs", upper.diagonal().sign())
        self.log_scale = nn.Parameter(upper.diagonal().abs().log())
        self.lower, self.upper = nn.Parameter(lower.tril(-1)), nn.Parameter(upper.triu(1))

    def _factors(self) -> tuple[Tensor, Tensor]:
        lower = self.lower.tril(-1) + torch.eye(len(self.signs), dtype=self.lower.dtype, device=self.lower.device)
        return lower, self.upper.triu(1) + (self.signs * self.log_scale.exp()).diag()

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Maps (N, C, H, W) to (N, C, H, W) and the log-determinant (N,) nats."""
        lower, upper = self._factors()
        weight = self.order @ lower @ upper
        return F.conv2d(x, weight[..., None, None]), (x[0, 0].numel() * self.log_scale.sum()).expand(len(x))

    def inverse(self, z: Tensor) -> Tensor:
        """Maps (N, C, H, W) to (N, C, H, W), by substitution."""
        lower, upper = self._factors()
        columns: Tensor = self.order.T @ z.flatten(2)  # (N, C, H W)
        columns = torch.linalg.solve_triangular(lower, columns, upper=False, unitriangular=True)
        columns = torch.linalg.solve_triangular(upper, columns, upper=True)
        return columns.view_as(z)
