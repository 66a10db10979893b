"""Distances between two sets of features, and how far they move with the images.

- The Fréchet distance between Gaussians fitted to both, d^2 = |m1 - m2|^2 + tr(S1 + S2 - 2 (S1 S2)^(1/2)) with means m
  and unbiased covariances S (Heusel, Ramsauer, Unterthiner, Nessler & Hochreiter 2017, arXiv 1706.08500).
- The squared maximum mean discrepancy: the unbiased estimate with the kernel k(x, y) = (x y / D + 1)^3, averaged over
  disjoint subsets (Bińkowski, Sutherland, Arbel & Gretton 2018, arXiv 1801.01401). It may be negative.
- Standard errors are those of the delete-a-group jackknife (Efron & Stein 1981).

Features are (N, D) float64, in random order where groups or subsets of them are taken.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from harness import generator

MAX_SUBSET = 1000
_AT_ONCE = 2**20


@dataclass(frozen=True)
class Effort:
    """How much resampling a number of dimensions allows.

    Attributes:
        num_groups: of the jackknife; the relative error of a standard error is about 1 / sqrt(2 num_groups).
        num_splits: into random halves.
    """

    num_groups: int
    num_splits: int

    @classmethod
    def at(cls, num_dimensions: int) -> Effort:
        """Returns the effort for D dimensions: what one repetition costs grows with D^3."""
        if num_dimensions <= 128:
            return cls(50, 20)
        return cls(20, 5) if num_dimensions <= 1024 else cls(10, 3)

    def groups(self, num_images: int) -> int:
        """Returns the number of groups for a set: fewer where a group would have less than two images."""
        return max(2, min(self.num_groups, num_images // 2))


def jackknife_error(replicates: Tensor) -> float:
    """Returns sqrt((G - 1) / G sum_g (t_g - mean)^2) of (G,) float64, the statistic without each group in turn."""
    num_groups = len(replicates)
    return math.sqrt((num_groups - 1) / num_groups * float((replicates - replicates.mean()).square().sum()))


def shuffled(features: Tensor, seed: int, purpose: str) -> Tensor:
    """Returns the rows of (N, D) float in a seeded order, as float64: a file's order may be by class."""
    order = torch.randperm(len(features), generator=generator(seed, purpose))
    return features[order].double()


def halves(features: Tensor, distance: Callable[[Tensor, Tensor], float], num_splits: int) -> dict[str, float]:
    """Returns distances between two halves of one set: what a perfect model of that size could get.

    Their mean over ``num_splits`` random splits, always the same ones, and their 2.5 % and 97.5 % quantiles, under the
    names that a score's details give them.
    """
    half = len(features) // 2
    values = []
    for split in range(num_splits):
        order = torch.randperm(len(features), generator=generator(0, "halves", split))
        values.append(distance(features[order[:half]].double(), features[order[half : 2 * half]].double()))
    found = torch.tensor(values, dtype=torch.float64)
    low, high = torch.quantile(found, torch.tensor([0.025, 0.975], dtype=torch.float64)).tolist()
    return {
        "halves": found.mean().item(),
        "halves_low": low,
        "halves_high": high,
        "halves_images": float(half),
        "halves_splits": float(num_splits),
    }


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
    from torchmetrics.image.fid import FrechetInceptionDistance  # seconds to import: only where it is used

    centre = reference.mean(0)  # sums of squares lose fewer digits about a centre
    samples, reference, rest = _common_support(samples - centre, reference - centre)
    if samples.shape[1] == 0:
        return max(rest, 0.0)

    class Given(nn.Module):
        """Passes features through; their type is that of the result."""

        num_features = samples.shape[1]

        def forward(self, features: Tensor) -> Tensor:
            return features

    metric = FrechetInceptionDistance(feature=Given())
    metric.update(reference, real=True)
    metric.update(samples, real=False)
    return max(rest + float(metric.compute()), 0.0)


def _common_support(first: Tensor, second: Tensor) -> tuple[Tensor, Tensor, float]:
    """Projects both sets onto the directions in which both vary; also returns what the others add to the distance."""
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


def _squared_distances(root: Tensor, fixed: Gaussian, means: Tensor, covariances: Tensor) -> Tensor:
    """Returns (B,) distances to (B, D) means and (B, D, D) covariances; ``root`` is ``fixed.root()``.

    From symmetric eigenvalues, (S1^(1/2) S2 S1^(1/2))^(1/2): fast, and right at any rank.
    """
    eigenvalues = torch.linalg.eigvalsh(root @ covariances @ root)  # (B, D)
    shifts = (fixed.mean - means).square().sum(1)
    traces = fixed.covariance.trace() + covariances.diagonal(dim1=1, dim2=2).sum(1)
    distances: Tensor = shifts + traces - 2 * eigenvalues.clamp(min=0).sqrt().sum(1)
    return distances.clamp(min=0)


def distance_of_sets(first: Tensor, second: Tensor) -> float:
    """Returns the Fréchet distance of (N, D) and (M, D) float64 by symmetric eigenvalues: fast, right at any rank."""
    fixed, other = Gaussian.of(first), Gaussian.of(second)
    return float(_squared_distances(fixed.root(), fixed, other.mean[None], other.covariance[None]))


def frechet_error(moving: Tensor, fixed: Tensor, effort: Effort) -> float:
    """Returns the standard error of the Fréchet distance over the images of one set, the other being given."""
    gaussian = Gaussian.of(fixed)
    root = gaussian.root()
    moving = moving - gaussian.mean
    total, square = moving.sum(0), moving.T @ moving
    centred = Gaussian(torch.zeros_like(total), gaussian.covariance)
    groups = torch.tensor_split(moving, effort.groups(len(moving)))
    at_once = max(1, _AT_ONCE // len(total) ** 2)
    replicates = []
    for start in range(0, len(groups), at_once):
        means, covariances = [], []
        for group in groups[start : start + at_once]:
            count = len(moving) - len(group)
            mean = (total - group.sum(0)) / count
            means.append(mean)
            covariances.append((square - group.T @ group - count * mean.outer(mean)) / (count - 1))
        replicates.append(_squared_distances(root, centred, torch.stack(means), torch.stack(covariances)))
    return jackknife_error(torch.cat(replicates))


def subsets(samples: Tensor, reference: Tensor) -> list[tuple[Tensor, Tensor]]:
    """Returns pairs of disjoint subsets of equal size m, in the order given.

    m is 1000, or the number of images in the smaller set; there are as many pairs as the smaller set allows, and what
    is left over of either is not used.
    """
    smaller = min(len(samples), len(reference))
    size = min(MAX_SUBSET, smaller)
    return list(zip(torch.split(samples, size), torch.split(reference, size), strict=False))[: smaller // size]


def kernel_distance(samples: Tensor, reference: Tensor) -> float:
    """Returns the mean over subsets of the discrepancy as ``torchmetrics`` computes it."""
    from torchmetrics.image.kid import poly_mmd  # seconds to import: only where it is used

    values = [poly_mmd(real, drawn) for drawn, real in subsets(samples, reference)]
    return float(torch.stack(values).mean())


def kernel_errors(samples: Tensor, reference: Tensor, effort: Effort) -> tuple[float, float]:
    """Returns the standard errors of the kernel distance over the samples and over the reference, the other given.

    A group is an equal part of every subset, left out of all of them at once.
    """
    over_samples, over_reference = [], []
    for drawn, real in subsets(samples, reference):
        number = effort.groups(len(drawn))
        xx, yy, xy = (_group_sums(a, b, number) for a, b in ((drawn, drawn), (real, real), (drawn, real)))
        sizes = torch.tensor([len(part) for part in torch.tensor_split(drawn, number)], dtype=torch.float64)
        over_samples.append(_without_each(xx, yy, xy, sizes))
        over_reference.append(_without_each(yy, xx, xy.T, sizes))
    return jackknife_error(torch.stack(over_samples).mean(0)), jackknife_error(torch.stack(over_reference).mean(0))


def _group_sums(first: Tensor, second: Tensor, number: int) -> Tensor:
    """Returns (G, G): the kernel added up over pairs of groups; an image with itself is left out."""
    kernel = (first @ second.T / first.shape[1] + 1) ** 3
    if first is second:
        kernel.fill_diagonal_(0)
    rows = torch.stack([part.sum(0) for part in torch.tensor_split(kernel, number)])  # (G, m)
    return torch.stack([part.sum(1) for part in torch.tensor_split(rows, number, dim=1)], 1)


def _without_each(own: Tensor, other: Tensor, cross: Tensor, sizes: Tensor) -> Tensor:
    """Returns (G,): the discrepancy of one subset without each group of the first set in turn."""
    size = sizes.sum()
    left = size - sizes  # (G,)
    inside = own.sum() - 2 * own.sum(1) + own.diagonal()
    across = cross.sum() - cross.sum(1)
    return inside / (left * (left - 1)) + other.sum() / (size * (size - 1)) - 2 * across / (left * size)
