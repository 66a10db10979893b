"""Figure: what the seeds of a row scored by one metric, with two spreads that are kept apart: over seeds, over images.

A *seed* belongs to one model; a test *image* is shared by all models, and is recognised by its content.
"""

import math
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache
from typing import Self

import numpy as np
import numpy.typing as npt
import pandas as pd

from harness.interface.spec import ScoreKind
from harness.records.record import RunRecord, ScoreRecord
from harness.support.numbers import count, ten_digits

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]
Arrays = tuple[Floats, Integers]
PerImage = Mapping[str, Arrays]  # by a score's ``per_image`` name: (N,) scores and (N,) digests of the images

# Sums of float64 round: a standard deviation or difference this small relative to the scores is none.
ROUNDING = 1e-12

_MIRRORED: dict[ScoreKind, ScoreKind] = {"upper bound": "lower bound", "lower bound": "upper bound"}


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


@dataclass(frozen=True)
class Group:
    """What sets figures apart that may not share a column: the metric's name, and its protocol."""

    metric: str
    protocol: tuple[tuple[str, str], ...]  # (key, value), sorted: all but the device; of a speed, the machine too

    @classmethod
    def of(cls, score: ScoreRecord) -> Self:
        """Returns the group that a score belongs to."""
        stated = {key: words for key, words in stated_in(score).items() if key != "device"}
        if score.stage == "speed":
            stated["machine"] = f"{score.hardware} ({score.fingerprint})"
        return cls._shared(score.metric, tuple(sorted(stated.items())))

    @classmethod
    @lru_cache(maxsize=4096)
    def _shared(cls, metric: str, protocol: tuple[tuple[str, str], ...]) -> Self:
        return cls(metric, protocol)  # one for all rows that have it: there may be thousands

    @property
    def words(self) -> str:
        """The protocol in words."""
        return "; ".join(f"{key}: {value}" for key, value in self.protocol)


@dataclass(frozen=True)
class Figure:
    """What the seeds of a row scored by one metric, those that have a score; computed figures have ten digits."""

    where: str  # row, metric and dataset, for messages
    records: tuple[RunRecord, ...]  # one for each seed
    scores: tuple[ScoreRecord, ...]
    unit: str  # of the values
    factor: float = 1.0  # what turns recorded values into that unit
    per_image: PerImage = field(default_factory=dict, repr=False, compare=False)

    @property
    def metric(self) -> str:
        """The metric's name."""
        return self.scores[0].metric

    @property
    def kind(self) -> ScoreKind:
        """What the figure is of the quantity that the metric names; an estimate where seeds differ in it."""
        kinds = {score.kind or "estimate" for score in self.scores}
        return kinds.pop() if len(kinds) == 1 else "estimate"

    @property
    def higher_is_better(self) -> bool:
        """Which way is up."""
        return any(score.higher_is_better for score in self.scores)

    @cached_property
    def values(self) -> Floats:
        """(S,) float64, one for each seed."""
        return np.array([score.value for score in self.scores], dtype=np.float64) * self.factor

    @cached_property
    def mean(self) -> float:
        """Over seeds; where all are equal, as it was recorded."""
        return mean_of([score.value or 0.0 for score in self.scores], self.factor)

    @cached_property
    def standard_deviation(self) -> float | None:
        """Over seeds; None for one."""
        return ten_digits(deviation(self.values)) if len(self.values) > 1 else None

    @cached_property
    def standard_error(self) -> float | None:
        """Over test images; by resampling, where there are no scores per image."""
        matrix = self.matrix
        error = self.error if matrix is None else matrix.standard_error
        return None if error is None else ten_digits(error)

    @property
    def error(self) -> float | None:
        """The standard error of the mean over seeds by resampling; it says nothing of how trainings differ."""
        # The part of the samples falls with the number of seeds; that of the reference, which seeds share, does not.
        names = ("standard_error_samples", "standard_error_reference")
        if len(self.scores) > 1 and all({*names} <= score.details.keys() for score in self.scores):
            samples, reference = (_mean_square([score.details[name] for score in self.scores]) for name in names)
            return self.factor * math.sqrt(samples / len(self.scores) + reference)
        stated = [score.standard_error for score in self.scores if score.standard_error is not None]
        return self.factor * math.sqrt(_mean_square(stated)) if len(stated) == len(self.scores) else None

    @property
    def matrix(self) -> ScoreMatrix | None:
        """The scores per image, where every seed has them: large, made anew each time, finite or a ValueError."""
        names = [score.per_image for score in self.scores]
        arrays = [self.per_image[name] for name in names if name is not None and name in self.per_image]
        try:
            return _matrix(arrays, self.factor) if len(arrays) == len(names) else None
        except ValueError as error:
            raise ValueError(f"{self.where}: {error}") from error

    @property
    def num_images(self) -> int | None:
        """How many images were scored."""
        return min((score.num_images for score in self.scores if score.num_images is not None), default=None)

    @property
    def protocol(self) -> str:
        """The protocol as ``key=value`` pairs; where seeds differ, each value once."""
        found: dict[str, list[str]] = {}
        for key, value in sorted({item for score in self.scores for item in stated_in(score).items()}):
            found.setdefault(key, []).append(value)
        return ", ".join(f"{key}={'/'.join(values)}" for key, values in found.items())

    def detail(self, name: str) -> float | None:
        """Returns the mean over seeds of one of the details; None if no score has it."""
        values = [score.details[name] for score in self.scores if name in score.details]
        return mean_of(values) if values else None

    def part(self, suffix: str) -> float | str | None:
        """Returns what a column of CSV has under a suffix: the seeds, the protocol, a quartile, or a detail."""
        if suffix == "_seeds":
            return len(self.values)
        if suffix == "_protocol":
            return Group.of(self.scores[0]).words
        if suffix not in ("_q25", "_q75"):
            return self.detail(suffix[1:])
        # that of the batch size that was the best, where several were measured
        details, batch = self.scores[0].details, self.scores[0].protocol.get("batch size")
        names = (f"batch_{batch}{suffix}", suffix[1:], f"{suffix[1:]}_seconds")
        return next((details[name] for name in names if name in details), None)

    def measured(self) -> Measured:
        """Returns what the tests take, with the signs that make lower better."""
        found = Measured(self.values, self.matrix, self.error, self.kind)
        if not self.higher_is_better:
            return found
        turned = None if found.matrix is None else ScoreMatrix(-found.matrix.values, found.matrix.images)
        return Measured(-found.values, turned, found.error, _MIRRORED.get(found.kind, found.kind))

    def in_unit(self, unit: str, factor: float) -> Self:
        """Returns the same figure in another unit, of which ``factor`` are one of this."""
        return self if unit == self.unit else replace(self, unit=unit, factor=self.factor * factor)


def _matrix(arrays: Sequence[Arrays], factor: float) -> ScoreMatrix | None:
    """(S, N), the images in the order of their digests, in which pairing is fast; None without a common image."""
    images = arrays[0][1]
    if not all(images is other or np.array_equal(images, other) for _, other in arrays):
        for _, other in arrays:
            images = images[pair_images(images, other)[0]]
        arrays = [(scores[pair_images(images, other)[1]], images) for scores, other in arrays]
    if len(images) == 0:
        return None
    order, in_order = _order(images.tobytes())
    # As an archive keeps them: from whatever source, the board is the same.
    values = np.stack([scores.astype(np.float32)[order] for scores, _ in arrays]).astype(np.float64)
    return ScoreMatrix(values * factor, in_order)


@lru_cache(maxsize=16)
def _order(images: bytes) -> tuple[Integers, Integers]:
    """The order of the digests, and the digests in it: rows of one dataset share their images."""
    digests = np.frombuffer(images, dtype=np.int64)
    order = np.argsort(digests, kind="stable")
    return order, digests[order]


def stated_in(score: ScoreRecord) -> dict[str, str]:
    """Returns a score's protocol, in which a batch size, which may be a mean, is a number that a person reads."""
    size = score.protocol.get("batch size", "")
    with suppress(ValueError, OverflowError):
        return {**score.protocol, "batch size": count(float(size))}
    return score.protocol


def deviation(values: Floats) -> float:
    """Returns the standard deviation of at least two numbers; zero where they differ by no more than rounding."""
    found = float(np.std(values, ddof=1))
    return 0.0 if found <= ROUNDING * float(np.abs(values).max()) else found


def pair_images(first: Integers, second: Integers) -> tuple[Integers, Integers]:
    """Pairs images by content, copies in order of occurrence: positions (P,) int64 in (N,) and (M,) int64 digests."""
    sides = [pd.DataFrame({"image": images, "place": np.arange(len(images))}) for images in (first, second)]
    sides = [side.assign(copy=side.groupby("image").cumcount()) for side in sides]
    pairs = sides[0].merge(sides[1], on=["image", "copy"])
    return pairs["place_x"].to_numpy(), pairs["place_y"].to_numpy()


def mean_of(values: Sequence[float], factor: float = 1.0) -> float:
    """Returns the mean times a factor, of ten digits; what is not computed stands as it was recorded."""
    if factor == 1.0 and all(value == values[0] for value in values):
        return values[0]
    return ten_digits(float(np.mean(np.asarray(values, dtype=np.float64))) * factor)


def _mean_square(values: Sequence[float]) -> float:
    return math.fsum(value * value for value in values) / len(values)
