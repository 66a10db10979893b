"""A known distribution on a space that can be enumerated: what models are fitted to for a moment, and held against.

An Ising-like field with a class: with v = 2 x / (levels - 1) - 1 and neighbours n of each entry (right, below, and the
next channel of the pixel),

    p(x | y) = exp(sum_i h_i(y) v_i + J sum_(i, n) v_i v_n) / Z(y),

whose log-probabilities, entropy and draws are exact sums over all images.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from harness.auditing.spaces import all_images, describe
from harness.interface.dataset import Dataset, Split
from harness.interface.spec import ImageSpec
from harness.support.randomness import generator

_COUPLING = 0.35
_FIELD = 0.8
_TRAIN, _VALID, _TEST = 1000, 200, 4000


@dataclass(frozen=True)
class KnownDistribution:
    """p(x, y) on a space, with uniform classes where the space has any.

    Attributes:
        spec: the sample space.
        seed: of the fields.
    """

    spec: ImageSpec
    seed: int = 0

    @cached_property
    def class_log_probs(self) -> Tensor:
        """(classes, M) float64: log p(x | y) of every image in the order of ``all_images``; one row without classes."""
        spec = self.spec
        values = 2 * all_images(spec).double() / (spec.levels - 1) - 1  # (M, C, H, W)
        pairs = (values[..., :, 1:] * values[..., :, :-1]).flatten(1).sum(1)
        pairs = pairs + (values[..., 1:, :] * values[..., :-1, :]).flatten(1).sum(1)
        pairs = pairs + (values[:, 1:] * values[:, :-1]).flatten(1).sum(1)
        count = spec.num_classes or 1
        field = _FIELD * torch.randn(
            count, spec.num_dimensions, dtype=torch.float64, generator=generator(self.seed, "field")
        )
        energy = field @ values.flatten(1).T + _COUPLING * pairs  # (classes, M)
        return energy.log_softmax(1)

    @cached_property
    def log_probs(self) -> Tensor:
        """(M,) float64: log p(x), the classes marginalised."""
        return self.class_log_probs.logsumexp(0) - math.log(len(self.class_log_probs))

    @property
    def entropy(self) -> float:
        """Of p(x), in nats an image."""
        return float(-(self.log_probs.exp() * self.log_probs).sum())

    def draw(self, num_images: int, *purpose: str | int) -> Split:
        """Returns independent draws, with labels where the space has classes."""
        random = generator(self.seed, "draw", *purpose)
        labels = torch.randint(len(self.class_log_probs), (num_images,), generator=random)
        uniform = torch.rand(num_images, 1, dtype=torch.float64, generator=random)
        steps = self.class_log_probs.exp().cumsum(1)
        index = torch.searchsorted(steps[labels].contiguous(), uniform).squeeze(1).clamp_max(steps.shape[1] - 1)
        return Split(all_images(self.spec)[index], labels if self.spec.num_classes else None)

    def dataset(self) -> Dataset:
        """Returns the splits that a short fit sees."""
        train, valid = self.draw(_TRAIN, "train"), self.draw(_VALID, "valid")
        return Dataset(f"known, {describe(self.spec)}", self.spec, train, valid, self.draw(_TEST, "test"))
