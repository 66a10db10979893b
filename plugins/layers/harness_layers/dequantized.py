"""Densities of uniformly dequantized pixels x + u, u uniform on [0, 1)^D, the entries of x counted in levels."""

from __future__ import annotations

from abc import abstractmethod

import torch
from torch import Tensor

from harness import VariationalBound


class DequantizedDensity(VariationalBound):
    """A density p(x + u) on R^D: log w = log p(x + u) - log q(u), q(u) = 1, is a bound of log p(image) in expectation.

    What is bounded: ``sample`` draws from the density, rounds down and clamps to the levels. So p(image) is the
    density's mass of the image's cell; the cells of values 0 and levels - 1 reach to infinity. E[exp w] is the
    mass of the unit cell x + [0, 1)^D: that is p(image) where no entry is 0 or levels - 1, and less elsewhere. So log w
    is in expectation a lower bound of log p(image) throughout, and E[exp w] sums over all images to the density's mass
    inside [0, levels)^D, below one: little is missing on natural 8-bit images, much on binary ones. For want of those
    tails the weights are no unbiased estimate of p(image), so this is a ``VariationalBound`` and no more.
    """

    @abstractmethod
    def log_density(self, points: Tensor) -> Tensor:
        """Maps (M, D) float64, in levels, to (M,) nats."""

    def elbo(self, images: Tensor) -> Tensor:
        """Maps (N, C, H, W) uint8 to (N,) nats: the log-density at one draw of the noise, a bound in expectation."""
        return self.log_dequantized_density(images, 1)[0]

    def log_dequantized_density(self, images: Tensor, num_samples: int) -> Tensor:
        """Maps (N, C, H, W) uint8 to (num_samples, N) nats; E[exp w] is the mass of the image's unit cell."""
        values = images.flatten(1).double()  # (N, D)
        noise = torch.rand(num_samples, *values.shape, dtype=torch.float64, device=images.device)
        return self.log_density((values + noise).flatten(0, 1)).view(num_samples, len(images)).to(self.dtype)

    def to_images(self, points: Tensor) -> Tensor:
        """Maps draws (N, D) of the density to (N, C, H, W) uint8: rounded down and clamped to the levels."""
        return points.floor().clamp(0, self.spec.levels - 1).to(torch.uint8).view(-1, *self.spec.shape)
