"""The Vendi score: how many images that have nothing in common would be as diverse as these.

    exp(-sum_i l_i log l_i), with l_i the eigenvalues of the N x N matrix of cosine similarities, divided by N

Friedman & Dieng 2022, arXiv 2210.02410. It lies between 1, of copies of one image, and N. It asks for no images to
compare with, and nothing of quality: noise is diverse. It grows with N.
"""

from __future__ import annotations

import torch
from torch import Tensor

import harness


def directions(features: Tensor) -> Tensor:
    """Maps (N, D) to (N, D + 1) of length 1, whose products are cosines; a zero has a direction of its own."""
    lengths = features.norm(dim=1, keepdim=True)
    unit = features / torch.where(lengths > 0, lengths, 1)
    return torch.cat([unit, (lengths == 0).to(features.dtype)], 1)


def score_of(products: Tensor, num_images: int) -> float:
    """Returns the score of N vectors of length 1 from the sum of their outer products, (D, D) float64.

    That has the eigenvalues of the N x N matrix, but for zeros, which count nothing.
    """
    eigenvalues = torch.linalg.eigvalsh(products / num_images).clamp(min=0)
    return float(torch.special.entr(eigenvalues).sum().exp())


class Vendi(harness.FeatureMetric):
    """The Vendi score of the samples; that of the split's images is the detail ``reference``."""

    family = "vendi"
    header = "Vendi score"
    unit = "images"
    higher_is_better = True

    def distance(self, samples: Tensor, reference: Tensor) -> float:
        """Returns the score of (N, D) alone."""
        unit = directions(samples)
        return score_of(unit.T @ unit, len(unit))

    def errors(self, samples: Tensor, reference: Tensor, num_groups: int) -> tuple[float, float]:
        """Returns the jackknife's error over the samples, (N, D), and none over images."""
        unit = directions(samples)
        total = unit.T @ unit
        groups = harness.jackknife_groups(unit, num_groups)
        left = [score_of(total - group.T @ group, len(unit) - len(group)) for group in groups]
        return harness.jackknife_error(torch.tensor(left, dtype=torch.float64)), 0.0

    def settings(self, num_images: int) -> dict[str, str]:
        """Returns the kernel."""
        return {"kernel": "cosine"}

    def details(self, samples: Tensor, reference: Tensor) -> dict[str, float]:
        """Returns the score of the images, (M, D)."""
        return {"reference": self.distance(reference, samples)}
