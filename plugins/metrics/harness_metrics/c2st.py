"""Classifier two-sample tests: how often a classifier tells samples and real images apart, 50 % being chance.

Lopez-Paz & Oquab 2017, arXiv 1610.06545. Both sets are cut to the size of the smaller one.
"""

import math
from abc import abstractmethod

import torch
from torch import Tensor, nn

import harness

_HIDDEN, _EPOCHS, _BATCH, _LEARNING_RATE = 64, 20, 128, 3e-3
_ROWS = 500
_SAME = 1e-5  # relative: a network's features of one image differ by rounding


class _TwoSampleTest(harness.FeatureMetric):
    """What both tests share. ``told`` says of the images that are tested how far each is told right, from 0 to 1."""

    unit = "%"

    @staticmethod
    @abstractmethod
    def told(samples: Tensor, reference: Tensor) -> tuple[Tensor, Tensor]:
        """Returns (2, n) for each set, (N, D) and (M, D) float64 in random order.

        The first row is how far images are told right, the second how many other images say the same as each.
        """

    def distance(self, samples: Tensor, reference: Tensor) -> float:
        """Returns the accuracy in percent."""
        return 50 * sum(float(right.mean()) for right, _ in self.told(samples, reference))

    def errors(self, samples: Tensor, reference: Tensor, num_groups: int) -> tuple[float, float]:
        """Returns what the images of either set add to the error; never 0, as if one more of each outcome were seen."""
        first, second = (_error(*each) for each in self.told(samples, reference))
        return first, second

    def details(self, samples: Tensor, reference: Tensor) -> dict[str, float]:
        """Returns the accuracy on either set."""
        first, second = (100 * float(right.mean()) for right, _ in self.told(samples, reference))
        return {"accuracy_samples": first, "accuracy_reference": second}

    def effort(self, num_features: int) -> tuple[int, int]:
        """Takes few halves: each is a test of its own."""
        num_groups, num_splits = super().effort(num_features)
        return num_groups, min(num_splits, 5)


class C2ST(_TwoSampleTest):
    """The accuracy of a small classifier that learned from half of both sets, on the other half.

    It has a layer of 64 ReLU units on standardized features. An output of exactly 0 is half right. Its standard error
    takes what was learned as given.
    """

    family = "c2st"
    header = "Two-sample test, classifier"

    @staticmethod
    def told(samples: Tensor, reference: Tensor) -> tuple[Tensor, Tensor]:
        """Returns 1 where a held-out image is told right, 0 where not, 1/2 where undecided; and zeros."""
        x, y = balanced(samples, reference)
        half = len(x) // 2
        learned = torch.cat([x[:half], y[:half]])
        mean, scale = learned.mean(0), learned.std(0)
        scale = torch.where(scale > 1e-6, scale, 1.0)
        with torch.inference_mode(False), torch.enable_grad():
            net = train((learned - mean) / scale)
        with torch.no_grad():
            of_samples, of_reference = (net((part[half:] - mean) / scale).squeeze(1).sign() for part in (x, y))
        alone = torch.zeros_like(of_samples)
        return torch.stack([(1 + of_samples) / 2, alone]), torch.stack([(1 - of_reference) / 2, alone])

    def settings(self, num_images: int) -> dict[str, str]:
        """Returns the numbers of images and the classifier's recipe."""
        recipe = f"{_HIDDEN} ReLU units, {_EPOCHS} epochs on half"
        return {"images of either set": str(num_images), "classifier": recipe}


class NearestNeighbourTest(_TwoSampleTest):
    """The share of images whose nearest neighbour, among all others of both sets, is of their own set.

    Leave-one-out 1-nearest-neighbour accuracy (Xu et al. 2018, arXiv 1806.07755). Far below 50 %, samples are copies of
    the real images. Of several nearest ones, such as duplicates, each has an equal share of the vote.
    """

    family = "c2st-1nn"
    header = "Two-sample test, 1-NN"

    @staticmethod
    def told(samples: Tensor, reference: Tensor) -> tuple[Tensor, Tensor]:
        """Returns the share of an image's nearest ones that are of its set; and 1 if it is the nearest one's nearest.

        Two images that are nearest to one another are told right, or not, together.
        """
        x, y = balanced(samples, reference)
        images = torch.cat([x, y])
        images = images - images.mean(0)
        of_samples = (torch.arange(len(images)) < len(x)).double()
        squares, shares, nearest = images.square().sum(1), list[Tensor](), list[Tensor]()
        for rows in torch.split(torch.arange(len(images)), _ROWS):
            distances = squares[rows, None] + squares - 2 * images[rows] @ images.T  # (rows, 2 n), squared
            distances[torch.arange(len(rows)), rows] = math.inf
            least, index = distances.min(1, keepdim=True)
            tied = (distances <= least * (1 + 2 * _SAME) + _SAME**2 * squares[rows, None]).double()
            shares.append(tied @ of_samples / tied.sum(1))
            nearest.append(index.squeeze(1))
        found, share = torch.cat(nearest), torch.cat(shares)
        mutual = (found[found] == torch.arange(len(images))).double()
        right = torch.stack([torch.where(of_samples > 0, share, 1 - share), mutual])
        return right[:, : len(x)], right[:, len(x) :]

    def settings(self, num_images: int) -> dict[str, str]:
        """Returns the numbers of images and the classifier."""
        return {"images of either set": str(num_images), "classifier": "1 nearest neighbour, leave one out"}


def balanced(samples: Tensor, reference: Tensor) -> tuple[Tensor, Tensor]:
    """Returns the first images of both sets, as many as the smaller one has."""
    smaller = min(len(samples), len(reference))
    return samples[:smaller], reference[:smaller]


def train(images: Tensor) -> nn.Module:
    """Returns a function (N, D) to (N, 1), above 0 for what is like the first half of the images, (2 n, D) float64."""
    labels = (torch.arange(len(images)) < len(images) // 2).double().unsqueeze(1)
    with harness.on_threads(1), harness.isolated_rng(harness.derive_seed(0, "c2st"), torch.device("cpu")):
        net = nn.Sequential(nn.Linear(images.shape[1], _HIDDEN), nn.ReLU(), nn.Linear(_HIDDEN, 1)).double()
        optimizer = torch.optim.AdamW(net.parameters(), lr=_LEARNING_RATE, weight_decay=1e-2)
        batches = math.ceil(len(images) / _BATCH)
        schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, _EPOCHS * batches)
        for _ in range(_EPOCHS):
            for chosen in torch.randperm(len(images)).chunk(batches):
                loss = nn.functional.binary_cross_entropy_with_logits(net(images[chosen]), labels[chosen])
                optimizer.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]
                optimizer.step()
                schedule.step()
    return net


def _error(right: Tensor, same: Tensor) -> float:
    """Returns the error, in percent, that (n,) outcomes add to the mean of two accuracies."""
    seen = torch.cat([right, right.new_tensor([0.0, 1.0])])
    variance = (seen - seen.mean()).square().mean() * (1 + same.mean())
    return 50 * math.sqrt(float(variance) / len(right))
