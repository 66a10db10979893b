"""FID and KID: distances between the model's own samples and a split's images, in the features of a named network.

Standard errors are those of the delete-a-group jackknife (Efron & Stein 1981). Features are (N, D) float64, in random
order where groups or subsets of them are taken.
"""

import math
from abc import abstractmethod
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from harness import BernoulliSplit, Evaluation, ImageSpec, Metric, Score, Unsupported, generator
from harness.builtin.datasets.images import _load as read_arrays
from harness.builtin.features.network import load_network, weights_digest

NUM_SAMPLES = 10_000
MINIMUM, MAXIMUM = 20, 10_000_000
MAX_SUBSET = 1000


class _SampleQuality(Metric):
    """What FID and KID share: samples, features, protocol, halves.

    ``network`` is ``pixels``, ``lenet``, ``lenet-<dataset>`` or ``inception``; ``num_samples`` is how many images the
    model draws, at least 20; 10,000 unless the metric's name says otherwise. With a ``path``, the reference of FID is
    mean and covariance in the ``.npz`` file there, whose ending the path lacks, and not the images of the split.
    """

    board = "sample-quality"
    unit = ""
    family: str
    given: Tensor | None = None  # in place of the split's features, (M, D) float64
    given_words = ""

    def __init__(
        self, *, network: str | None = None, num_samples: int | str | None = None, path: str | None = None
    ) -> None:
        self.network = network or "lenet"
        self.num_samples = NUM_SAMPLES if num_samples is None else int(num_samples)
        suffixes = ([network] if network else []) + ([f"n{num_samples}"] if num_samples is not None else [])
        if path is not None:
            suffixes.append(f"to-{Path(path).name}")
            self.given, self.given_words, digest = read_statistics(Path(f"{path}.npz"))
            self.version = f"{self.version} {digest}"
        self.name = "-".join([self.family, *suffixes])
        self.header = self.family.upper()
        self.datasets = (network.removeprefix("lenet-"),) if network and network.startswith("lenet-") else ()
        if self.num_samples < MINIMUM:
            raise ValueError(f"{self.name}: at least {MINIMUM} samples are needed, not {self.num_samples}")
        if self.num_samples > MAXIMUM:
            raise ValueError(f"{self.name}: at most {MAXIMUM:,} samples can be drawn, not {self.num_samples:,}")

    def objection(self, spec: ImageSpec, most_samples: int | None) -> str | None:
        """Returns what is wrong where there are too few samples, or reference statistics of other features."""
        size = {"pixels": spec.num_dimensions, "inception": 2048}.get(self.network, 84)
        if self.given is not None and self.given.shape[1] != size:
            return f"has {size} features of {self.network}, {self.given_words} has {self.given.shape[1]}"
        if most_samples is None or self.num_samples <= most_samples:
            return None
        remedy = f"name -n{most_samples}" if most_samples >= MINIMUM else f"at least {MINIMUM} are needed"
        return f"takes {self.num_samples:,} samples, there are {most_samples:,}: {remedy}"

    @torch.no_grad()
    def evaluate(self, evaluation: Evaluation) -> Score:
        """Compares the evaluation's samples with all images of its split; the first draw stands for random data."""
        split, where = evaluation.split, evaluation.split_name
        if len(split) < MINIMUM and self.given is None:
            raise Unsupported(f"{self.name}: the {where} split has {len(split)} images, {MINIMUM} are needed")
        network = load_network(self.network, evaluation)
        num_groups, num_splits = effort(network.num_features)
        drawn = evaluation.samples(self.num_samples)
        found = evaluation.features(network, drawn, f"the first {self.num_samples} samples")
        real, first_draw = self.given, ", first draw" if isinstance(split, BernoulliSplit) else ""
        if real is None:
            real = evaluation.features(network, split.draw(0).images, f"the {where} split")
        samples, reference = (
            features[torch.randperm(len(features), generator=generator(evaluation.seed, purpose))].double()
            for features, purpose in ((found, "samples"), (real, "reference"))  # a file's order may be by class
        )
        errors = dict(zip(("samples", "reference"), self.errors(samples, reference, num_groups), strict=True))
        if self.given is not None:  # statistics have no images to leave out
            del errors["reference"]
        protocol = {
            "samples": str(self.num_samples),
            "reference": self.given_words or f"{where}, {len(split)} images{first_draw}",
            **network.protocol(),
            **self._protocol(min(len(samples), len(reference))),
            "device": evaluation.device.type,
        }
        details = halves(real, self.distance, num_splits) if self.given is None else {}
        details |= {f"standard_error_{name}": error for name, error in errors.items()}
        value, error = self.distance(samples, reference), math.hypot(*errors.values())
        return Score(value, error, "estimate", None, protocol, details)

    @staticmethod
    @abstractmethod
    def distance(samples: Tensor, reference: Tensor) -> float:
        """Returns the distance between two sets of features, (N, D) and (M, D) float64."""

    @staticmethod
    @abstractmethod
    def errors(samples: Tensor, reference: Tensor, num_groups: int) -> tuple[float, float]:
        """Returns the distance's standard errors over the samples and over the reference, the other being given."""

    def _protocol(self, num_images: int) -> dict[str, str]:
        return {}


def effort(num_dimensions: int) -> tuple[int, int]:
    """Returns how many groups of the jackknife and splits into halves D dimensions allow: each costs D^3."""
    if num_dimensions <= 128:
        return 50, 20
    return (20, 5) if num_dimensions <= 1024 else (10, 3)


def groups_of(images: Tensor, num_groups: int) -> tuple[Tensor, ...]:
    """Splits a set into groups for the jackknife: fewer where a group would have less than two images."""
    return torch.tensor_split(images, max(2, min(num_groups, len(images) // 2)))


def jackknife_error(replicates: Tensor) -> float:
    """Returns sqrt((G - 1) / G sum_g (t_g - mean)^2) of (G,) float64, the statistic without each group in turn."""
    num_groups = len(replicates)
    return math.sqrt((num_groups - 1) / num_groups * float((replicates - replicates.mean()).square().sum()))


def halves(features: Tensor, distance: Callable[[Tensor, Tensor], float], num_splits: int) -> dict[str, float]:
    """Returns mean and 2.5 % and 97.5 % quantiles, over random splits, of the distance of two halves of one set."""
    half = len(features) // 2
    values = []
    for split in range(num_splits):
        order = torch.randperm(len(features), generator=generator(0, "halves", split))
        values.append(distance(features[order[:half]].double(), features[order[half : 2 * half]].double()))
    found = torch.tensor(values, dtype=torch.float64)
    low, high = torch.quantile(found, torch.tensor([0.025, 0.975], dtype=torch.float64)).tolist()
    summary = {"halves": found.mean().item(), "halves_low": low, "halves_high": high}
    return {**summary, "halves_images": float(half), "halves_splits": float(num_splits)}


class FID(_SampleQuality):
    """The Fréchet distance between Gaussians fitted to the features of samples and of the split's images.

    |m1 - m2|^2 + tr(S1 + S2 - 2 (S1 S2)^(1/2)) with means m and unbiased covariances S; Heusel et al. 2017, arXiv
    1706.08500. Zero for equal moments. It is biased upwards by an amount that falls with the number of images: compare
    figures of equal numbers alone.
    """

    family = "fid"

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
    for group in groups_of(moving, num_groups):
        count = len(moving) - len(group)
        mean = (total - group.sum(0)) / count
        covariance = (square - group.T @ group - count * mean.outer(mean)) / (count - 1)
        overlap = torch.linalg.eigvalsh(root @ covariance @ root.T).clamp(min=0).sqrt().sum()
        replicates.append(mean.square().sum() + covariance.trace() + root.square().sum() - 2 * overlap)
    return jackknife_error(torch.stack(replicates).clamp(min=0))


class KID(_SampleQuality):
    """The squared maximum mean discrepancy with the kernel (x y / D + 1)^3, unbiased, over disjoint subsets.

    Bińkowski et al. 2018, arXiv 1801.01401. Its expectation does not depend on the number of images, and is zero for
    equal distributions; an estimate may be negative. It is not multiplied by 1000.
    """

    family = "kid"

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
            sizes = [len(part) for part in groups_of(drawn, num_groups)]
            xx, yy, xy = (_group_sums(a, b, sizes) for a, b in ((drawn, drawn), (real, real), (drawn, real)))
            over_samples.append(_without_each(xx, yy, xy, torch.tensor(sizes)))
            over_reference.append(_without_each(yy, xx, xy.T, torch.tensor(sizes)))
        return jackknife_error(torch.stack(over_samples).mean(0)), jackknife_error(torch.stack(over_reference).mean(0))

    def _protocol(self, num_images: int) -> dict[str, str]:
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
