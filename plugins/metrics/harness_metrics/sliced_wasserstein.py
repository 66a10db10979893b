"""The sliced Wasserstein distance."""

import math
from collections.abc import Iterator

import torch
from torch import Tensor

import harness

NUM_DIRECTIONS = 1000
_AT_A_TIME = 50


class SlicedWasserstein(harness.FeatureMetric):
    """The root of the mean, over 1000 random directions, of the squared 2-Wasserstein distance of the projections.

    Rabin et al. 2012; Bonneel et al. 2015. In one dimension the distance is that of the quantile functions, which
    sorting gives exactly, for sets of unequal size too. The directions are the same for all models. Equal
    distributions are not at zero in finite sets: the details have two halves of the real images for comparison.
    """

    family = "sliced-wasserstein"
    header = "Sliced Wasserstein"

    @staticmethod
    def distance(samples: Tensor, reference: Tensor) -> float:
        """Returns the distance, in units of the features, of (N, D) and (M, D) float64."""
        weights, of_samples, of_reference = common_quantiles(len(samples), len(reference))
        total = 0.0
        for x, y in _projected(samples, reference):
            gaps = x.sort().values[:, of_samples] - y.sort().values[:, of_reference]
            total += float((gaps.square() @ weights).sum())
        return math.sqrt(total / NUM_DIRECTIONS)

    @staticmethod
    def errors(samples: Tensor, reference: Tensor, num_groups: int) -> tuple[float, float]:
        """Returns the errors by the central limit theorem (del Barrio & Loubes 2019, arXiv 1705.01299).

        The squared distance varies like the mean of the optimal transport's potential over the images.
        """
        value = SlicedWasserstein.distance(samples, reference)
        if value == 0:
            return 0.0, 0.0
        over_samples, over_reference = torch.zeros_like(samples[:, 0]), torch.zeros_like(reference[:, 0])
        for x, y in _projected(samples, reference):
            over_samples += potential(x, y).sum(0) / NUM_DIRECTIONS
            over_reference += potential(y, x).sum(0) / NUM_DIRECTIONS
        first, second = (float(each.std()) / math.sqrt(len(each)) for each in (over_samples, over_reference))
        return first / (2 * value), second / (2 * value)

    def settings(self, num_images: int) -> dict[str, str]:
        """Returns what makes two figures comparable."""
        return {"directions": f"{NUM_DIRECTIONS}, of seed 0"}


def directions(num_features: int) -> Tensor:
    """Returns (1000, D) float64, of unit length, the same ones always."""
    random = harness.generator(0, "directions", num_features)
    return torch.nn.functional.normalize(
        torch.randn(NUM_DIRECTIONS, num_features, generator=random, dtype=torch.float64)
    )


def common_quantiles(num_samples: int, num_reference: int) -> tuple[Tensor, Tensor, Tensor]:
    """Returns (K,) widths of the intervals on which both quantile functions are constant, and their ranks there."""
    steps = torch.cat(
        [torch.arange(1, num_samples + 1) * num_reference, torch.arange(1, num_reference + 1) * num_samples]
    )
    ends = steps.sort().values  # in units of 1 / (N M); equal ones end intervals of width 0
    widths = ends.diff(prepend=ends.new_zeros(1)).double() / (num_samples * num_reference)
    return widths, (ends - 1) // num_reference, (ends - 1) // num_samples


def potential(x: Tensor, y: Tensor) -> Tensor:
    """Returns (L, N): the Kantorovich potential of each row of (L, N) to that of (L, M), up to a constant.

    Its slope at a point is twice the point's distance to where it is transported, the map being constant between two
    points; at a jump of the quantile function it is the middle.
    """
    (points, order), targets = x.sort(), y.sort().values
    ranks = torch.arange(1, x.shape[1]) * y.shape[1]
    low, high = (ranks - 1) // x.shape[1], ranks // x.shape[1]
    rises = points.diff() * (points[:, 1:] + points[:, :-1] - targets[:, low] - targets[:, high])
    return torch.zeros_like(x).scatter(1, order[:, 1:], rises.cumsum(1))


def _projected(samples: Tensor, reference: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """Yields (L, N) and (L, M), the projections on some directions at a time."""
    for some in torch.split(directions(samples.shape[1]), _AT_A_TIME):
        yield some @ samples.T, some @ reference.T
