"""The squared maximum mean discrepancy between two sets of features, and its uncertainty.

The unbiased estimate with the kernel k(x, y) = (x y / D + 1)^3, averaged over disjoint subsets (Bińkowski, Sutherland,
Arbel & Gretton 2018, arXiv 1801.01401). It is unbiased, and so it may be negative.
"""

from __future__ import annotations

import torch
from torch import Tensor

from harness.builtin.metrics.resampling import Effort, groups_for, jackknife_error

MAX_SUBSET = 1000


def subsets(samples: Tensor, reference: Tensor) -> list[tuple[Tensor, Tensor]]:
    """Returns pairs of disjoint subsets of equal size m, in the order given.

    m is 1000, or the number of images in the smaller set; there are as many pairs as the smaller set allows, and what
    is left over of either is not used.
    """
    size = min(MAX_SUBSET, len(samples), len(reference))
    number = min(len(samples), len(reference)) // size
    pairs = zip(torch.split(samples, size), torch.split(reference, size), strict=False)
    return [pair for pair, _ in zip(pairs, range(number), strict=False)]


def kernel_distance(samples: Tensor, reference: Tensor) -> float:
    """Returns the mean over subsets of the discrepancy as ``torchmetrics`` computes it.

    Args:
        samples: (N, D) float64 in random order.
        reference: (M, D) float64 in random order.
    """
    from torchmetrics.image.kid import poly_mmd  # seconds to import: only where it is used

    values = [poly_mmd(real, drawn) for drawn, real in subsets(samples, reference)]
    return float(torch.stack(values).mean())


def kernel_errors(samples: Tensor, reference: Tensor, effort: Effort) -> tuple[float, float]:
    """Returns the jackknife's standard errors over the samples and over the reference, the other being given.

    A group is an equal part of every subset, left out of all of them at once.

    Args:
        samples: (N, D) float64 in random order.
        reference: (M, D) float64 in random order.
        effort: the number of groups.
    """
    over_samples, over_reference = [], []
    for drawn, real in subsets(samples, reference):
        number = groups_for(len(drawn), effort)
        xx, yy, xy = (_group_sums(a, b, number) for a, b in ((drawn, drawn), (real, real), (drawn, real)))
        sizes = torch.tensor([len(part) for part in torch.tensor_split(drawn, number)], dtype=torch.float64)
        over_samples.append(_without_each(xx, yy, xy, sizes))
        over_reference.append(_without_each(yy, xx, xy.T, sizes))
    return (
        jackknife_error(torch.stack(over_samples).mean(0)),
        jackknife_error(torch.stack(over_reference).mean(0)),
    )


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
