"""The maximum mean discrepancy with a Gaussian kernel, as CMMD estimates it."""

import torch
from torch import Tensor

import harness

SIGMA = 10.0
SCALE = 1000.0
_ROWS = 500


class MMD(harness.FeatureMetric):
    """1000 times the squared maximum mean discrepancy with the kernel k(x, y) = exp(-|x - y|^2 / (2 * 10^2)).

    It is CMMD's estimator in the features of any network (Jayasumana et al. 2024, arXiv 2401.09603; there, of CLIP):
    the means of k over *all* pairs, an image with itself among them. So it is never negative, and biased upwards by
    1000 (1 / N + 1 / M) (1 - mean k) for equal distributions: compare figures of equal numbers alone. Features are
    taken as they are; the kernel falls off where they are about 10 apart.
    """

    family = "mmd"
    header = "MMD, Gaussian kernel"

    @staticmethod
    def distance(samples: Tensor, reference: Tensor) -> float:
        """Returns the discrepancy, at least 0, of (N, D) and (M, D) float64."""
        xx, yy, xy = (kernel_sums(*sets).mean() / len(sets[1]) for sets in _pairs(samples, reference))
        return SCALE * max(float(xx + yy - 2 * xy), 0.0)

    @staticmethod
    def errors(samples: Tensor, reference: Tensor, num_groups: int) -> tuple[float, float]:
        """Returns the errors by leaving out single images, which the kernel's sums over rows give at once."""
        xx, yy, xy = (kernel_sums(*sets) for sets in _pairs(samples, reference))
        return _jackknife(xx, yy, xy), _jackknife(yy, xx, kernel_sums(reference, samples))

    def settings(self, num_images: int) -> dict[str, str]:
        """Returns what makes two figures comparable."""
        return {"kernel": f"Gaussian, sigma {SIGMA:g}", "estimator": f"all pairs, times {SCALE:g}"}

    def effort(self, num_features: int) -> tuple[int, int]:
        """Takes few halves: each needs the kernel of all pairs."""
        num_groups, num_splits = super().effort(num_features)
        return num_groups, min(num_splits, 5)

    def details(self, samples: Tensor, reference: Tensor) -> dict[str, float]:
        """Returns the unbiased estimate, which may be negative: no image is paired with itself."""
        xx, yy = (
            (kernel_sums(each, each).sum() - len(each)) / (len(each) * (len(each) - 1)) for each in (samples, reference)
        )
        xy = kernel_sums(samples, reference).mean() / len(reference)
        return {"unbiased": SCALE * float(xx + yy - 2 * xy)}


def kernel_sums(first: Tensor, second: Tensor) -> Tensor:
    """Returns (N,): for each row of (N, D) the kernel added up over the rows of (M, D)."""
    squares, sums = second.square().sum(1), []
    for rows in torch.split(first, _ROWS):
        distances = (rows.square().sum(1, keepdim=True) + squares - 2 * rows @ second.T).clamp(min=0)  # (rows, M)
        sums.append(torch.exp(distances / (-2 * SIGMA**2)).sum(1))
    return torch.cat(sums)


def _pairs(samples: Tensor, reference: Tensor) -> tuple[tuple[Tensor, Tensor], ...]:
    return (samples, samples), (reference, reference), (samples, reference)


def _jackknife(own: Tensor, other: Tensor, cross: Tensor) -> float:
    """Returns the error over the first set, whose (N,) sums over itself and over the other set are given."""
    left, num_other = len(own) - 1, len(other)
    inside = (own.sum() - 2 * own + 1) / left**2  # 1: an image with itself
    across = (cross.sum() - cross) / (left * num_other)
    return harness.jackknife_error(SCALE * (inside + other.sum() / num_other**2 - 2 * across))
