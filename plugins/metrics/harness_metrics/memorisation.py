"""Memorisation: are samples nearer to the training images than new images of the same distribution are?

All distances are Euclidean, between the features of a network. All three figures are low for copies. None of them is a
measure of quality: noise, far from every image, has high ones.
"""

import math
from abc import abstractmethod

import torch
from torch import Tensor

from harness import Evaluation, SampleMetric, Score, Unsupported, generator
from harness_metrics.neighbours import nearest

CELLS = 3
FEWEST_SAMPLES = 20  # of a cell
ROUNDING = 1e-5  # of a network's features, in mean distances


class _Memorisation(SampleMetric):
    """What the three share: features of samples, of the held-out images of the split, and of the training images."""

    higher_is_better = True

    @torch.no_grad()
    def evaluate(self, evaluation: Evaluation) -> Score:
        """Compares the evaluation's samples and its split with the training images; of random data, first draws."""
        self.refuse_few(evaluation, evaluation.split_name)
        self.refuse_few(evaluation, "train")
        network = self.feature_network(evaluation)
        samples = self.sample_features(evaluation, network)
        held_out, held_out_words = self.image_features(evaluation, network, evaluation.split_name)
        train, train_words = self.image_features(evaluation, network, "train")
        value, error, details = self.compare(samples.double(), held_out.double(), train.double())
        protocol = {
            "samples": str(self.num_samples),
            "reference": train_words,
            "held out": held_out_words,
            **network.protocol(),
            **self.settings(len(train)),
            "device": evaluation.device.type,
        }
        return Score(value, error, "estimate", None, protocol, details)

    @staticmethod
    @abstractmethod
    def compare(samples: Tensor, held_out: Tensor, train: Tensor) -> tuple[float, float, dict[str, float]]:
        """Returns value, standard error and details of three sets of features, (N, D), (M, D), (T, D) float64."""


class NearestTraining(_Memorisation):
    """The mean distance of samples to the nearest training image, over the same of held-out images.

    One for new images, zero for copies. The standard error is over samples and held-out images, the training images
    being given. The details have both distances, and the shares of copies.
    """

    family = "nearest-training"
    header = "Nearest training image"

    @staticmethod
    def compare(samples: Tensor, held_out: Tensor, train: Tensor) -> tuple[float, float, dict[str, float]]:
        """Returns the ratio of the means."""
        ours, theirs = nearest(samples, train)[0], nearest(held_out, train)[0]
        if not bool(theirs.any()):
            raise Unsupported(f"all {len(theirs)} held-out images are training images: there is no distance to expect")
        value = float(ours.mean() / theirs.mean())
        error = math.hypot(_error(ours), value * _error(theirs)) / float(theirs.mean())
        details = {"distance": float(ours.mean()), "held_out_distance": float(theirs.mean())}
        for name, distances in (("copies", ours), ("held_out_copies", theirs)):
            details[name] = float((distances < ROUNDING * theirs.mean()).double().mean())
        return value, error, details


class Authenticity(_Memorisation):
    """The percentage of samples further from their nearest training image than that is from its own nearest.

    Alaa, van Breugel, Saveliev & van der Schaar 2022, arXiv 2102.08921. It depends on the number of training images:
    the detail ``held_out`` is that of the split's images, and what to expect of new ones.
    """

    family = "authenticity"
    unit = "%"

    @staticmethod
    def compare(samples: Tensor, held_out: Tensor, train: Tensor) -> tuple[float, float, dict[str, float]]:
        """Returns the percentage."""
        ours, theirs = (100 * authentic(images, train).double() for images in (samples, held_out))
        return float(ours.mean()), _error(ours), {"held_out": float(theirs.mean())}


def authentic(samples: Tensor, train: Tensor) -> Tensor:
    """Maps (N, D) and (T, D) float64 to (N,) bool. Equal distances, frequent on binary images, are not authentic.

    Only training images that are nearest to a sample are asked for their own nearest, which costs far less than all.
    """
    distance, index = nearest(samples, train)
    asked, where = torch.unique(index, return_inverse=True)
    own, _ = nearest(train[asked], train, but=asked)
    return distance > own[where]


class DataCopying(_Memorisation):
    """C_T: by how many standard deviations samples are further from training images than held-out images are.

    Far below 0 for copies, far above 0 for noise. The training images are split by k-means; in each cell, the
    distances to its nearest training image give a Mann-Whitney z; the mean weighs cells by their share of held-out
    images. Meehan, Chaudhuri & Dasgupta 2020, arXiv 2004.05675. It grows with the numbers of images, and does not see
    cells without samples: the detail ``coverage`` is the share of held-out images in the cells that count. Held-out
    images have a sd below one, as a mean over cells has: ``null_sd``.
    """

    family = "data-copying"
    header = "C_T"

    @staticmethod
    def compare(samples: Tensor, held_out: Tensor, train: Tensor) -> tuple[float, float, dict[str, float]]:
        """Returns C_T, over three cells that depend on the training features alone."""
        value, error, shares = c_t(samples, held_out, train, k_means(train, CELLS))
        null_sd = float(shares.norm() / shares.sum())
        return value, error, {"cells": float(len(shares)), "coverage": float(shares.sum()), "null_sd": null_sd}

    def settings(self, num_images: int) -> dict[str, str]:
        """Returns what the cells are."""
        return {"cells": f"{CELLS}, k-means, {FEWEST_SAMPLES} samples or more"}


def c_t(samples: Tensor, held_out: Tensor, train: Tensor, centres: Tensor) -> tuple[float, float, Tensor]:
    """Returns C_T, its standard error, and the shares of held-out images in the cells that count, (K,) float64.

    All are (N, D) float64; a cell is what is nearest to one of the centres. One with fewer than 20 samples, 2 held-out
    images or a training image does not count; ``Unsupported`` if none does.
    """
    sets = [(images, nearest(images, centres)[1]) for images in (samples, held_out, train)]
    found = []
    for cell in range(len(centres)):
        ours, theirs, known = (images[which == cell] for images, which in sets)
        if len(ours) >= FEWEST_SAMPLES and len(theirs) >= 2 and len(known) > 0:
            z = mann_whitney(nearest(ours, known)[0], nearest(theirs, known)[0])
            found.append([*z, len(theirs) / len(held_out)])
    if not found:
        raise Unsupported(f"of {len(samples)} samples no cell has {FEWEST_SAMPLES}, and 2 held-out images: draw more")
    z, errors, shares = torch.tensor(found, dtype=torch.float64).T
    return float(shares @ z / shares.sum()), float((shares * errors).norm() / shares.sum()), shares


def mann_whitney(ours: Tensor, theirs: Tensor) -> tuple[float, float]:
    """Returns z and its standard error for (m,) and (n,) float64: below zero where ours are smaller.

    U counts pairs with ours above theirs, ties half. z = (U - n m / 2 + 1 / 2) / sd, as in the authors' code, with sd^2
    = n m / 12 (n + m + 1 - sum (t^3 - t) / ((n + m) (n + m - 1))), t being how often each value is there; 0 where all
    are equal. The error, about 1 under no difference, is that of DeLong, DeLong & Clarke-Pearson 1988.
    """
    ours_above, theirs_below = _above(ours, theirs), len(ours) - _above(theirs, ours)
    pairs, total = len(ours) * len(theirs), len(ours) + len(theirs)
    counts = torch.unique(torch.cat([ours, theirs]), return_counts=True)[1].double()
    if len(counts) == 1:
        return 0.0, 0.0
    ties = float((counts**3 - counts).sum()) / (total * (total - 1))
    sd = math.sqrt(pairs / 12 * (total + 1 - ties))
    error = pairs * math.hypot(_error(ours_above) / len(theirs), _error(theirs_below) / len(ours)) / sd
    return (float(ours_above.sum()) - pairs / 2 + 0.5) / sd, error


def _above(values: Tensor, others: Tensor) -> Tensor:
    """Returns how many of the others each value is above, (N,) float64, ties half."""
    ordered = others.sort().values
    below, up_to = (torch.searchsorted(ordered, values.contiguous(), right=right) for right in (False, True))
    return (below + up_to).double() / 2


def _error(values: Tensor) -> float:
    return float(values.std()) / math.sqrt(len(values))


def k_means(points: Tensor, num_cells: int, *, num_steps: int = 100) -> Tensor:
    """Returns the centres of at most ``num_cells`` cells of (N, D) float64, always the same for the same points.

    Lloyd's algorithm from k-means++ (Arthur & Vassilvitskii 2007); fewer where fewer points differ.
    """
    random = generator(0, "cells")
    centres = points[torch.randint(len(points), (1,), generator=random)]
    while len(centres) < num_cells:
        chances = nearest(points, centres)[0].square().cumsum(0)
        if float(chances[-1]) == 0:
            break
        drawn = chances[-1] * torch.rand(1, generator=random, dtype=torch.float64)
        centres = torch.cat([centres, points[torch.searchsorted(chances, drawn, right=True)]])
    cells = torch.full((len(points),), -1)
    for _ in range(num_steps):
        before, cells = cells, nearest(points, centres)[1]
        if torch.equal(before, cells):
            break
        counts = cells.bincount(minlength=len(centres))[:, None]
        sums = torch.zeros_like(centres).index_add_(0, cells, points)
        centres = torch.where(counts > 0, sums / counts.clamp(min=1), centres)
    return centres
