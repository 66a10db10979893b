"""Where EM starts: k-means++ seeds (Arthur & Vassilvitskii 2007), and the nearest seed of every image."""

from __future__ import annotations

import torch
from torch import Tensor


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
