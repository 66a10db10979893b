"""What is to be done, as values: the sample space, a training budget, one run."""

import math
import os.path
import re
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

Precision = Literal["float32", "bfloat16", "float64"]
ScoreKind = Literal["exact", "upper bound", "lower bound", "estimate"]
"""What a figure is of the quantity that its metric names."""

_BUDGET = re.compile(r"\s*(\d+(?:\.\d+)?)\s*(epoch|step|minute)s?\s*")
_MOST = 2**26  # entries of an image: a few of that size are gigabytes already


@dataclass(frozen=True)
class ImageSpec:
    """The sample space {0, ..., levels-1}^(channels, height, width); one channel is grey, at most 256 levels 8-bit."""

    channels: int
    height: int
    width: int
    levels: int
    num_classes: int | None = None  # that the labels name; None without labels

    def __post_init__(self) -> None:
        for name in ("channels", "height", "width"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, not {getattr(self, name)}")
        if self.num_dimensions > _MOST:
            size = f"{self.height} x {self.width} pixels of {self.channels} channels"
            raise ValueError(f"an image of {size} has {self.num_dimensions:,} entries; at most {_MOST:,} are possible")
        if not 2 <= self.levels <= 256:
            raise ValueError(f"levels must be from 2 to 256, not {self.levels}")

    @property
    def shape(self) -> tuple[int, int, int]:
        """(C, H, W)."""
        return (self.channels, self.height, self.width)

    @property
    def num_dimensions(self) -> int:
        """D = C * H * W."""
        return self.channels * self.height * self.width


@dataclass(frozen=True)
class Budget:
    """How much training: epochs, steps (one batch each) or minutes. Minutes become steps once, by a calibration."""

    amount: float
    unit: Literal["epochs", "steps", "minutes"]

    @classmethod
    def parse(cls, text: str) -> Self:
        """Reads ``"20 epochs"``, ``"10000 steps"`` or ``"60 minutes"``; anything else is a ValueError."""
        found = _BUDGET.fullmatch(text) if isinstance(text, str) else None
        if found is None:
            raise ValueError(f"budget {text!r} is not of the form '20 epochs', '10000 steps' or '60 minutes'")
        amount, unit = float(found[1]), found[2] + "s"
        if not 0 < amount < math.inf:
            raise ValueError(f"budget {text[:40]!r} must be positive, and a number that there is")
        if unit == "steps" and amount != int(amount):
            raise ValueError(f"budget {text!r} is not a whole number of steps")
        return cls(amount, unit)  # type: ignore[arg-type]

    def __str__(self) -> str:
        return f"{Decimal(repr(self.amount)).normalize():f} {self.unit}"

    def num_steps(self, steps_an_epoch: int) -> int:
        """Returns the number of steps for a loop of so many batches in each epoch; for minutes, a ValueError."""
        if self.unit == "minutes":
            raise ValueError("a budget in minutes has to be calibrated into steps first")
        steps = self.amount if self.unit == "steps" else self.amount * steps_an_epoch
        return max(1, math.ceil(steps - 1e-9))


def _is_relative(name: str) -> str:
    if os.path.isabs(name):  # noqa: PTH117 - a path object for each record takes longer than the rest of it
        raise ValueError("a record names no absolute path: write it relative to the suite, or to the working folder")
    return name


ARGUMENTS = r"((?: [a-z]+=[^ /\\]+)*)"
_PLACE = re.compile(rf"([a-z0-9-]+):(.+?){ARGUMENTS}(?: as ([^/\\]+?))?{ARGUMENTS}")


def place_of(dataset: str) -> tuple[str, str, str, str] | None:
    """Returns kind, absolute path, arguments and name of data that a suite names by where they are; None for others.

    Such data are known by their content: the path stands in no key and no record. Their name is what follows `` as ``,
    else the path's last part, with the arguments, such as `` resize=64``, that follow the path or the name.

    >>> place_of("images:/data/photos/ resize=8"), place_of("images:/x.npz as faces"), place_of("mnist")
    (('images', '/data/photos', ' resize=8', 'photos resize=8'), ('images', '/x.npz', '', 'faces'), None)
    """
    if (found := _PLACE.fullmatch(dataset)) is None:
        return None
    path = Path(os.path.abspath(os.path.expanduser(found[2])))  # noqa: PTH100, PTH111 - no link is followed
    name, arguments = found[4] or path.name.replace(" as ", "-as-") or "root", found[3] + found[5]
    return found[1], str(path), arguments, name + arguments


def known_as(dataset: str) -> str:
    """Returns what records and boards call a dataset, or samples: ``images:photos`` of ``images:/data/photos``."""
    return dataset if (place := place_of(dataset)) is None else f"{place[0]}:{place[3]}"


CodeName = Annotated[str, AfterValidator(_is_relative)]  # a registered name, or where the code is: ``my_model.py:KDE``
BudgetText = Annotated[
    str,
    AfterValidator(lambda text: str(Budget.parse(text))),
    Field(json_schema_extra={"pattern": f"^{_BUDGET.pattern}$", "examples": ["20 epochs", "5000 steps", "2 minutes"]}),
]
"""A budget as a user writes it."""


class RunSpec(BaseModel):
    """One run: a model with its hyperparameters, a dataset, a budget, a seed, and what to measure.

    ``model`` and ``dataset`` are registered names, or say where their code is: ``my_model.py:KDE``, relative to the
    suite or, without one, to the working folder, as is ``samples:PATH``, images that somebody else made. Data may be
    named by where they are, ``images:PATH``, relative to the working folder or the data folder; ``images:PATH as NAME``
    gives a name.
    ``hyperparameters`` holds only what differs from the model's defaults; ``budget`` None takes the model's own.
    ``checkpoint`` is the path of a safetensors file: its weights are scored, and nothing is trained. A record has the
    digest of the file in its place.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    model: CodeName
    dataset: CodeName
    metrics: tuple[str, ...] = ()
    hyperparameters: dict[str, Any] = Field(default_factory=dict)
    budget: BudgetText | None = None
    seed: int = Field(default=0, ge=0, lt=2**31)
    precision: Precision = "float32"
    threads: int = Field(default=1, ge=1)
    device: str = "auto"
    checkpoint: str | None = None
