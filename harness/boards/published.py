"""Published figures: what papers print, where it was read, and whether ours reproduces it.

``published.toml`` has a table for each figure, by a slug that a suite's ``published = "made-2hl-32-masks"`` names.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from harness.interface.spec import ScoreKind
from harness.suites.toml import read_toml
from harness.support.names import what_is_wrong
from harness.support.numbers import KIND_SIGNS

Tag = Literal["P", "C", "2", "L", "?"]
Judgement = Literal["reproduced", "not reproduced", "under-trained", "not comparable"]

PUBLISHED_FILE = "published.toml"
TAGS: Mapping[Tag, str] = {
    "P": "read in the paper's own text",
    "C": "read in the authors' code",
    "2": "read in another paper or reprint",
    "L": "read in the lecture 'Generative Models II' (Courville, 2017)",
    "?": "from memory, unverified",
}

NUM_DIMENSIONS: Mapping[str, int] = {
    **dict.fromkeys(("mnist", "mnist-static", "mnist-dynamic", "fashion-mnist"), 784),
    **dict.fromkeys(("cifar10", "imagenet32"), 3072),
    **dict.fromkeys(("imagenet64", "celeba"), 12288),
}
CONVERSIONS: Mapping[str, Callable[[float, int], float]] = {  # of what is printed, and the number of dimensions D
    "identity": lambda printed, _: printed,
    # a log-likelihood, or a lower bound on one
    "negate": lambda printed, _: -printed,
    # log p of dequantized 8-bit data scaled to [0, 1], in nats an image
    "nats-in-unit-interval-to-bits-per-dim": lambda printed, size: 8 - printed / (size * math.log(2)),
    # the same, scaled to [-1, 1]
    "nats-in-symmetric-interval-to-bits-per-dim": lambda printed, size: 7 - printed / (size * math.log(2)),
    # log p of unit-variance data, in bits a three-channel pixel; 64.15 is the standard deviation of CIFAR-10's pixels
    # (Sohl-Dickstein et al. 2015, arXiv 1503.03585, and its code)
    "bits-per-cifar10-pixel-to-bits-per-dim": lambda printed, _: math.log2(64.15) - printed / 3,
}


class PublishedFigure(BaseModel):
    """One printed figure."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, use_attribute_docstrings=True)

    slug: str = Field(pattern=r"^[a-z0-9]+(-[a-z0-9]+)*$")
    """Its name in ``published.toml``."""
    label: str = Field(min_length=1)
    """The model as the table names it."""
    dataset: str
    """Our name of the dataset, preprocessing included."""
    metric: str = Field(pattern=r"^(nll|bits-per-dim|negative-elbo|iwae-[1-9][0-9]*|fid|inception-score)$")
    """Our name of the metric; K is part of ``iwae-K``. ``nll`` where the source does not say how it estimates."""
    kind: ScoreKind
    """What the figure is of the quantity, by the model's nature, however a table prints it."""
    value: float = Field(allow_inf_nan=False)
    """The figure in the metric's unit, after ``conversion``."""
    printed: str = Field(pattern=r"^-?[0-9]+(\.[0-9]+)?$")
    """The source's digits."""
    unit: str = Field(min_length=1)
    """The unit of ``printed``."""
    conversion: str = "identity"
    """How ``value`` follows from ``printed``: ``identity``, ``negate`` or a change of unit."""
    tags: tuple[Tag, ...] = Field(min_length=1, strict=False)  # TOML has lists
    """How we know: P read in the paper, C in the authors' code, 2 in another paper, L in the lecture, ? from memory."""
    verified: bool
    """False exactly where a tag is ``?``."""
    split: Literal["train", "valid", "test"] | None = None
    """Which images; left out where the source does not say, or the metric has none."""
    model: str | None = None
    """Our name of the model; left out where the row stands for no model of ours."""
    table: str | None = Field(default=None, pattern=r"^[a-z0-9]+(-[a-z0-9]+)*$")
    """The printed table that it is a row of; a suite with ``table`` shows all of its rows."""
    row_of: str | None = None
    """Another figure of the same printed row: what of ours stands beside that one stands beside this one too."""
    not_built: str | None = Field(default=None, min_length=1)
    """Why no plugin has its model; left out where one has."""
    not_run: str | None = Field(default=None, min_length=1)
    """Why no suite trains its model, which a plugin has; left out where one does."""
    arxiv: str | None = Field(default=None, pattern=r"^[0-9]{4}\.[0-9]{4,5}$")
    """The id of the model's paper."""
    source: str | None = None
    """Where the figure is printed, as far as known."""
    standard_deviation: float | None = Field(default=None, gt=0)
    """The printed spread, in the unit of ``value``."""
    over: Literal["trainings", "splits"] | None = None
    """What the spread is over; only one over trainings enters a verdict."""
    hyperparameters: dict[str, Any] = Field(default_factory=dict)
    """The hyperparameters that define the row, by our names."""
    epochs: float | None = Field(default=None, gt=0)
    """How long it was trained; left out where that is not known."""
    protocol: str | None = None
    """In words, for figures such as a FID: features, sample counts, reference, which checkpoint."""
    notes: str | None = None
    """What a reader may trip over."""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.dataset not in NUM_DIMENSIONS:
            raise ValueError(f"dataset {self.dataset!r} is not one of {', '.join(NUM_DIMENSIONS)}")
        if self.conversion not in CONVERSIONS:
            raise ValueError(f"conversion {self.conversion!r} is not one of {', '.join(CONVERSIONS)}")
        if self.verified == ("?" in self.tags):
            raise ValueError(f"verified = {str(self.verified).lower()} contradicts the tags {', '.join(self.tags)}")
        if self.over is not None and self.standard_deviation is None:
            raise ValueError(f"over = {self.over!r} needs a standard_deviation")
        converted = self.convert(float(self.printed))
        if self.value != round(converted, _num_decimals(repr(self.value))):
            raise ValueError(f"value {self.value} is not {self.conversion} of {self.printed}, which is {converted:.6g}")
        return self

    @property
    def text(self) -> str:
        """The value with at least two decimals, behind the sign of its kind: ``≤ 4.203``."""
        return f"{KIND_SIGNS[self.kind]}{self.value:,.{max(2, _num_decimals(repr(self.value)))}f}"

    def convert(self, printed: float) -> float:
        """Returns ``conversion`` of a number in the printed unit."""
        return CONVERSIONS[self.conversion](printed, NUM_DIMENSIONS[self.dataset])

    @property
    def half_digit(self) -> float:
        """Half a unit of the last printed digit, in the unit of ``value``, and what rounding ``value`` added."""
        half, printed = 0.5 * 10.0 ** -_num_decimals(self.printed), float(self.printed)
        rounding = abs(self.value - self.convert(printed))
        return rounding + abs(self.convert(printed + half) - self.convert(printed - half)) / 2


def _num_decimals(number: str) -> int:
    return len(number.partition(".")[2])


def load_published(path: Path) -> dict[str, PublishedFigure]:
    """Reads ``published.toml``: {slug: figure}, in the file's order; a ValueError names all that is wrong in it."""
    figures, problems = {}, []
    for slug, table in read_toml(path, "file of published figures", ValueError).items():
        try:
            if not isinstance(table, dict) or "slug" in table:
                problems.append(f"{slug}: must be a table [{slug}] without a key 'slug'")
            else:
                figures[slug] = PublishedFigure(slug=slug, **table)
        except ValidationError as error:
            problems += [f"{slug}: {what_is_wrong(item, PublishedFigure.model_fields)}" for item in error.errors()]
    for slug, figure in figures.items():
        if figure.row_of is not None and figure.row_of not in figures:
            problems.append(f"{slug}: row_of {figure.row_of!r} is no figure of this file")
    if problems:
        raise ValueError(f"{path}: " + "; ".join(problems))
    return figures


def published_beside(suite: Path) -> dict[str, PublishedFigure]:
    """Reads the ``published.toml`` in a suite's folder, or else in the one above; there may be none."""
    files = (folder / PUBLISHED_FILE for folder in suite.absolute().parents[:2])
    return next((load_published(file) for file in files if file.is_file()), {})


@dataclass(frozen=True)
class MeasuredFigure:
    """Our row, as far as a verdict needs it."""

    model: str
    dataset: str
    metric: str
    split: str
    kind: ScoreKind
    value: float  # the mean over seeds
    standard_deviation: float | None = None  # None for one seed
    hyperparameters: Mapping[str, Any] | None = None  # defaults included
    epochs: float | None = None  # None where a closed form has none
    seconds: float | None = None  # of the training


@dataclass(frozen=True)
class Verdict:
    """What became of a published figure here, and why."""

    judgement: Judgement
    reason: str


_A_DAY = 86400.0  # seconds; what is printed was trained for days


def tolerance(ours: MeasuredFigure, published: PublishedFigure) -> float:
    """Returns how far we may be off: the larger of half the last printed digit and 2 sqrt(sd^2 + sd'^2) of trainings.

    The standard error over test images has no part in it: both figures are of the same images, and most of it cancels.
    """
    theirs = published.standard_deviation if published.over == "trainings" else None
    return max(published.half_digit, 2 * math.hypot(ours.standard_deviation or 0.0, theirs or 0.0))


def verdict(ours: MeasuredFigure, published: PublishedFigure) -> Verdict:
    """Says whether ours reproduces a published figure.

    - ``not comparable``: model, dataset, metric (K included), split, kind, or a hyperparameter that defines the row
      differ, or the source does not say.
    - ``reproduced``: ours is at most ``tolerance`` worse. Better counts, and the reason says so.
    - ``under-trained``: ours is worse, and trained for fewer epochs than the published row; where its length is not
      known, for less than a day.
    - ``not reproduced``: ours is worse otherwise.
    """
    if difference := _difference(ours, published):
        return Verdict("not comparable", difference)
    allowed, worse = tolerance(ours, published), ours.value - published.value
    if published.metric == "inception-score":  # of which more is better
        worse = -worse
    judgement: Judgement = "reproduced"
    # The printed digits are decimal, ours binary: a difference of exactly half a digit must not fail by rounding.
    if worse < -allowed:
        reason = f"better than published by {-worse:.2g}, beyond the tolerance of {allowed:.2g}"
    elif worse <= allowed * (1 + 1e-9) + 1e-12:
        reason = f"within the tolerance of {allowed:.2g}"
    else:
        judgement, reason = "not reproduced", f"worse by {worse:.2g}, tolerance {allowed:.2g}"
        if ours.epochs is not None and published.epochs is None:
            reason += "; published training length unknown"
            if ours.seconds is not None and ours.seconds < _A_DAY:
                judgement = "under-trained"
                reason += f", ours {ours.seconds / 60:.2g} min"
        elif ours.epochs is not None and published.epochs and ours.epochs < published.epochs * (1 - 1e-6):
            judgement = "under-trained"
            reason += f"; {ours.epochs:g} epochs against {published.epochs:g}"
    unverified = "" if published.verified else "; the published figure is unverified"
    return Verdict(judgement, f"{ours.value:.4g} against {published.value:g}: {reason}{unverified}")


def _difference(ours: MeasuredFigure, published: PublishedFigure) -> str | None:
    if published.split is None and published.metric != "inception-score":
        return "the source does not say which split"
    for name in ("model", "dataset", "metric", "split", "kind"):
        mine, theirs = getattr(ours, name), getattr(published, name)
        if theirs is not None and mine != theirs:
            return f"{name}: ours is {mine}, the published one {theirs}"
    stated = ours.hyperparameters or {}
    for name, value in published.hyperparameters.items():
        if name not in stated:
            return f"hyperparameter {name}: ours does not state it, the published one is {value}"
        if (mine := _plain(stated[name])) != (theirs := _plain(value)):
            return f"hyperparameter {name}: ours is {mine}, the published one {theirs}"
    return None


def _plain(value: Any) -> Any:
    """Tuples and lists are one: TOML has lists."""
    return [_plain(item) for item in value] if isinstance(value, list | tuple) else value
