"""Gaussians whose covariances are of low rank but for a diagonal, and where a training of them starts."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from harness_mixtures.seeding import nearest_seed, plus_plus_seeds

_START_IMAGES = 10_000


@dataclass(frozen=True)
class FactorGaussians:
    """K Gaussians N(mean, loadings loadings^T + diag(scale^2)) over D dimensions with their weights.

    No D x D matrix is made. With the whitened loadings W = P loadings L^-T, where P = diag(scale^-2) and L L^T =
    I + loadings^T P loadings, the inverse covariance is P - W W^T (Woodbury).

    Attributes:
        log_weights: (K,) nats, of weights that sum to one.
        mean: (K, D).
        loadings: (K, D, Q).
        scale: (K, D), positive.
    """

    log_weights: Tensor
    mean: Tensor
    loadings: Tensor
    scale: Tensor

    def whitened(self) -> tuple[Tensor, Tensor]:
        """Returns W (K, D, Q) and L (K, Q, Q), lower triangular."""
        scaled = self.loadings / self.scale.square()[:, :, None]  # P loadings
        identity = torch.eye(scaled.shape[2], dtype=scaled.dtype, device=scaled.device)
        cholesky = torch.linalg.cholesky(identity + self.loadings.mT @ scaled)
        return torch.linalg.solve_triangular(cholesky, scaled.mT, upper=False).mT, cholesky

    def log_joint(self, points: Tensor) -> tuple[Tensor, Tensor]:
        """Maps (M, D) to (M, K) nats, log weight + log density, and to W^T (point - mean), (M, K, Q)."""
        (num_components, dimensions, factors), (whitened, cholesky) = self.loadings.shape, self.whitened()
        precision = self.scale.square().reciprocal()  # (K, D)
        # Expanded, (x - m)^2 needs no (M, K, D) array; centred, the expansion loses no digits.
        centre = self.mean.mean(0)
        x, m = points - centre, self.mean - centre
        squared = x.square() @ precision.T - 2 * x @ (precision * m).T + (precision * m.square()).sum(1)
        columns = whitened.transpose(0, 1).reshape(dimensions, num_components * factors)
        projected = (x @ columns).view(len(x), num_components, factors) - torch.einsum("kd,kdq->kq", m, whitened)
        log_det = self.scale.log().sum(1) + cholesky.diagonal(dim1=1, dim2=2).log().sum(1)
        constant = log_det + 0.5 * dimensions * math.log(2 * math.pi) - self.log_weights
        return -0.5 * (squared - projected.square().sum(2)) - constant, projected

    def draw(self, num_samples: int) -> Tensor:
        """Draws (num_samples, D)."""
        _, dimensions, factors = self.loadings.shape
        shape = (num_samples, factors + dimensions)
        normal = torch.randn(shape, dtype=self.mean.dtype, device=self.mean.device)
        points = torch.empty(num_samples, dimensions, dtype=self.mean.dtype, device=self.mean.device)
        if num_samples > 0:
            component = torch.multinomial(self.log_weights.softmax(0), num_samples, replacement=True)
            for k in sorted(set(component.tolist())):
                rows = component == k
                common, own = normal[rows, :factors], normal[rows, factors:]
                points[rows] = self.mean[k] + common @ self.loadings[k].T + own * self.scale[k]
        return points


def clusters_among(images: Tensor, num_clusters: int, device: torch.device) -> list[Tensor]:
    """Splits the images (N, C, H, W), 10,000 at most, into (n, D) float64 by the nearest of k-means++ seeds.

    A cluster that would be empty, because there are fewer distinct images than clusters, holds all.
    """
    points = images.flatten(1)[torch.randperm(len(images))[:_START_IMAGES]].to(device).double()
    nearest = nearest_seed(points, plus_plus_seeds(points, num_clusters))
    clusters = [points[nearest == k] for k in range(num_clusters)]
    return [cluster if len(cluster) > 0 else points for cluster in clusters]


def principal_axes(points: Tensor, num_axes: int) -> tuple[Tensor, Tensor]:
    """Maps centred points (N, D) to about their first axes, (D, num_axes), and the variances (num_axes,) along them.

    Axes are zero where there are not so many. See Halko, Martinsson & Tropp 2011, arXiv 0909.4061.
    """
    found = min(num_axes, *points.shape)
    _, singular, axes = torch.svd_lowrank(points, q=found)
    missing = (0, num_axes - found)
    return F.pad(axes, missing), F.pad(singular.square() / len(points), missing)
