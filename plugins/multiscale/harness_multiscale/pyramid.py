"""Which pixels of an image are drawn when: a subsampled base image, then doublings in three groups of pixels each."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from harness import ImageSpec


@dataclass(frozen=True)
class Grid:
    """Every ``stride``-th pixel from (row, column) on."""

    row: int
    column: int
    stride: int

    def of(self, maps: Tensor) -> Tensor:
        """Maps (..., H, W) to the grid's (..., K, L), as a view."""
        return maps[..., self.row :: self.stride, self.column :: self.stride]


@dataclass(frozen=True)
class Group:
    """Pixels that are drawn at once, given those of other grids."""

    target: Grid
    given: tuple[Grid, ...]


@dataclass(frozen=True)
class Pyramid:
    """An image of any size as a base image that is doubled so and so often, padded at the bottom and at the right.

    The padding is the least that makes both sides multiples of 2^doublings.

    Attributes:
        spec: the sample space.
        doublings: how often the base image is doubled.
    """

    spec: ImageSpec
    doublings: int

    @classmethod
    def of(cls, spec: ImageSpec, base: int) -> Pyramid:
        """Returns the pyramid whose base image has sides of at most ``base`` pixels."""
        doublings = 0
        while -(-max(spec.height, spec.width) // 2**doublings) > base:
            doublings += 1
        return cls(spec, doublings)

    @property
    def padded(self) -> tuple[int, int]:
        """The height and width with the padding."""
        unit = 2**self.doublings
        return -(-self.spec.height // unit) * unit, -(-self.spec.width // unit) * unit

    @property
    def base(self) -> Grid:
        """The base image; none of its pixels is padding."""
        return Grid(0, 0, 2**self.doublings)

    @property
    def base_spec(self) -> ImageSpec:
        """The sample space of the base image."""
        height, width = (side // 2**self.doublings for side in self.padded)
        return ImageSpec(self.spec.channels, height, width, self.spec.levels)

    @property
    def groups(self) -> list[Group]:
        """The groups of all doublings, in the order in which they are drawn.

        In each block of 2 x 2 the upper left pixel is there; first the upper right ones are drawn, which completes the
        columns, then the lower left ones, then the lower right ones. A group that is all padding is none.
        """
        groups = []
        for doubling in reversed(range(self.doublings)):
            half, stride = 2**doubling, 2 ** (doubling + 1)
            corners = [Grid(row, column, stride) for row, column in ((0, 0), (0, half), (half, 0), (half, half))]
            groups += [Group(corners[index], tuple(corners[:index])) for index in (1, 2, 3)]
        return [
            group for group in groups if group.target.row < self.spec.height and group.target.column < self.spec.width
        ]

    def pad(self, maps: Tensor) -> Tensor:
        """Maps (..., H, W) to its padded size, with zeros."""
        height, width = self.padded
        return F.pad(maps, (0, width - self.spec.width, 0, height - self.spec.height))

    def crop(self, maps: Tensor) -> Tensor:
        """Maps a padded (..., H', W') to (..., H, W), as a view."""
        return maps[..., : self.spec.height, : self.spec.width]

    def steps(self) -> Tensor:
        """Returns (C, H, W) int64, when each entry is drawn; the channels of a group one after another."""
        channels = self.spec.channels
        steps = torch.zeros(channels, *self.padded, dtype=torch.int64)
        base = self.base_spec
        pixels = torch.arange(base.height * base.width).view(base.height, base.width)
        first = base.height * base.width * channels
        for channel in range(channels):
            self.base.of(steps)[channel] = pixels * channels + channel
            for index, group in enumerate(self.groups):
                group.target.of(steps)[channel] = first + index * channels + channel
        return self.crop(steps).contiguous()
