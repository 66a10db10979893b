"""FID and KID: distances between the model's own samples and a split's images, in the features of a named network.

Standard errors are those of the delete-a-group jackknife (Efron & Stein 1981). Features are (N, D) float64, in random
order where groups or subsets of them are taken.
"""

import math
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from harness import FeatureMetric, jackknife_error, jackknife_groups
from harness.builtin.datasets.images import _load as read_arrays
from harness.builtin.features.network import weights_digest

MAX_SUBSET = 1000


class FID(FeatureMetric):
    """The Fréchet distance between Gaussians fitted to the features of samples and of the split's images.

    |m1 - m2|^2 + tr(S1 + S2 - 2 (S1 S2)^(1/2)) with means m and unbiased covariances S; Heusel et al. 2017, arXiv
    1706.08500. Zero for equal moments. It is biased upwards by an amount that falls with the number of images: compare
    figures of equal numbers alone.

    With a ``path``, the reference is the mean and covariance in the ``.npz`` file there, whose ending the path lacks,
    and not the images of the split.
    """

    family = "fid"
    header = "FID"

    def __init__(
        self, *, network: str | None = None, num_samples: int | str | None = None, path: str | None = None
    ) -> None:
        super().__init__(network=network, num_samples=num_samples)
        if path is not None:
            self.name = f"{self.name}-to-{Path(path).name}"
            self.given, self.given_words, digest = read_statistics(Path(f"{path}.npz"))
            self.version = f"{self.version} {digest}"

    @staticmethod
    def distance(samples: Tensor, reference: Tensor) -> float:
        """Returns the distance, at any rank: with S = R' R, tr (S1 S2)^(1/2) adds up the singular values of R1 R2'."""
        root, other = _root(samples), _root(reference)
        shift = samples.mean(0) - reference.mean(0)
        apart = shift.square().sum() + root.square().sum() + other.square().sum()
        return max(float(apart - 2 * torch.linalg.svdvals(root @ other.T).sum()), 0.0)

    @staticmethod
    def errors(samples: Tensor, reference: Tensor, num_groups: int) -> tuple[float, float]:
        """Returns the errors over either set."""
        return _frechet_error(samples, reference, num_groups), _frechet_error(reference, samples, num_groups)


def _root(features: Tensor) -> Tensor:
    """Returns R with R' R the unbiased covariance of (N, D): not from that, whose rounding would be part of it."""
    root: Tensor = torch.linalg.qr(features - features.mean(0), mode="r").R
    return root / math.sqrt(len(features) - 1)


def read_statistics(file: Path) -> tuple[Tensor, str, str]:
    """Returns (2 D, D) float64 of the mean ``mu`` and covariance ``sigma`` in an ``.npz``, its name, its SHA-256.

    ``num_images`` or ``n`` in the file may say of how many images they are.
    """
    if not file.is_file():
        raise ValueError(f"there is no file {file}, of the mean and covariance to compare with")
    arrays = read_arrays(file, ("mu", "sigma", "num_images", "n"))
    mean, covariance = (arrays.get(name, np.empty((0, 0))) for name in ("mu", "sigma"))
    are_real = all(array.dtype.kind == "f" and np.isfinite(array).all() for array in (mean, covariance))
    if mean.ndim != 1 or covariance.shape != 2 * mean.shape or not are_real:
        found = f"'mu' is {mean.shape} {mean.dtype}, 'sigma' {covariance.shape} {covariance.dtype}"
        raise ValueError(f"{file}: {found}, expected (D,) and (D, D), mean and covariance of features, finite numbers")
    mu, sigma = (torch.from_numpy(array.astype(np.float64)) for array in (mean, covariance))
    values, vectors = torch.linalg.eigh((sigma + sigma.T) / 2)
    rounding = 1e-5 * float(sigma.abs().max())
    if float((sigma - sigma.T).abs().max()) > rounding or float(values.min()) < -rounding:
        raise ValueError(f"{file}: 'sigma' is no covariance: it is not symmetric, or has an eigenvalue below 0")
    root = vectors.T * values.clamp(min=0).sqrt()[:, None] * math.sqrt(len(mean) - 0.5)
    digest = weights_digest({"mu": mu, "sigma": sigma})
    said = (arrays[name] for name in ("num_images", "n") if name in arrays and arrays[name].size == 1)
    numbers = [int(number) for number in said if number.dtype.kind in "iu" and number > 0]
    of = f", {numbers[0]:,} images" if numbers else ""
    return torch.cat([mu + root, mu - root]), f"{file.stem}{of}, SHA-256 {digest[:16]}", digest


def _frechet_error(moving: Tensor, fixed: Tensor, num_groups: int) -> float:
    """Returns the error over one set; covariances without a group are what is left of the sums, and rough will do."""
    root, moving = _root(fixed), moving - fixed.mean(0)
    total, square = moving.sum(0), moving.T @ moving
    replicates = []
    for group in jackknife_groups(moving, num_groups):
        count = len(moving) - len(group)
        mean = (total - group.sum(0)) / count
        covariance = (square - group.T @ group - count * mean.outer(mean)) / (count - 1)
        overlap = torch.linalg.eigvalsh(root @ covariance @ root.T).clamp(min=0).sqrt().sum()
        replicates.append(mean.square().sum() + covariance.trace() + root.square().sum() - 2 * overlap)
    return jackknife_error(torch.stack(replicates).clamp(min=0))


class KID(FeatureMetric):
    """The squared maximum mean discrepancy with the kernel (x y / D + 1)^3, unbiased, over disjoint subsets.

    Bińkowski et al. 2018, arXiv 1801.01401. Its expectation does not depend on the number of images, and is zero for
    equal distributions; an estimate may be negative. It is not multiplied by 1000.
    """

    family = "kid"
    header = "KID"

    @staticmethod
    def distance(samples: Tensor, reference: Tensor) -> float:
        """Returns the mean over subsets of the discrepancy, which is that of ``torchmetrics``."""
        from torchmetrics.image.kid import poly_mmd  # seconds to import: only where it is used

        return float(torch.stack([poly_mmd(real, drawn) for drawn, real in subsets(samples, reference)]).mean())

    @staticmethod
    def errors(samples: Tensor, reference: Tensor, num_groups: int) -> tuple[float, float]:
        """Returns the errors over either set. A group is an equal part of every subset, left out of all at once."""
        over_samples, over_reference = [], []
        for drawn, real in subsets(samples, reference):
            sizes = [len(part) for part in jackknife_groups(drawn, num_groups)]
            xx, yy, xy = (_group_sums(a, b, sizes) for a, b in ((drawn, drawn), (real, real), (drawn, real)))
            over_samples.append(_without_each(xx, yy, xy, torch.tensor(sizes)))
            over_reference.append(_without_each(yy, xx, xy.T, torch.tensor(sizes)))
        return jackknife_error(torch.stack(over_samples).mean(0)), jackknife_error(torch.stack(over_reference).mean(0))

    def settings(self, num_images: int) -> dict[str, str]:
        """Returns the kernel, and how many subsets of which size it is averaged over."""
        size = min(MAX_SUBSET, num_images)
        subsets = f"{num_images // size}, disjoint"
        return {"subset size": str(size), "subsets": subsets, "kernel": "degree 3 polynomial"}


def subsets(samples: Tensor, reference: Tensor) -> list[tuple[Tensor, Tensor]]:
    """Returns pairs of disjoint subsets of equal size, 1000 or all of the smaller set; the rest is not used."""
    smaller = min(len(samples), len(reference))
    size = min(MAX_SUBSET, smaller)
    return list(zip(torch.split(samples, size), torch.split(reference, size), strict=False))[: smaller // size]


def _group_sums(first: Tensor, second: Tensor, sizes: list[int]) -> Tensor:
    """Returns (G, G): the kernel added up over pairs of groups; an image with itself is left out."""
    kernel = (first @ second.T / first.shape[1] + 1) ** 3
    if first is second:
        kernel.fill_diagonal_(0)
    rows = torch.stack([part.sum(0) for part in torch.split(kernel, sizes)])  # (G, m)
    return torch.stack([part.sum(1) for part in torch.split(rows, sizes, dim=1)], 1)


def _without_each(own: Tensor, other: Tensor, cross: Tensor, sizes: Tensor) -> Tensor:
    """Returns (G,): the discrepancy of one subset without each group of the first set in turn."""
    size = sizes.sum()
    left = size - sizes  # (G,)
    inside = own.sum() - 2 * own.sum(1) + own.diagonal()
    across = cross.sum() - cross.sum(1)
    return inside / (left * (left - 1)) + other.sum() / (size * (size - 1)) - 2 * across / (left * size)
