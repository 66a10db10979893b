"""Precision, recall, density and coverage: how far samples and images lie among each other's nearest neighbours.

The ball of a point x of a set reaches to its k-th nearest neighbour in that set, k = 5. With images R and samples S,

    precision  the share of samples in the ball of any image
    recall     the share of images in the ball of any sample
    density    in how many balls of images a sample lies, on average, divided by k
    coverage   the share of images in whose ball any sample lies

(Kynkäänniemi et al. 2019, arXiv 1904.06991; Naeem et al. 2020, arXiv 2002.09797). Balls hold their boundary, as in the
first paper, so that copies of one image lie in each other's balls; distances that differ by rounding are equal.

Where both distributions are equal, density is 1 in expectation and coverage 1 - prod_i (N - i) / (2 N - i), i from 1 to
k, with N images and samples: 0.97. Precision and recall have no such value: they depend on both numbers.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor

import harness

K = 5
_ROWS = 128  # of a matrix of distances at a time
_ROUNDING = 1e-9  # of the largest squared norm


def squared_distances(first: Tensor, second: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """Yields row numbers (B,) and their squared distances (B, M), of (N, D) and (M, D) float64."""
    norms, others = first.square().sum(1, keepdim=True), second.square().sum(1)
    for rows in torch.split(torch.arange(len(first)), _ROWS):
        yield rows, (norms[rows] + others - 2 * first[rows] @ second.T).clamp(min=0)


def squared_radii(points: Tensor, groups: Tensor, num_groups: int, k: int = K) -> Tensor:
    """Returns (N, G + 1): the squared distance of (N, D) to the k-th nearest without each group, then with all.

    ``groups`` is the number of each point's group, (N,), -1 for none. Where nearly all of the 4 k nearest are of the
    group that is left out, it is the farthest of them.
    """
    if len(points) <= k:
        raise ValueError(f"{len(points)} points have no {k} neighbours each: at least {k + 1} are needed")
    found = []
    for rows, distances in squared_distances(points, points):
        distances[torch.arange(len(rows)), rows] = math.inf
        near, index = distances.topk(min(4 * k, len(points) - 1), largest=False)
        left = groups[index].unsqueeze(2) != torch.arange(num_groups + 1)  # (B, 4 k, G + 1)
        enough = left.cumsum(1) >= k
        enough[:, -1] = True
        found.append(near.gather(1, enough.int().argmax(1)))
    return torch.cat(found)


class Balls:
    """The balls of ``centres`` (N, D), with all of these and without each of G groups, and where ``others`` lie.

    Both are float64. Results are (G + 1, ...): without each group, then with all.
    """

    def __init__(self, centres: Tensor, others: Tensor, num_groups: int = 0, k: int = K) -> None:
        centre = centres.mean(0)
        self.centres, self.others = centres - centre, others - centre
        sizes = _sizes(centres, num_groups)
        self.num_groups = len(sizes) if num_groups else 0
        self.groups = torch.repeat_interleave(torch.arange(len(sizes)), torch.tensor(sizes)) - int(not num_groups)
        tie = _ROUNDING * torch.cat([self.centres, self.others]).square().sum(1).max()
        self.radii = squared_radii(self.centres, self.groups, self.num_groups, k) + tie
        self.kept = self.groups.unsqueeze(1) != torch.arange(self.num_groups + 1)  # (N, G + 1)

    def counts(self) -> Tensor:
        """Returns (G + 1, M): in how many balls each of the others lies."""
        counts = torch.zeros(self.num_groups + 1, len(self.others), dtype=torch.float64)
        for rows, distances in squared_distances(self.centres, self.others):
            radii = self.radii[rows]
            inside = distances <= radii[:, -1:]
            counts += inside.sum(0)
            if self.num_groups:
                counts.index_add_(0, self.groups[rows], -inside.double())
            # a ball grows where one of its neighbours is left out
            row, group = ((radii > radii[:, -1:]) & self.kept[rows]).nonzero(as_tuple=True)
            counts.index_add_(0, group, ((distances[row] <= radii[row, group, None]) & ~inside[row]).double())
        return counts

    def nearest(self, num_groups: int = 0) -> Tensor:
        """Returns (N, G' + 1): the squared distance to the nearest of others without each of their groups, then all."""
        sizes, found = _sizes(self.others, num_groups), []
        for _, distances in squared_distances(self.centres, self.others):
            nearest = torch.stack([part.amin(1) for part in torch.split(distances, sizes, dim=1)], 1)  # (B, G')
            two = nearest.topk(min(2, len(sizes)), largest=False)
            is_first = two.indices[:, :1] == torch.arange(len(sizes) if num_groups else 0)
            found.append(
                torch.cat([torch.where(is_first, two.values[:, -1:], two.values[:, :1]), two.values[:, :1]], 1)
            )
        return torch.cat(found)

    def share(self, nearest: Tensor) -> Tensor:
        """Returns (G + 1,): the share of centres whose ball reaches the nearest, (N, 1)."""
        return ((nearest <= self.radii) & self.kept).sum(0) / self.kept.sum(0).double()


def _sizes(points: Tensor, num_groups: int) -> list[int]:
    return [len(part) for part in harness.jackknife_groups(points, num_groups)] if num_groups else [len(points)]


class _Neighbours(harness.FeatureMetric):
    higher_is_better = True

    def settings(self, num_images: int) -> dict[str, str]:
        """Returns k."""
        return {"neighbours": f"{K}, in closed balls"}

    def effort(self, num_features: int) -> tuple[int, int]:
        """Returns less than for FID: all pairs of images are looked at."""
        return 20, 5


def _error_of_mean(values: Tensor) -> float:
    return float(values.std()) / math.sqrt(len(values))


class Precision(_Neighbours):
    """The share of samples that lie in the ball of any image: fidelity."""

    family = "precision"

    def distance(self, samples: Tensor, reference: Tensor) -> float:
        """Returns the share, of (N, D) and (M, D)."""
        return float((Balls(reference, samples).counts()[-1] > 0).double().mean())

    def errors(self, samples: Tensor, reference: Tensor, num_groups: int) -> tuple[float, float]:
        """Returns the error of a mean over samples, and the jackknife's over the images of (N, D) and (M, D)."""
        balls = Balls(reference, samples, num_groups)
        hits = (balls.counts() > 0).double()
        return _error_of_mean(hits[-1]), harness.jackknife_error(hits[:-1].mean(1))


class Recall(Precision):
    """The share of images that lie in the ball of any sample: diversity."""

    family = "recall"

    def distance(self, samples: Tensor, reference: Tensor) -> float:
        """Returns the share, of (N, D) and (M, D)."""
        return super().distance(reference, samples)

    def errors(self, samples: Tensor, reference: Tensor, num_groups: int) -> tuple[float, float]:
        """Returns the jackknife's error over the samples of (N, D), and that of a mean over the images of (M, D)."""
        over_images, over_samples = super().errors(reference, samples, num_groups)
        return over_samples, over_images


class Density(_Neighbours):
    """In how many of the k balls that hold a point a sample lies: fidelity that no single outlier can give."""

    family = "density"

    def distance(self, samples: Tensor, reference: Tensor) -> float:
        """Returns the mean count of balls divided by k, of (N, D) and (M, D)."""
        return float(Balls(reference, samples).counts()[-1].mean()) / K

    def errors(self, samples: Tensor, reference: Tensor, num_groups: int) -> tuple[float, float]:
        """Returns the error of a mean over samples, and the jackknife's over the images of (N, D) and (M, D)."""
        counts = Balls(reference, samples, num_groups).counts() / K
        return _error_of_mean(counts[-1]), harness.jackknife_error(counts[:-1].mean(1))


class Coverage(_Neighbours):
    """The share of images in whose ball any sample lies: diversity that no outlier among the samples can give."""

    family = "coverage"

    def distance(self, samples: Tensor, reference: Tensor) -> float:
        """Returns the share, of (N, D) and (M, D)."""
        balls = Balls(reference, samples)
        return float(balls.share(balls.nearest())[-1])

    def errors(self, samples: Tensor, reference: Tensor, num_groups: int) -> tuple[float, float]:
        """Returns the jackknife's errors over the samples and over the images of (N, D) and (M, D)."""
        balls = Balls(reference, samples, num_groups)
        nearest = balls.nearest(num_groups)
        over_samples = (nearest[:, :-1] <= balls.radii[:, -1:]).double().mean(0)
        return harness.jackknife_error(over_samples), harness.jackknife_error(balls.share(nearest[:, -1:])[:-1])
