"""A multivariate Gaussian on dequantized pixels, in closed form."""

from __future__ import annotations

import math
from typing import ClassVar

import torch
from torch import Tensor, nn

from harness import Dataset, ImageSpec, Trainer, Unsupported
from harness_layers.dequantized import DequantizedDensity

_MAX_DIMENSIONS = 16_384
_CHUNK = 4096


def normal_log_density(points: Tensor, mean: Tensor, cholesky: Tensor) -> Tensor:
    """Maps (M, D) to (M,) nats: log N(point; mean, L L^T), with ``mean`` (D,) and L = ``cholesky`` (D, D) lower."""
    whitened = torch.linalg.solve_triangular(cholesky, (points - mean).T, upper=False)  # (D, M)
    constant = cholesky.diagonal().log().sum() + 0.5 * len(mean) * math.log(2 * math.pi)
    log_density: Tensor = -0.5 * whitened.square().sum(0) - constant
    return log_density


class Gaussian(DequantizedDensity):
    """A full-covariance Gaussian on uniformly dequantized pixels.

    With u uniform on [0, 1)^D and the entries of x counted in levels,

        log w = log N(x + u; mean, covariance) - log q(u),    q(u) = 1,
        mean = average(x) + 1/2,    covariance = (1 - s) S + s diag(S) + I / 12,

    where S is the sample covariance (divided by n) and s the shrinkage. With s = 0 these maximise the expectation of
    log w over u on the training images: the noise enters exactly, by its mean 1/2 and variance 1/12, and so a pixel
    that never varies leaves no singularity. The parameters are found, and densities computed, in float64.

    What is bounded is said in ``DequantizedDensity``.

    Args:
        spec: the sample space.
        shrinkage: s in [0, 1]; 1 leaves the variances alone.

    Raises:
        ValueError: ``shrinkage`` is outside [0, 1].
        Unsupported: more than 16,384 dimensions: the covariance would not fit.
    """

    default_budget: ClassVar[str] = "1 epoch"

    def __init__(self, spec: ImageSpec, *, shrinkage: float = 0.0) -> None:
        super().__init__(spec)
        dimensions = spec.num_dimensions
        if not 0 <= shrinkage <= 1:
            raise ValueError(f"shrinkage must be from 0 to 1, not {shrinkage}")
        if dimensions > _MAX_DIMENSIONS:
            raise Unsupported(f"a full covariance of {dimensions} dimensions; at most {_MAX_DIMENSIONS} are supported")
        self.shrinkage = shrinkage
        # Before fit: the mean and variances of uniform pixels.
        self.mean = nn.Parameter(torch.full((dimensions,), spec.levels / 2), requires_grad=False)
        cholesky = torch.eye(dimensions) * (spec.levels / math.sqrt(12))
        self.cholesky = nn.Parameter(cholesky, requires_grad=False)  # (D, D), lower triangular

    @torch.no_grad()
    def fit(self, data: Dataset, trainer: Trainer) -> None:
        """Takes the moments of the training images, all fixed draws of random data counted."""
        split, dimensions = data.train, self.spec.num_dimensions
        total = torch.zeros(dimensions, dtype=torch.float64, device=self.device)
        square = torch.zeros(dimensions, dimensions, dtype=torch.float64, device=self.device)
        # Moments about the middle of the range lose fewer digits than moments about zero.
        middle, count = (self.spec.levels - 1) / 2, split.num_draws * len(split)
        for draw in range(split.num_draws):
            images = split.draw(draw).images
            for start in range(0, len(images), _CHUNK):
                points = images[start : start + _CHUNK].to(self.device).flatten(1).double() - middle  # (B, D)
                total += points.sum(0)
                square += points.T @ points
        average = total / count
        covariance = square / count - average.outer(average)
        variances = covariance.diagonal().clone()
        covariance *= 1 - self.shrinkage
        covariance.diagonal().copy_(variances + 1 / 12)
        self.mean.copy_(average + middle + 0.5)
        self.cholesky.copy_(torch.linalg.cholesky(covariance))

    def log_density(self, points: Tensor) -> Tensor:
        """Maps (M, D) float64, in levels, to (M,) nats."""
        return normal_log_density(points, self.mean.double(), self.cholesky.double())

    @torch.no_grad()
    def sample(self, num_samples: int) -> Tensor:
        """Returns (num_samples, C, H, W) uint8: draws of the Gaussian, rounded down and clamped to the levels."""
        normal = torch.randn(num_samples, self.spec.num_dimensions, dtype=self.dtype, device=self.device)
        return self.to_images(self.mean + normal @ self.cholesky.T)
