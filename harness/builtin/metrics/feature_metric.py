"""What FID, KID and their like share: samples and images in the features of a named network, and errors.

Standard errors are those of the delete-a-group jackknife (Efron & Stein 1981). Features are (N, D) float64, in random
order where groups or subsets of them are taken.
"""

import math
import re
from abc import abstractmethod
from collections.abc import Callable
from typing import ClassVar, Literal

import torch
from torch import Tensor

from harness import BernoulliSplit, Evaluation, FeatureNetwork, ImageSpec, Metric, Score, Unsupported, generator
from harness.builtin.features.network import load_network

NUM_SAMPLES = 10_000
MINIMUM, MAXIMUM = 20, 10_000_000
_Which = Literal["train", "valid", "test"]


class SampleMetric(Metric):
    """A metric of the model's own samples in the features of a named network; what is made of them is the subclass's.

    Class attributes:
        family: how its names begin: ``fid`` of ``fid-pixels-n2000``.
        header: how the column is headed; by default the family in words.

    Args:
        network: a feature network, such as ``pixels``, ``lenet-<dataset>`` or ``inception``; by default ``lenet``.
        num_samples: how many images the model draws, at least 20; by default 10,000.
    """

    board = "sample-quality"
    unit = ""
    family: str

    def __init__(self, *, network: str | None = None, num_samples: int | str | None = None) -> None:
        self.network = network or "lenet"
        self.num_samples = NUM_SAMPLES if num_samples is None else int(num_samples)
        suffixes = ([network] if network else []) + ([f"n{num_samples}"] if num_samples is not None else [])
        self.name = "-".join([self.family, *suffixes])
        self.header = self.header or self.family.replace("-", " ").capitalize()
        self.datasets = (network.removeprefix("lenet-"),) if network and network.startswith("lenet-") else ()
        if self.num_samples < MINIMUM:
            raise ValueError(f"{self.name}: at least {MINIMUM} samples are needed, not {self.num_samples}")
        if self.num_samples > MAXIMUM:
            raise ValueError(f"{self.name}: at most {MAXIMUM:,} samples can be drawn, not {self.num_samples:,}")

    def objection(self, spec: ImageSpec, most_samples: int | None) -> str | None:
        """Returns what is wrong where there are too few samples."""
        if most_samples is None or self.num_samples <= most_samples:
            return None
        remedy = f"name -n{most_samples}" if most_samples >= MINIMUM else f"at least {MINIMUM} are needed"
        return f"takes {self.num_samples:,} samples, there are {most_samples:,}: {remedy}"

    def settings(self, num_images: int) -> dict[str, str]:
        """Returns what its protocol holds of its own, such as k; ``num_images`` has the smaller set."""
        return {}

    def feature_network(self, evaluation: Evaluation) -> FeatureNetwork:
        """Returns the network of its name, for an ``evaluate`` of one's own; Unsupported says why there is none."""
        return load_network(self.network, evaluation)

    def sample_features(self, evaluation: Evaluation, network: FeatureNetwork) -> Tensor:
        """Returns (N, D) features of the model's own first ``num_samples`` draws, in their order."""
        drawn = evaluation.samples(self.num_samples)
        return evaluation.features(network, drawn, f"the first {self.num_samples} samples")

    def image_features(self, evaluation: Evaluation, network: FeatureNetwork, which: _Which) -> tuple[Tensor, str]:
        """Returns (M, D) features of a split, in its order, and words for a protocol: which images they are."""
        split = getattr(evaluation.data, which)
        first_draw = ", first draw" if isinstance(split, BernoulliSplit) else ""
        features = evaluation.features(network, split.draw(0).images, f"the {which} split")
        return features, f"{which}, {len(split)} images{first_draw}"

    def refuse_few(self, evaluation: Evaluation, which: _Which) -> None:
        """Raises Unsupported where a split has less than 20 images."""
        if (size := len(getattr(evaluation.data, which))) < MINIMUM:
            raise Unsupported(f"{self.name}: the {which} split has {size} images, {MINIMUM} are needed")


class FeatureMetric(SampleMetric):
    """Measures a model's own samples against the images of a split, in the features of a named network.

    A subclass gives ``family`` and ``distance``; ``errors``, ``settings``, ``details`` and ``effort`` have defaults.
    What needs more than two sets of features is a ``SampleMetric``. ``harness.MetricEntry.of_features`` registers both.

    Class attributes:
        family, header: see ``SampleMetric``, as for the arguments.
        compared_with: ``"split"``, the one that is scored, or ``"train"``.
    """

    compared_with: ClassVar[Literal["split", "train"]] = "split"
    given: Tensor | None = None  # in place of a split's features, (M, D) float64, and what they are
    given_words = ""

    def objection(self, spec: ImageSpec, most_samples: int | None) -> str | None:
        """Returns what is wrong where there are too few samples, or reference statistics of other features."""
        of_lenet = 84 if re.match("lenet(-|$)", self.network) else None  # a plugin's are known when it is loaded
        size = {"pixels": spec.num_dimensions, "inception": 2048}.get(self.network, of_lenet)
        return self._misfit(size) or super().objection(spec, most_samples)

    def _misfit(self, num_features: int | None) -> str | None:
        if self.given is None or num_features in (None, self.given.shape[1]):
            return None
        return f"has {num_features} features of {self.network}, {self.given_words} has {self.given.shape[1]}"

    @torch.no_grad()
    def evaluate(self, evaluation: Evaluation) -> Score:
        """Compares the evaluation's samples with all images of a split; the first draw stands for random data."""
        real, words = self.given, self.given_words
        which: _Which = "train" if self.compared_with == "train" else evaluation.split_name
        if real is None:
            self.refuse_few(evaluation, which)
        network = load_network(self.network, evaluation)
        if (wrong := self._misfit(network.num_features)) is not None:
            raise ValueError(f"{self.name} {wrong}")
        num_groups, num_splits = self.effort(network.num_features)
        found = self.sample_features(evaluation, network)
        if real is None:
            real, words = self.image_features(evaluation, network, which)
        samples, reference = (
            features[torch.randperm(len(features), generator=generator(evaluation.seed, purpose))].double()
            for features, purpose in ((found, "samples"), (real, "reference"))  # a file's order may be by class
        )
        errors = dict(zip(("samples", "reference"), self.errors(samples, reference, num_groups), strict=True))
        if self.given is not None:  # statistics have no images to leave out
            del errors["reference"]
        protocol = {
            "samples": str(self.num_samples),
            "reference": words,
            **network.protocol(),
            **self.settings(min(len(samples), len(reference))),
            "device": evaluation.device.type,
        }
        details = halves(real, self.distance, num_splits) if self.given is None and num_splits else {}
        details |= self.details(samples, reference)
        details |= {f"standard_error_{name}": error for name, error in errors.items()}
        value, error = self.distance(samples, reference), math.hypot(*errors.values())
        return Score(value, error, "estimate", None, protocol, details)

    @abstractmethod
    def distance(self, samples: Tensor, reference: Tensor) -> float:
        """Returns what is measured, of two sets of features in random order, (N, D) and (M, D) float64."""

    def errors(self, samples: Tensor, reference: Tensor, num_groups: int) -> tuple[float, float]:
        """Returns standard errors over the samples and over the reference, the other being given, (N, D) and (M, D).

        By default ``distance`` is taken again without each of ``num_groups`` groups.
        """

        def error(moving: Tensor, distance: Callable[[Tensor], float]) -> float:
            groups = jackknife_groups(moving, num_groups)
            left = (torch.cat([*groups[:index], *groups[index + 1 :]]) for index in range(len(groups)))
            return jackknife_error(torch.tensor([distance(rest) for rest in left], dtype=torch.float64))

        over_samples = error(samples, lambda rest: self.distance(rest, reference))
        return over_samples, error(reference, lambda rest: self.distance(samples, rest))

    def details(self, samples: Tensor, reference: Tensor) -> dict[str, float]:
        """Returns further figures of the same (N, D) and (M, D)."""
        return {}

    def effort(self, num_features: int) -> tuple[int, int]:
        """Returns how many groups of the jackknife and random splits into halves are affordable; 0 splits: none."""
        if num_features <= 128:
            return 50, 20
        return (20, 5) if num_features <= 1024 else (10, 3)


def jackknife_groups(images: Tensor, num_groups: int) -> tuple[Tensor, ...]:
    """Splits (N, D) into groups to leave out in turn: fewer where a group would have less than two images."""
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
