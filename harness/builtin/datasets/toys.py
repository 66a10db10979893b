"""Densities of the plane, such as two moons, as images of two entries: what a model learns of them can be looked at.

The plane is cut into 256 x 256 cells, and an image of one row is a cell: its first entry counts them from left to
right, the second from below. The table of the cells' probabilities is the distribution itself, so that log-probability,
entropy and draws are exact, and whatever measures a model of images measures it here.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from harness import DataFolder, ImageSpec, KnownDataset, KnownDistribution

LEVELS = 256
_CURVE = 1024  # points for a curve: nearer to one another than a tenth of its noise


@dataclass(frozen=True)
class GridDensity(KnownDistribution):
    """The distribution of images of two entries whose ``probabilities``, (levels, levels) float64, are a table.

    p(x) = probabilities[x_0, x_1]
    """

    probabilities: Tensor

    def __post_init__(self) -> None:
        table = self.probabilities
        if table.ndim != 2 or table.shape[0] != table.shape[1]:
            raise ValueError(f"a table must be (levels, levels), not {tuple(table.shape)}")
        if table.min() < 0 or abs(table.sum().item() - 1) > 1e-9:
            raise ValueError(f"probabilities must be from 0 on and sum to one, not to {table.sum().item()}")

    @property
    def spec(self) -> ImageSpec:  # type: ignore[override]
        """Of one row of two entries."""
        return ImageSpec(channels=1, height=1, width=2, levels=len(self.probabilities))

    def log_prob(self, images: Tensor) -> Tensor:
        """Maps (N, 1, 1, 2) uint8 to (N,) float64 nats; minus infinity for what is never drawn."""
        first, second = images.flatten(1).long().T
        return self.probabilities[first, second].log()

    def sample(self, num_images: int, generator: torch.Generator) -> Tensor:
        """Draws (num_images, 1, 1, 2) uint8, by the inverse of the cumulative distribution."""
        cumulative = self.probabilities.flatten().cumsum(0)
        uniform = torch.rand(num_images, dtype=torch.float64, generator=generator) * cumulative[-1]
        cells = torch.searchsorted(cumulative, uniform, right=True).clamp_max(len(cumulative) - 1)
        levels = len(self.probabilities)
        return torch.stack([cells // levels, cells % levels], 1).to(torch.uint8).view(num_images, 1, 1, 2)

    @property
    def entropy(self) -> float:
        """In nats an image, exactly."""
        return float(torch.special.entr(self.probabilities).sum())


def gaussians(centres: Tensor, deviation: float, half: float, middle: tuple[float, float] = (0.0, 0.0)) -> Tensor:
    """Returns (256, 256) float64: what an equal mixture of round Gaussians puts into the cells of a square.

    ``centres`` are (K, 2); ``deviation`` is the standard deviation, ``half`` half the square's side, ``middle`` its
    middle. What lies beyond the square is left out, and the rest divided by its sum.
    """
    edges = torch.linspace(-half, half, LEVELS + 1, dtype=torch.float64)
    across, up = (
        _between((edges + shift - centre[:, None]) / deviation)
        for shift, centre in zip(middle, centres.double().T, strict=True)
    )  # (K, 256)
    table = across.T @ up
    return table / table.sum()


def _between(edges: Tensor) -> Tensor:
    """Returns a standard normal's probabilities between one edge and the next: small ones are not lost above zero."""
    low, high = edges[..., :-1], edges[..., 1:]
    above = low > 0
    larger, smaller = torch.where(above, -low, high), torch.where(above, -high, low)
    difference: Tensor = torch.special.ndtr(larger) - torch.special.ndtr(smaller)
    return difference


def _along(start: float, end: float) -> Tensor:
    """Returns (1024,) float64: the middles of equal steps."""
    return start + (end - start) * (torch.arange(_CURVE, dtype=torch.float64) + 0.5) / _CURVE


def _dataset(name: str, probabilities: Tensor) -> KnownDataset:
    return KnownDataset.draw(name, GridDensity(probabilities), sizes=(20_000, 2_000, 5_000), seed=0)


def two_moons(folder: DataFolder) -> KnownDataset:
    """Draws from two half circles of radius 1, the second upside down and moved by (1, 0.5); noise of 0.1."""
    angle = _along(0, math.pi)
    upper = torch.stack([angle.cos(), angle.sin()], 1)
    centres = torch.cat([upper, torch.tensor([1.0, 0.5]) - upper])
    return _dataset("two-moons", gaussians(centres, 0.1, half=2, middle=(0.5, 0.25)))


def eight_gaussians(folder: DataFolder) -> KnownDataset:
    """Draws from eight Gaussians of standard deviation 0.5 on a circle of radius 4."""
    angle = torch.arange(8, dtype=torch.float64) * math.pi / 4
    return _dataset("eight-gaussians", gaussians(4 * torch.stack([angle.cos(), angle.sin()], 1), 0.5, half=7))


def twenty_five_gaussians(folder: DataFolder) -> KnownDataset:
    """Draws from five by five Gaussians of standard deviation 0.1, two apart."""
    places = torch.arange(-4, 5, 2)
    return _dataset("twenty-five-gaussians", gaussians(torch.cartesian_prod(places, places), 0.1, half=5))


def swiss_roll(folder: DataFolder) -> KnownDataset:
    """Draws from the spiral (t cos t, t sin t), t uniform from 1.5 pi to 4.5 pi; noise of 1."""
    t = _along(1.5 * math.pi, 4.5 * math.pi)
    return _dataset("swiss-roll", gaussians(torch.stack([t * t.cos(), t * t.sin()], 1), 1.0, half=20))


def checkerboard(folder: DataFolder) -> KnownDataset:
    """Draws uniformly from eight of four by four squares, like the dark fields of a board."""
    field = torch.arange(LEVELS) * 4 // LEVELS
    dark = (field[:, None] + field) % 2 == 0
    return _dataset("checkerboard", dark.double() / dark.sum())
