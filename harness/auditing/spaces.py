"""Sample spaces small enough to enumerate, what is said of them, and a known distribution on them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from harness.interface.dataset import Dataset, Split
from harness.interface.spec import ImageSpec
from harness.support.randomness import generator

LARGEST = 2**16
"""Images of the largest space that is enumerated."""

SMALL: tuple[ImageSpec, ...] = (
    ImageSpec(1, 3, 3, 2, num_classes=3),  # 512 images
    ImageSpec(3, 2, 2, 2, num_classes=3),  # 4,096: the order of channels
    ImageSpec(1, 2, 2, 4, num_classes=3),  # 256: more than two levels
    ImageSpec(1, 2, 3, 3, num_classes=3),  # 729: height is not width
)
LARGER: tuple[ImageSpec, ...] = (ImageSpec(1, 4, 4, 2, num_classes=3),)
"""For models that take none of the small ones."""

WIDE = tuple(ImageSpec(*size, num_classes=3) for size in ((1, 16, 16, 2), (3, 8, 8, 4), (1, 8, 8, 2)))
"""Wider than a few kernels: a blind spot does not show on 3x3."""

_SIZES = ((1, 28, 28, 2), (1, 28, 28, 256), (3, 32, 32, 256), (1, 8, 8, 17))
FULL = tuple(ImageSpec(*size, num_classes=10) for size in _SIZES)
"""Sizes of benchmarks: the first that the model takes, unless one is asked for."""

_COUPLING, _FIELD = 0.35, 0.8
_TRAIN, _VALID, _TEST = 1000, 200, 4000


def num_images(spec: ImageSpec) -> int:
    """Returns the number of images of a sample space."""
    return int(spec.levels**spec.num_dimensions)


def all_images(spec: ImageSpec) -> Tensor:
    """Returns every image of a space, (levels^D, C, H, W) uint8, in the order of numbers written in base ``levels``."""
    count = num_images(spec)
    if count > LARGEST:
        raise ValueError(f"{describe(spec)} has {count} images; at most {LARGEST} are enumerated")
    return (torch.arange(count)[:, None] // _powers(spec) % spec.levels).to(torch.uint8).view(-1, *spec.shape)


def index_of(images: Tensor, spec: ImageSpec) -> Tensor:
    """Maps images (N, C, H, W) to their numbers (N,) int64: in the order of ``all_images``."""
    return (images.flatten(1).long().cpu() * _powers(spec)).sum(1)


def _powers(spec: ImageSpec) -> Tensor:
    powers: Tensor = spec.levels ** torch.arange(spec.num_dimensions - 1, -1, -1)
    return powers


def describe(spec: ImageSpec) -> str:
    """Returns a space in words, such as ``3x3, 2 levels``."""
    channels = "" if spec.channels == 1 else f", {spec.channels} channels"
    return f"{spec.height}x{spec.width}{channels}, {spec.levels} levels"


@dataclass(frozen=True)
class KnownDistribution:
    """p(x, y) on a space that can be enumerated, with uniform classes: what models are fitted to and held against.

    An Ising-like field: with v = 2 x / (levels - 1) - 1 and neighbours n of each entry (right, below, and the next
    channel of the pixel),

        p(x | y) = exp(sum_i h_i(y) v_i + J sum_(i, n) v_i v_n) / Z(y),

    whose log-probabilities, entropy and draws are exact sums over all images. ``seed`` is that of the fields.
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
        shape, random = (spec.num_classes or 1, spec.num_dimensions), generator(self.seed, "field")
        field = _FIELD * torch.randn(shape, dtype=torch.float64, generator=random)
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
