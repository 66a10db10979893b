"""What the tests under the boards are made of: scores per image, means and spreads over seeds, and what follows.

Two sources of variance are kept apart. A *seed* belongs to one model (seed 0 of two models has nothing in common), a
test *image* is shared by all models and is recognised by its content.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from harness.interface.spec import ScoreKind

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]
Basis = Literal["seeds x images", "seeds", "images", "resampling"]

ALPHA = 0.05

# Sums of float64 round: a standard deviation or difference this small relative to the scores is none.
ROUNDING = 1e-12

MIRRORED: dict[ScoreKind, ScoreKind] = {
    "exact": "exact", "estimate": "estimate", "upper bound": "lower bound", "lower bound": "upper bound",
}  # fmt: skip
"""What a kind is of the negated quantity."""


@dataclass(frozen=True)
class ScoreMatrix:
    """One model's scores, an image a column and a training a row.

    Attributes:
        values: (S, N) float64; the mean over draws where the data are random.
        images: (N,) int64, the digest of each image's content. Copies of one image share a digest.
    """

    values: Floats
    images: Integers

    def __post_init__(self) -> None:
        if self.values.ndim != 2 or self.values.size == 0 or self.values.dtype != np.float64:
            raise ValueError(f"values must be (S, N) float64, not {self.values.shape} {self.values.dtype}")
        if self.images.shape != self.values.shape[1:] or self.images.dtype != np.int64:
            raise ValueError(
                f"images must be ({self.values.shape[1]},) int64, not {self.images.shape} {self.images.dtype}"
            )
        if not np.isfinite(self.values).all():
            seed, image = np.argwhere(~np.isfinite(self.values))[0]
            raise ValueError(
                f"the score of seed {seed}, image {image} is {self.values[seed, image]}, which is not finite"
            )

    @property
    def standard_error(self) -> float | None:
        """Over images, of the images' means over seeds; None for one image."""
        num_images = self.values.shape[1]
        if num_images == 1:
            return None
        return deviation(self.values.mean(axis=0)) / math.sqrt(num_images)


def mean(values: Sequence[float] | Floats) -> float:
    """Returns the mean of at least one number."""
    return float(np.mean(np.asarray(values, dtype=np.float64)))


def deviation(values: Floats) -> float:
    """Returns the standard deviation of at least two numbers; zero where they differ by no more than rounding."""
    found = float(np.std(values, ddof=1))
    return 0.0 if found <= ROUNDING * float(np.abs(values).max()) else found


def pair_images(first: Integers, second: Integers) -> tuple[Integers, Integers]:
    """Pairs images by content; copies of one image are paired in order of occurrence, what is left over is dropped.

    Args:
        first, second: (N,) and (M,) int64 digests.

    Returns:
        Two (P,) int64 arrays of positions: ``first[p] == second[q]`` for every pair (p, q).
    """
    digests = np.concatenate([first, second])
    occurrences = np.concatenate([_occurrences(first), _occurrences(second)])
    order = np.lexsort((occurrences, digests))  # stable: of two equal keys, the one of ``first`` comes first
    digests, occurrences = digests[order], occurrences[order]
    equal = (digests[1:] == digests[:-1]) & (occurrences[1:] == occurrences[:-1])
    return order[:-1][equal], order[1:][equal] - len(first)


def _occurrences(digests: Integers) -> Integers:
    """(N,) int64: how many equal digests stand before each."""
    order = np.argsort(digests, kind="stable")
    positions = np.arange(len(digests))
    starts = np.r_[True, digests[order][1:] != digests[order][:-1]]
    counts = np.empty_like(positions)
    counts[order] = positions - np.maximum.accumulate(np.where(starts, positions, 0))
    return counts


def decides(lower: npt.ArrayLike, higher: npt.ArrayLike) -> npt.NDArray[np.bool_]:
    """Tells for pairs whether a significantly lower figure is proven better, where lower is better.

    - Equal kinds compare by value: exact values, bounds as the promises that they are, estimates as estimates.
    - An upper bound below an exact value is better, for its true value is lower still.
    - An exact value below an upper bound proves nothing: the bound may hide a better model.
    - Any other mixture is left unordered.

    Args:
        lower, higher: the kinds of the figures, such as ``"exact"``; arrays of them, or one each.
    """
    low, high = np.asarray(lower, dtype=object), np.asarray(higher, dtype=object)
    return np.asarray((low == high) | ((low == "upper bound") & (high == "exact")), dtype=bool)


@dataclass(frozen=True)
class Comparison:
    """Whether two models differ.

    Attributes:
        difference: the first model's mean minus the second's, over the images that both scored.
        standard_error: of the difference; 0 where nothing varies.
        degrees_of_freedom: of Student's t; infinite where nothing varies, and for a normal test.
        p_value: two-sided, of no difference.
        interval: 95 % confidence interval of the difference.
        basis: what the test generalises to. ``images``: a model had a single seed, and another training might
            reverse the result. ``seeds``: there are no values per image. ``resampling``: neither; the figures' own
            standard errors.
    """

    difference: float
    standard_error: float
    degrees_of_freedom: float
    p_value: float
    interval: tuple[float, float]
    basis: Basis


@dataclass(frozen=True)
class RankInterval:
    """The ranks that a model may have: both ends included, 1 is best. Ties are not transitive, so print both ends."""

    best: int
    worst: int

    def __str__(self) -> str:
        return str(self.best) if self.best == self.worst else f"{self.best}–{self.worst}"
