"""Batch normalization as a step of a flow."""

from __future__ import annotations

import torch
from torch import Tensor, nn

_EPSILON, _MOMENTUM = 1e-5, 0.05


class BatchNorm(nn.Module):
    r"""Batch normalization between layers (Dinh et al. 2017, arXiv 1605.08803, appendix E).

    .. math:: z_d = (x_d - m_d) (v_d + \epsilon)^{-1/2} e^{g_d} + b_d
    .. math:: \log|\det dz/dx| = \sum_d g_d - \tfrac12 \log(v_d + \epsilon)

    Mean m and variance v are those of the batch in training. In evaluation they are running averages, which are fixed:
    an image's latents then depend on that image alone.

    Args:
        size: D.
    """

    mean: Tensor
    variance: Tensor

    def __init__(self, size: int) -> None:
        super().__init__()
        self.log_scale, self.bias = nn.Parameter(torch.zeros(size)), nn.Parameter(torch.zeros(size))
        self.register_buffer("mean", torch.zeros(size))
        self.register_buffer("variance", torch.ones(size))

    @torch.no_grad()
    def start(self, x: Tensor) -> None:
        """Sets the running averages to mean and variance of inputs (N, D)."""
        self.mean.copy_(x.mean(0))
        self.variance.copy_(x.var(0, correction=0))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Maps (N, D) to (N, D) and the log-determinant (N,) nats."""
        mean, variance = self.mean, self.variance
        if self.training and len(x) > 1:
            mean, variance = x.mean(0), x.var(0, correction=0)
            self.mean.lerp_(mean.detach(), _MOMENTUM)
            self.variance.lerp_(variance.detach(), _MOMENTUM)
        log_scale = self.log_scale - 0.5 * (variance + _EPSILON).log()
        return (x - mean) * log_scale.exp() + self.bias, log_scale.sum().expand(len(x))

    def inverse(self, z: Tensor) -> Tensor:
        """Maps (N, D) to (N, D), by the running averages."""
        scale = (self.log_scale - 0.5 * (self.variance + _EPSILON).log()).exp()
        return (z - self.bias) / scale + self.mean
