"""The Fréchet distance between Gaussians fitted to two sets of features, and its uncertainty.

d^2 = |m1 - m2|^2 + tr(S1 + S2 - 2 (S1 S2)^(1/2)) with means m and unbiased covariances S (Heusel, Ramsauer,
Unterthiner, Nessler & Hochreiter 2017, arXiv 1706.08500).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from harness.builtin.metrics.resampling import Effort, groups_for, jackknife_error

_AT_ONCE = 2**20


@dataclass(frozen=True)
class Gaussian:
    """Mean (D,) and covariance (D, D), float64."""

    mean: Tensor
    covariance: Tensor

    @classmethod
    def of(cls, features: Tensor) -> Gaussian:
        """Fits (N, D) float64, N at least 2; the covariance is divided by N - 1."""
        mean = features.mean(0)
        centred = features - mean
        return cls(mean, centred.T @ centred / (len(features) - 1))

    def root(self) -> Tensor:
        """Returns the symmetric root of the covariance, (D, D)."""
        values, vectors = torch.linalg.eigh(self.covariance)
        root: Tensor = (vectors * values.clamp(min=0).sqrt()) @ vectors.T
        return root


def frechet_distance(samples: Tensor, reference: Tensor) -> float:
    """Returns the distance as ``torchmetrics`` computes it, between (N, D) and (M, D) float64 features.

    ``torchmetrics`` takes the eigenvalues of S1 S2, which is no symmetric matrix: where a covariance is singular, as it
    is with fewer samples than dimensions or with pixels that never vary, rounding turns zeros into small numbers whose
    roots are not small. So the directions in which either set does not vary are taken off first. They add to the
    distance exactly the squared difference of the means and the other set's variance. What is left has full rank.
    """
    centre = reference.mean(0)  # sums of squares lose fewer digits about a centre
    samples, reference, rest = common_support(samples - centre, reference - centre)
    if samples.shape[1] == 0:
        return max(rest, 0.0)
    return max(rest + _torchmetrics(samples, reference), 0.0)


def _torchmetrics(samples: Tensor, reference: Tensor) -> float:
    from torchmetrics.image.fid import FrechetInceptionDistance  # seconds to import: only where it is used

    class Given(nn.Module):
        """Passes features through; their type is that of the result."""

        num_features = samples.shape[1]

        def forward(self, features: Tensor) -> Tensor:
            return features

    metric = FrechetInceptionDistance(feature=Given())
    metric.update(reference, real=True)
    metric.update(samples, real=False)
    return float(metric.compute())


def common_support(first: Tensor, second: Tensor) -> tuple[Tensor, Tensor, float]:
    """Projects features orthogonally onto the directions in which both sets vary.

    Returns:
        (N, R) and (M, R) with covariances of full rank R, and what the other directions add to the distance.
    """
    rest, sets, full, turn = 0.0, [first, second], 0, 0
    while full < 2 and sets[0].shape[1] > 0:
        gaussian, other = Gaussian.of(sets[turn]), Gaussian.of(sets[1 - turn])
        values, vectors = torch.linalg.eigh(gaussian.covariance)
        varies = values > len(values) * torch.finfo(values.dtype).eps * values[-1].clamp(min=0)
        if bool(varies.all()):
            full += 1
        else:
            full = 1  # this set varies in all that is left now; the other may not
            still = vectors[:, ~varies]  # (D, D - R)
            shift = still.T @ (gaussian.mean - other.mean)
            rest += float(shift.square().sum() + (still * (other.covariance @ still)).sum())
            sets = [features @ vectors[:, varies] for features in sets]
        turn = 1 - turn
    return sets[0], sets[1], rest


def squared_distances(root: Tensor, fixed: Gaussian, means: Tensor, covariances: Tensor) -> Tensor:
    """Returns (B,) distances from symmetric eigenvalues, (S1^(1/2) S2 S1^(1/2))^(1/2); fast, and right at any rank.

    Args:
        root: ``fixed.root()``, which many calls may share.
        fixed: one Gaussian.
        means, covariances: (B, D) and (B, D, D) of the others.
    """
    eigenvalues = torch.linalg.eigvalsh(root @ covariances @ root)  # (B, D)
    shifts = (fixed.mean - means).square().sum(1)
    traces = fixed.covariance.trace() + covariances.diagonal(dim1=1, dim2=2).sum(1)
    distances: Tensor = shifts + traces - 2 * eigenvalues.clamp(min=0).sqrt().sum(1)
    return distances.clamp(min=0)


def distance_of_sets(first: Tensor, second: Tensor) -> float:
    """Returns the distance between Gaussians fitted to (N, D) and (M, D) float64, as ``squared_distances``."""
    fixed, other = Gaussian.of(first), Gaussian.of(second)
    return float(squared_distances(fixed.root(), fixed, other.mean[None], other.covariance[None]))


def frechet_error(moving: Tensor, fixed: Tensor, effort: Effort) -> float:
    """Returns the jackknife's standard error of the distance over the images of one set, the other being given.

    Args:
        moving: (N, D) float64 in random order; its groups are left out in turn.
        fixed: (M, D) float64.
        effort: the number of groups.
    """
    gaussian = Gaussian.of(fixed)
    root = gaussian.root()
    moving = moving - gaussian.mean
    total, square = moving.sum(0), moving.T @ moving
    groups = torch.tensor_split(moving, groups_for(len(moving), effort))
    at_once = max(1, _AT_ONCE // len(total) ** 2)
    replicates = []
    for start in range(0, len(groups), at_once):
        means, covariances = [], []
        for group in groups[start : start + at_once]:
            count = len(moving) - len(group)
            mean = (total - group.sum(0)) / count
            means.append(mean)
            covariances.append((square - group.T @ group - count * mean.outer(mean)) / (count - 1))
        centred = Gaussian(torch.zeros_like(total), gaussian.covariance)
        replicates.append(squared_distances(root, centred, torch.stack(means), torch.stack(covariances)))
    return jackknife_error(torch.cat(replicates))
