"""What the tests under the boards are made of: scores per image, means and spreads over seeds, and what follows.

Two sources of variance are kept apart. A *seed* belongs to one model (seed 0 of two models has nothing in common), a
test *image* is shared by all models and is recognised by its content.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from harness.interface.spec import ScoreKind

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]

ALPHA = 0.05

# Sums of float64 round: a standard deviation or difference this small relative to the scores is none.
ROUNDING = 1e-12


@dataclass(frozen=True)
class ScoreMatrix:
    """One model's scores, an image a column and a training a row."""

    values: Floats  # (S, N) float64; the mean over draws where the data are random
    images: Integers  # (N,) int64, the digest of each image's content; copies of one image share a digest

    def __post_init__(self) -> None:
        values, images = self.values, self.images
        if values.ndim != 2 or values.size == 0 or values.dtype != np.float64:
            raise ValueError(f"values must be (S, N) float64, not {values.shape} {values.dtype}")
        if images.shape != values.shape[1:] or images.dtype != np.int64:
            raise ValueError(f"images must be ({values.shape[1]},) int64, not {images.shape} {images.dtype}")
        if not np.isfinite(values).all():
            seed, image = np.argwhere(~np.isfinite(values))[0]
            raise ValueError(f"the score of seed {seed}, image {image} is {values[seed, image]}, which is not finite")

    @property
    def standard_error(self) -> float | None:
        """Over images, of the images' means over seeds; None for one image."""
        num_images = len(self.images)
        return None if num_images == 1 else deviation(self.values.mean(axis=0)) / math.sqrt(num_images)


@dataclass(frozen=True)
class Measured:
    """A figure as the tests take it: lower is better."""

    values: Floats  # (S,) one for each seed
    matrix: ScoreMatrix | None  # the scores per image, where every seed has them
    error: float | None  # the standard error of the mean over seeds by resampling, where it is known
    kind: ScoreKind


def mean(values: Sequence[float] | Floats) -> float:
    """Returns the mean of at least one number."""
    return float(np.mean(np.asarray(values, dtype=np.float64)))


def deviation(values: Floats) -> float:
    """Returns the standard deviation of at least two numbers; zero where they differ by no more than rounding."""
    found = float(np.std(values, ddof=1))
    return 0.0 if found <= ROUNDING * float(np.abs(values).max()) else found


def pair_images(first: Integers, second: Integers) -> tuple[Integers, Integers]:
    """Pairs images by content: two (P,) int64 arrays of positions in (N,) and (M,) int64 digests.

    Copies of one image are paired in order of occurrence, what is left over is dropped.
    """
    sides = [pd.DataFrame({"image": images, "place": np.arange(len(images))}) for images in (first, second)]
    sides = [side.assign(copy=side.groupby("image").cumcount()) for side in sides]
    pairs = sides[0].merge(sides[1], on=["image", "copy"])
    return pairs["place_x"].to_numpy(), pairs["place_y"].to_numpy()


def decides(lower: npt.ArrayLike, higher: npt.ArrayLike) -> npt.NDArray[np.bool_]:
    """Tells for pairs of kinds whether a significantly lower figure is proven better, where lower is better.

    - Equal kinds compare by value: exact values, bounds as the promises that they are, estimates as estimates.
    - An upper bound below an exact value is better, for its true value is lower still.
    - An exact value below an upper bound proves nothing: the bound may hide a better model.
    - Any other mixture is left unordered.
    """
    low, high = np.asarray(lower, dtype=object), np.asarray(higher, dtype=object)
    return np.asarray((low == high) | ((low == "upper bound") & (high == "exact")), dtype=bool)
