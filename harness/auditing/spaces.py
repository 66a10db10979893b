"""Sample spaces small enough to enumerate, and what is said of them."""

from __future__ import annotations

import torch
from torch import Tensor

from harness.interface.spec import ImageSpec

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

WIDE: tuple[ImageSpec, ...] = (
    ImageSpec(1, 16, 16, 2, num_classes=3),
    ImageSpec(3, 8, 8, 4, num_classes=3),
    ImageSpec(1, 8, 8, 2, num_classes=3),
)
"""Wider than a few kernels: a blind spot does not show on 3x3."""

FULL: tuple[ImageSpec, ...] = (
    ImageSpec(1, 28, 28, 2, num_classes=10),
    ImageSpec(1, 28, 28, 256, num_classes=10),
    ImageSpec(3, 32, 32, 256, num_classes=10),
    ImageSpec(1, 8, 8, 17, num_classes=10),
)
"""Sizes of benchmarks: the first that the model takes, unless one is asked for."""


def num_images(spec: ImageSpec) -> int:
    """Returns the number of images of a sample space."""
    count: int = spec.levels**spec.num_dimensions
    return count


def all_images(spec: ImageSpec) -> Tensor:
    """Returns every image of a space, (levels^D, C, H, W) uint8, in the order of numbers written in base ``levels``.

    Raises:
        ValueError: there are more than ``LARGEST``.
    """
    count = num_images(spec)
    if count > LARGEST:
        raise ValueError(f"{describe(spec)} has {count} images; at most {LARGEST} are enumerated")
    return digits(torch.arange(count), spec)


def digits(index: Tensor, spec: ImageSpec) -> Tensor:
    """Maps the numbers of images (N,) int64 to images (N, C, H, W) uint8."""
    powers = spec.levels ** torch.arange(spec.num_dimensions - 1, -1, -1)
    return (index[:, None] // powers % spec.levels).to(torch.uint8).view(-1, *spec.shape)


def index_of(images: Tensor, spec: ImageSpec) -> Tensor:
    """Maps images (N, C, H, W) to their numbers (N,) int64: the inverse of ``digits``."""
    powers = spec.levels ** torch.arange(spec.num_dimensions - 1, -1, -1)
    return (images.flatten(1).long().cpu() * powers).sum(1)


def describe(spec: ImageSpec) -> str:
    """Returns a space in words, such as ``3x3, 2 levels``."""
    channels = "" if spec.channels == 1 else f", {spec.channels} channels"
    return f"{spec.height}x{spec.width}{channels}, {spec.levels} levels"
