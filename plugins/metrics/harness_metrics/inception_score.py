"""The Inception score: how sure a classifier is of each sample, and how various it finds all of them.

    exp(mean_x KL(p(y | x) || p(y))), with p(y) = mean_x p(y | x); the mean over ten parts of the samples

Salimans et al. 2016, arXiv 1606.03498. It lies between 1 and the number of classes, looks at no real image, and says
nothing of variety within a class. Scores of two classifiers are two quantities.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor

import harness

SPLITS = 10


def inception_scores(log_probabilities: Tensor, num_splits: int = SPLITS) -> Tensor:
    """Returns (num_splits,): the scores of equal parts of (N, K) log-probabilities, float64."""
    if len(log_probabilities) < num_splits:
        raise ValueError(f"{len(log_probabilities)} samples do not make {num_splits} parts")
    scores = []
    for part in torch.tensor_split(log_probabilities, num_splits):
        marginal = part.logsumexp(0) - math.log(len(part))
        # a class of probability 0 counts nothing
        terms = torch.where(part > -torch.inf, part.exp() * (part - marginal), 0)
        scores.append(terms.sum(1).mean().exp())
    return torch.stack(scores)


class InceptionScore(harness.FeatureMetric):
    """The score of the samples by a network's classes; that of the split's images is the detail ``reference``."""

    family = "inception-score"
    higher_is_better = True

    def objection(self, spec: harness.ImageSpec, most_samples: int | None) -> str | None:
        """Returns what is wrong where the network has no classes, or where there are too few samples."""
        if self.network == "pixels":
            return "asks a network for classes, and pixels has none: lenet has"
        return super().objection(spec, most_samples)

    def sample_features(self, evaluation: harness.Evaluation, network: harness.FeatureNetwork) -> Tensor:
        """Returns (N, K) float64 log-probabilities of the classes."""
        return network.log_probabilities(super().sample_features(evaluation, network))

    def image_features(
        self,
        evaluation: harness.Evaluation,
        network: harness.FeatureNetwork,
        which: Literal["train", "valid", "test"],
    ) -> tuple[Tensor, str]:
        """Returns (M, K) float64 log-probabilities of the classes, and words for a protocol."""
        features, words = super().image_features(evaluation, network, which)
        return network.log_probabilities(features), words

    def distance(self, samples: Tensor, reference: Tensor) -> float:
        """Returns the score of (N, K) alone."""
        return float(inception_scores(samples).mean())

    def errors(self, samples: Tensor, reference: Tensor, num_groups: int) -> tuple[float, float]:
        """Returns the error of the mean over ten parts of (N, K), and none over images.

        Papers print the standard deviation over the parts, which is sqrt(10) as much. Neither is over trainings.
        """
        return float(inception_scores(samples).std()) / math.sqrt(SPLITS), 0.0

    def settings(self, num_images: int) -> dict[str, str]:
        """Returns the number of parts."""
        return {"parts": str(SPLITS)}

    def details(self, samples: Tensor, reference: Tensor) -> dict[str, float]:
        """Returns the score of the images, (M, K)."""
        return {"reference": self.distance(reference, samples)}
