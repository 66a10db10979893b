"""FID and KID: distances between the model's own samples and a split's images, in the features of a named network."""

from __future__ import annotations

import math
from abc import abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor

from harness import BernoulliSplit, Evaluation, Metric, Score, Unsupported
from harness.builtin.features.network import LENET, load_network
from harness.builtin.metrics import distances
from harness.builtin.metrics.distances import Effort, halves, shuffled

NUM_SAMPLES = 10_000
MINIMUM = 20


@dataclass(frozen=True)
class _Sets:
    """Features of samples (N, D) and of the reference (M, D), float64, each in a seeded random order."""

    samples: Tensor
    reference: Tensor
    effort: Effort


class _SampleQuality(Metric):
    """What FID and KID share: samples, features, protocol, halves.

    ``network`` is ``pixels``, ``lenet``, ``lenet-<dataset>`` or ``inception``; ``num_samples`` is how many images the
    model draws, at least 20; 10,000 unless the metric's name says otherwise.
    """

    board = "sample-quality"
    unit = ""
    family: str

    def __init__(self, *, network: str | None = None, num_samples: int | str | None = None) -> None:
        self.network = network or LENET
        self.num_samples = NUM_SAMPLES if num_samples is None else int(num_samples)
        suffixes = ([network] if network else []) + ([f"n{num_samples}"] if num_samples is not None else [])
        self.name = "-".join([self.family, *suffixes])
        self.header = self.family.upper()
        if self.num_samples < MINIMUM:
            raise ValueError(f"{self.name}: at least {MINIMUM} samples are needed, not {self.num_samples}")

    def evaluate(self, evaluation: Evaluation) -> Score:
        """Compares the evaluation's samples with all images of its split; the first draw stands for random data.

        Raises:
            DegenerateSamples: all samples are the same image, or the model cannot draw for NaN or infinity.
            Unsupported: no such features for these images, or a split of fewer than 20 images.
        """
        split, where = evaluation.split, evaluation.split_name
        if len(split) < MINIMUM:
            raise Unsupported(f"{self.name}: the {where} split has {len(split)} images, {MINIMUM} are needed")
        network = load_network(self.network, evaluation)
        drawn = evaluation.samples(self.num_samples)
        samples = evaluation.features(network, drawn, f"the first {self.num_samples} samples")
        reference = evaluation.features(network, split.draw(0).images, f"the {where} split")
        sets = _Sets(
            shuffled(samples, evaluation.seed, "samples"),
            shuffled(reference, evaluation.seed, "reference"),
            Effort.at(network.num_features),
        )
        with torch.no_grad():
            value, over_samples, over_reference = self._measure(sets)
            details = halves(reference, self._between_halves, sets.effort.num_splits)
        first_draw = ", first draw" if isinstance(split, BernoulliSplit) else ""
        protocol = {
            "samples": str(self.num_samples),
            "reference": f"{where}, {len(split)} images{first_draw}",
            **network.protocol(),
            **self._protocol(sets),
            "device": evaluation.device.type,
        }
        details |= {"standard_error_samples": over_samples, "standard_error_reference": over_reference}
        return Score(value, math.hypot(over_samples, over_reference), "estimate", None, protocol, details)

    @abstractmethod
    def _measure(self, sets: _Sets) -> tuple[float, float, float]:
        """Returns the distance, and its standard errors over samples and over the reference."""

    @abstractmethod
    def _between_halves(self, first: Tensor, second: Tensor) -> float:
        """Returns the distance between two sets of features, (N, D) float64 each."""

    def _protocol(self, sets: _Sets) -> dict[str, str]:
        return {}


class FID(_SampleQuality):
    """The Fréchet distance between Gaussians fitted to the features of samples and of the split's images.

    |m1 - m2|^2 + tr(S1 + S2 - 2 (S1 S2)^(1/2)); Heusel et al. 2017, arXiv 1706.08500. Zero for equal moments. It is
    biased upwards by an amount that falls with the number of images: compare figures of equal numbers alone.
    """

    family = "fid"

    def _measure(self, sets: _Sets) -> tuple[float, float, float]:
        samples, reference, effort = sets.samples, sets.reference, sets.effort
        return (
            distances.frechet_distance(samples, reference),
            distances.frechet_error(samples, reference, effort),
            distances.frechet_error(reference, samples, effort),
        )

    def _between_halves(self, first: Tensor, second: Tensor) -> float:
        return distances.distance_of_sets(first, second)


class KID(_SampleQuality):
    """The squared maximum mean discrepancy with the kernel (x y / D + 1)^3, unbiased, over disjoint subsets.

    Bińkowski et al. 2018, arXiv 1801.01401. Its expectation does not depend on the number of images, and is zero for
    equal distributions; an estimate may be negative. It is not multiplied by 1000.
    """

    family = "kid"

    def _measure(self, sets: _Sets) -> tuple[float, float, float]:
        pair = sets.samples, sets.reference
        return distances.kernel_distance(*pair), *distances.kernel_errors(*pair, sets.effort)

    def _between_halves(self, first: Tensor, second: Tensor) -> float:
        return distances.kernel_distance(first, second)

    def _protocol(self, sets: _Sets) -> dict[str, str]:
        pairs = distances.subsets(sets.samples, sets.reference)
        return {
            "subset size": str(len(pairs[0][0])),
            "subsets": f"{len(pairs)}, disjoint",
            "kernel": "degree 3 polynomial",
        }
