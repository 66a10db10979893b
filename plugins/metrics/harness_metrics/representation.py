"""What an encoder's latents say of an image's class: the accuracy of simple classifiers on them."""

import math
from abc import abstractmethod

import numpy as np
import torch
from torch import Tensor

import harness
from harness_metrics.neighbours import nearest

_MOST_STEPS = 200

_Numbers = np.ndarray[tuple[int], np.dtype[np.float64]]


class _Accuracy(harness.Metric):
    """The percentage of the split's images named rightly by a classifier on latents, learned from the training split.

    Latents are what ``encode`` returns, all layers. ``per_image`` is 100 or 0. The detail ``pixels`` is the accuracy of
    the same classifier on the pixels themselves: a good encoder is above it.
    """

    board = "inference"
    unit = "%"
    higher_is_better = True
    requires = harness.Inference
    classifier: str

    def evaluate(self, evaluation: harness.Evaluation) -> harness.Score:
        """Encodes the training split and the scored one; of random data, their first draws."""
        train, split = evaluation.data.train.draw(0), evaluation.split.draw(0)
        if train.labels is None or split.labels is None:
            raise harness.Unsupported(f"{self.name}: dataset {evaluation.data.name!r} has no labels")
        known, new = (encode(evaluation, images, self.name) for images in (train.images, split.images))
        labels, right = train.labels.cpu(), split.labels.cpu()
        per_image = 100 * (self.predict(known, labels, new) == right).double()
        pixels, new_pixels = (images.cpu().flatten(1).double() for images in (train.images, split.images))
        on_pixels = (self.predict(pixels, labels, new_pixels) == right).double().mean()
        error = float(per_image.std()) / math.sqrt(len(per_image)) if len(per_image) > 1 else None
        protocol = {
            "images": str(len(new)),
            "split": evaluation.split_name,
            "draws": "1",
            "precision": str(evaluation.model.dtype).removeprefix("torch."),
            "training images": str(len(known)),
            "latents": "posterior means",
            "classifier": self.classifier,
        }
        details = {"pixels": 100 * float(on_pixels), "units": float(known.shape[1])}
        return harness.Score(float(per_image.mean()), error, "exact", per_image, protocol, details)

    @staticmethod
    @abstractmethod
    def predict(train: Tensor, labels: Tensor, images: Tensor) -> Tensor:
        """Returns (M,) int64 classes of (M, D), learned from (N, D) float64 and their (N,) int64 labels."""


class NearestNeighbourAccuracy(_Accuracy):
    """Every image gets the label of the training image with the nearest latents, by Euclidean distance.

    As in Donahue, Krähenbühl & Darrell 2017, arXiv 1605.09782. Of training images with equal latents, the first counts.
    """

    name = "1nn-accuracy"
    header = "1-NN accuracy"
    classifier = "1 nearest neighbour, Euclidean"

    @staticmethod
    def predict(train: Tensor, labels: Tensor, images: Tensor) -> Tensor:
        """Returns the label of the nearest."""
        return labels[nearest(images, train)[1]]


class LinearProbeAccuracy(_Accuracy):
    """Logistic regression on latents, each scaled to mean 0 and sd 1 over the training split (Alain & Bengio 2017)."""

    name = "linear-probe-accuracy"
    classifier = f"logistic regression, weights ~ N(0, 1), at most {_MOST_STEPS} steps of L-BFGS"

    @staticmethod
    def predict(train: Tensor, labels: Tensor, images: Tensor) -> Tensor:
        """Returns the most probable class."""
        centre, scale = train.mean(0), train.std(0, correction=0)
        scale[scale == 0] = 1  # a unit that never varies says nothing
        weights, bias = logistic_regression((train - centre) / scale, labels)
        return ((images - centre) / scale @ weights + bias).argmax(1)


def logistic_regression(inputs: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Returns weights (D, K) and biases (K,), float64, that minimise -sum log p(label | input) + |weights|^2 / 2.

    ``inputs`` are (N, D) float64, ``labels`` (N,) int64 from 0 to K - 1. The penalty makes the minimum finite where a
    plane separates the classes. Started at zero, so that nothing is random.
    """
    from scipy.optimize import minimize  # slow to import

    wide = torch.cat([inputs, torch.ones(len(inputs), 1, dtype=torch.float64)], 1)
    targets = torch.nn.functional.one_hot(labels).double()
    shape = (wide.shape[1], targets.shape[1])

    def loss(flat: _Numbers) -> tuple[float, _Numbers]:
        both = torch.from_numpy(flat).view(shape)
        log_probs = (wide @ both).log_softmax(1)
        shrunk = torch.cat([both[:-1], torch.zeros_like(both[-1:])])
        value = shrunk.square().sum() / 2 - (targets * log_probs).sum()
        gradient = shrunk + wide.T @ (log_probs.exp() - targets)
        return float(value) / len(wide), (gradient.flatten() / len(wide)).numpy()

    start = np.zeros(shape[0] * shape[1])
    found = minimize(
        loss, start, jac=True, method="L-BFGS-B", options={"maxiter": _MOST_STEPS, "ftol": 1e-12, "gtol": 1e-7}
    )
    best = torch.from_numpy(found.x).view(shape)
    return best[:-1], best[-1]


@torch.no_grad()
def encode(evaluation: harness.Evaluation, images: Tensor, purpose: str) -> Tensor:
    """Maps (N, C, H, W) uint8 to the model's posterior means, (N, D) float64 on the CPU; NonFiniteScore for NaN."""
    model, found = evaluation.model, []
    assert isinstance(model, harness.Inference)
    with harness.isolated_rng(harness.derive_seed(evaluation.seed, purpose), evaluation.device):
        for batch in torch.split(images, evaluation.batch_size):
            latents = model.encode(batch.to(evaluation.device))
            width = latents.shape[1] if isinstance(latents, Tensor) and latents.dim() == 2 else -1
            found.append(evaluation.checked(latents, (len(batch), width), "encode"))
    latents = torch.cat(found)
    if not bool(torch.isfinite(latents).all()):
        raise harness.NonFiniteScore("a posterior mean is not finite")
    return latents
