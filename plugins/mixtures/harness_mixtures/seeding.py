"""What both mixtures do: where EM starts, at k-means++ seeds (Arthur & Vassilvitskii 2007), and how it weighs."""

from __future__ import annotations

import torch
from torch import Tensor

_SEEDING_IMAGES = 10_000


def seeds_among(images: Tensor, num_seeds: int, device: torch.device) -> Tensor:
    """Picks (num_seeds, D) float64 among the images (N, C, H, W), of which 10,000 at most are looked at."""
    points = images.flatten(1)
    subset = points[torch.randperm(len(points))[:_SEEDING_IMAGES]]
    return plus_plus_seeds(subset.to(device).double(), num_seeds)


def plus_plus_seeds(points: Tensor, num_seeds: int) -> Tensor:
    """Picks points as seeds, each with probability proportional to its squared distance from the seeds so far.

    Args:
        points: (N, D) float, N at least 1.
        num_seeds: K; where there are fewer distinct points than K, some seeds repeat.

    Returns:
        (K, D), rows of ``points``; drawn with torch's global CPU generator, so that devices agree.
    """
    chosen = [points[int(torch.randint(len(points), ()))]]
    nearest = (points - chosen[0]).square().sum(1)
    for _ in range(num_seeds - 1):
        # Uniform where every point is a seed already.
        chances = (nearest if bool(nearest.sum() > 0) else torch.ones_like(nearest)).double().cpu().cumsum(0)
        target = torch.rand((), dtype=torch.float64) * chances[-1]
        index = min(int(torch.searchsorted(chances, target, right=True)), len(points) - 1)
        chosen.append(points[index])
        nearest = torch.minimum(nearest, (points - chosen[-1]).square().sum(1))
    return torch.stack(chosen)


def nearest_seed(points: Tensor, seeds: Tensor) -> Tensor:
    """Maps (N, D) points and (K, D) seeds to (N,) int64: the seed at the least Euclidean distance."""
    return torch.cdist(points, seeds).argmin(1)


def log_weights_of(sizes: Tensor) -> Tensor:
    """Maps sizes (K,) of components to the logs (K,) of their shares, finite where a component is empty."""
    return (sizes / sizes.sum()).clamp_min(torch.finfo(sizes.dtype).tiny).log()
