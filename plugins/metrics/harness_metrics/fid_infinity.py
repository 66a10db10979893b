"""FID extrapolated to infinitely many samples."""

import math

import torch
from torch import Tensor

import harness

NUM_SIZES = 15


class FIDInfinity(harness.FeatureMetric):
    """Where the FID of n samples goes as n grows: the intercept of a straight line through 15 FIDs, in 1 / n.

    The sizes n go from a tenth of the samples to all of them in equal steps; a smaller set is the first part of a
    larger one, and has at least twice as many images as features. Chong & Forsyth 2020, arXiv 1911.07023. The real
    images stay all there, and so does the bias that is due to their number. The value may be negative.
    """

    family = "fid-infinity"
    header = "FID∞"

    @staticmethod
    def distance(samples: Tensor, reference: Tensor) -> float:
        """Returns the intercept for (N, D) samples in random order and (M, D), float64."""
        sizes = sizes_of(*samples.shape)
        root, mean = _root(reference), reference.mean(0)
        return intercept(sizes, [frechet(samples[:size], mean, root) for size in sizes])

    @staticmethod
    def errors(samples: Tensor, reference: Tensor, num_groups: int) -> tuple[float, float]:
        """Returns the jackknife's errors; the reference's is that of the FID of all samples.

        A group is every G-th image, so that each of the 15 sets loses the same share of its images.
        """
        over_samples = _jackknife(samples, reference, sizes_of(*samples.shape), num_groups)
        return over_samples, _jackknife(reference, samples, [len(reference)], num_groups)

    def settings(self, num_images: int) -> dict[str, str]:
        """Returns what makes two figures comparable."""
        return {"extrapolation": f"{NUM_SIZES} nested sets of a tenth to all samples, a line in 1/n"}

    def details(self, samples: Tensor, reference: Tensor) -> dict[str, float]:
        """Returns the FID of all samples."""
        return {"fid": frechet(samples, reference.mean(0), _root(reference))}

    def effort(self, num_features: int) -> tuple[int, int]:
        """Takes no halves of the real images: they are often too few for a line."""
        return super().effort(num_features)[0], 0


def sizes_of(num_samples: int, num_features: int) -> list[int]:
    """Returns the numbers of samples that FIDs are taken of, increasing; Unsupported if there are too few samples."""
    smallest = max(num_samples // 10, 2 * num_features)
    if 2 * smallest > num_samples:
        needed = f"{num_features} features need at least {4 * num_features:,}"
        raise harness.Unsupported(f"fid-infinity: {num_samples:,} samples are too few to extrapolate: {needed}")
    return sorted(set(torch.linspace(smallest, num_samples, NUM_SIZES, dtype=torch.float64).round().int().tolist()))


def intercept(sizes: list[int], values: list[float]) -> float:
    """Returns the least-squares line's value at 1 / size = 0; of one size, its value."""
    x, y = 1 / torch.tensor(sizes, dtype=torch.float64), torch.tensor(values, dtype=torch.float64)
    if len(sizes) == 1:
        return values[0]
    slope = ((x - x.mean()) * y).sum() / (x - x.mean()).square().sum()
    return float(y.mean() - slope * x.mean())


def frechet(samples: Tensor, mean: Tensor, root: Tensor) -> float:
    """Returns the Fréchet distance of (N, D) to the Gaussian of ``mean`` and covariance root' root."""
    own = _root(samples)
    apart = (samples.mean(0) - mean).square().sum() + own.square().sum() + root.square().sum()
    return float(apart - 2 * torch.linalg.svdvals(own @ root.T).sum())


def _root(features: Tensor) -> Tensor:
    """Returns R with R' R the unbiased covariance of (N, D)."""
    root: Tensor = torch.linalg.qr(features - features.mean(0), mode="r").R
    return root / math.sqrt(len(features) - 1)


def _jackknife(moving: Tensor, fixed: Tensor, sizes: list[int], num_groups: int) -> float:
    """Returns the error over the first set; sums that grow with the size give its covariances, and rough will do."""
    root, moving = _root(fixed), moving - fixed.mean(0)
    num_groups = min(num_groups, sizes[0] // 2)
    replicates = []
    for group in range(num_groups):
        kept = torch.arange(len(moving)) % num_groups != group
        counts, values = [int(kept[:size].sum()) for size in sizes], []
        total, square = moving.new_zeros(moving.shape[1]), moving.new_zeros(moving.shape[1], moving.shape[1])
        for count, added in zip(counts, moving[kept].tensor_split(counts)[:-1], strict=True):
            total, square = total + added.sum(0), square + added.T @ added
            mean = total / count
            covariance = (square - count * mean.outer(mean)) / (count - 1)
            overlap = torch.linalg.eigvalsh(root @ covariance @ root.T).clamp(min=0).sqrt().sum()
            values.append(float(mean.square().sum() + covariance.trace() + root.square().sum() - 2 * overlap))
        replicates.append(intercept(counts, values))
    return harness.jackknife_error(torch.tensor(replicates, dtype=torch.float64))
