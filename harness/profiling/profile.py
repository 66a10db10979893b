"""A profile of generation speed as values: what is to be measured, read from TOML; and measurements, lines of JSON."""

import itertools
import json
from collections.abc import Iterable
from pathlib import Path
from statistics import median
from typing import Annotated, Any, Literal, Self

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, ValidationError, model_validator

from harness.suites.toml import read_toml
from harness.support.files import write_atomically
from harness.support.names import what_is_wrong
from harness.support.numbers import ten_digits

MEASUREMENTS_FILE = "measurements.jsonl"
VERSION = 1
RASTER = "raster"  # the sampler that makes one full pass for each generation step
PositiveInt = Annotated[int, Field(strict=True, ge=1)]


class ProfileError(ValueError):
    """A profile that cannot be used; the message names the file, the key and what would be right."""


class ProfiledRow(BaseModel):
    """One ``[[models]]`` table."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    name: str | None = None
    """The model's registered name; of a trained model, what its run says."""
    label: str | None = None
    """The row's name in tables and plots; by default made from name and hyperparameters, or the run's name."""
    hyperparameters: dict[str, Any] = Field(default_factory=dict)
    """What differs from the model's defaults."""
    run: str | None = None
    """A finished run's name or its beginning: its weights, at its size."""
    samplers: tuple[str, ...] | None = None
    """The model's samplers that are timed; those of the profile by default."""
    sizes: tuple[PositiveInt, ...] | None = None
    """Heights of square images; those of the profile by default."""

    @model_validator(mode="after")
    def _names_one_model(self) -> Self:
        if self.name is None and self.run is None:
            raise ValueError("name a model by 'name', or a trained one by 'run'")
        if self.run is not None and (self.hyperparameters or self.sizes):
            raise ValueError("a run has hyperparameters and a size of its own")
        return self

    @property
    def row_label(self) -> str:
        """The row's name."""
        if self.label is not None or self.name is None:
            return self.label or str(self.run)
        shown = [f"{key}={value}" for key, value in sorted(self.hyperparameters.items())]
        shown += [f"run {self.run}"] if self.run else []
        return f"{self.name} ({', '.join(shown)})" if shown else self.name


class GenerationProfile(BaseModel):
    """What ``harness profile generation`` measures."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    profile: Literal["generation"] = "generation"
    """``generation``: this file is a profile, and no suite of trainings."""
    title: str = "Generation speed"
    """What the tables are headed by."""
    models: tuple[ProfiledRow, ...] = Field(min_length=1)
    """What is timed."""
    sizes: tuple[PositiveInt, ...] = (8, 16, 32)
    """Heights of square images, for models that are not trained."""
    batch_sizes: tuple[PositiveInt, ...] = (1, 16)
    """How many images are drawn at a time."""
    samplers: tuple[str, ...] | None = None
    """The samplers that are timed, by their names; by default all that a model has."""
    baseline: str | None = None
    """A label or a model's name, which the others are compared with."""
    channels: PositiveInt = 1
    """Channels of the images."""
    levels: int = Field(default=2, strict=True, ge=2, le=256)
    """Values that an entry of an image can take."""
    rounds: PositiveInt = 5
    """How often each sampler is timed, all of one size and batch size in turn."""
    threads: PositiveInt = 1
    """Processor threads."""
    device: str = "auto"
    """``cpu``, ``cuda`` or another of torch's names, or ``auto``."""
    budget_seconds: float = Field(default=30.0, strict=True, gt=0, allow_inf_nan=False)
    """How long one sampler may take at one size and batch size, rounds together."""
    seed: int = Field(default=0, strict=True, ge=0, lt=2**31)
    """Seed of weights that are not trained, and of the noise."""

    @model_validator(mode="after")
    def _labels_differ(self) -> Self:
        labels = [row.row_label for row in self.models]
        if twice := [label for label in labels if labels.count(label) > 1]:
            raise ValueError(f"two models are labelled {twice[0]!r}; give one of them a label of its own")
        for name in ("sizes", "batch_sizes", "samplers"):
            values = getattr(self, name)
            if values is not None and (not values or len(set(values)) < len(values)):
                raise ValueError(f"{name} = {list(values)} must name at least one, and none of them twice")
        if self.baseline not in {None, *labels, *(row.name for row in self.models)}:
            raise ValueError(f"baseline {self.baseline!r} is none of the models: {', '.join(labels)}")
        return self

    @classmethod
    def read(cls, path: Path) -> Self:
        """Reads a profile from a TOML file; ProfileError for a missing or malformed one, or a suite of trainings."""
        content = read_toml(path, "profile", ProfileError)
        if "profile" not in content:
            raise ProfileError(f"{path}: a profile begins with: profile = 'generation'")
        return cls.make(content, source=str(path))

    @classmethod
    def make(cls, content: dict[str, Any], *, source: str) -> Self:
        """Makes a profile from plain values; ``source`` stands in the messages of a ProfileError."""
        try:
            return cls.model_validate(content)
        except ValidationError as error:
            first = error.errors()[0]
            known = ProfiledRow if "models" in first["loc"] else cls
            raise ProfileError(f"{source}: {what_is_wrong(first, known.model_fields)}") from error


class CertificateCounts(BaseModel):
    """The certificate of all images that were timed; see ``harness.profiling.Certificate``."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    status: Literal["holds", "fails", "by definition", "does not apply"]
    entries: int = 0
    mismatches: int = 0
    within_rounding: int = 0


class Measurement(BaseModel):
    """One sampler of one model at one size and batch size.

    ``cell`` is the digest of what was asked for, the machine included: of two measurements of one the later counts.
    ``key`` is that of the cell, the model's code and how it was measured. ``complete`` is False after an interruption.

    ``seconds`` are of one call, a value for each round, in which ``calls`` were timed together; not ``warmed_up``, the
    first call took so long that it is the measurement. Of a raster that was not drawn to its end,
    ``extrapolated_from`` passes of ``full_passes`` were timed, and ``seconds`` are for all of them. ``forward_`` are of
    a pass of ``conditional_logits`` on as many images; ``network_evaluations`` and ``sequential_depth`` of one call, on
    average. ``peak_memory_bytes`` are the model's own and what a call allocates, ``memory_cut_off`` if it was not
    watched to its end. ``others_load`` is the share of the processors that other processes used in the rounds. Figures
    of two fingerprints do not compare.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    version: int = VERSION
    cell: str
    key: str
    label: str
    model: str
    hyperparameters: dict[str, Any] = Field(default_factory=dict)
    weights: Literal["initial", "trained"] = "initial"
    run: str | None = None
    channels: int
    height: int
    width: int
    levels: int
    batch_size: int
    sampler: str
    default: bool = False
    status: Literal["done", "skipped", "failed", "failed certificate"] = "done"
    reason: str = ""
    complete: bool = True
    seconds: tuple[FiniteFloat, ...] = ()
    calls: int = 1
    warmed_up: bool = True
    extrapolated_from: int | None = None
    full_passes: int | None = None
    forward_seconds: tuple[FiniteFloat, ...] = ()
    forward_flops: int | None = None
    gemm_flops_per_second: FiniteFloat | None = None
    network_evaluations: FiniteFloat | None = None
    sequential_depth: FiniteFloat | None = None
    peak_memory_bytes: int | None = None
    memory_cut_off: bool = False
    others_load: FiniteFloat | None = None
    certificate: CertificateCounts | None = None
    bits_per_dim: FiniteFloat | None = None
    likelihood_kind: str | None = None
    precision: str = "float32"
    fingerprint: str
    hardware: str
    environment: dict[str, Any] = Field(default_factory=dict)
    created: str = ""

    @property
    def shown(self) -> bool:
        """Whether there is a figure: it was measured, and its certificate does not fail."""
        certified = self.certificate is not None and self.certificate.status != "fails"
        return self.status == "done" and bool(self.seconds) and certified

    @property
    def is_exact(self) -> bool:
        """Whether its images are confirmed, or it is the naive raster, which defines them."""
        return self.shown and self.certificate is not None and self.certificate.status != "does not apply"

    @property
    def pixels(self) -> int:
        """Height times width; channels are not counted."""
        return self.height * self.width

    @property
    def size(self) -> str:
        """Height and width, for people."""
        return f"{self.height}x{self.width}"

    @property
    def setting(self) -> tuple[int, ...]:
        """What two samplers share to be compared."""
        return (self.channels, self.height, self.width, self.levels, self.batch_size)

    @property
    def median_seconds(self) -> float:
        """Of one call, over rounds, in ten significant digits."""
        return ten_digits(median(self.seconds))

    @property
    def quartiles_seconds(self) -> tuple[float, float]:
        """The quartiles over rounds."""
        low, high = np.quantile(self.seconds, [0.25, 0.75])
        return ten_digits(low), ten_digits(high)


def read_measurements(path: Path) -> list[Measurement]:
    """Reads measurements, of each cell the last; a last line that was cut off is left out, another is a ValueError."""
    if not path.exists():
        return []
    found: dict[str, Measurement] = {}
    lines = path.read_text(encoding="utf-8").split("\n")
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            measurement = Measurement.model_validate_json(line)
        except ValidationError as error:
            if number == len(lines):  # no line feed follows
                break
            raise ValueError(f"{path}, line {number}: not a measurement: {what_is_wrong(error.errors()[0])}") from error
        if measurement.version > VERSION:
            raise ValueError(f"{path}, line {number}: written by a newer version ({measurement.version})")
        found[measurement.cell] = measurement
    return list(found.values())


def append_measurement(path: Path, measurement: Measurement) -> None:
    """Adds a line to a file of measurements; a last line that was cut off before is dropped."""
    path.parent.mkdir(parents=True, exist_ok=True)
    content = path.read_bytes() if path.exists() else b""
    if not content.endswith(b"\n") and content:
        write_atomically(path, content[: content.rfind(b"\n") + 1])
    with path.open("ab") as file:
        file.write(_line(measurement))


def write_measurements(path: Path, measurements: Iterable[Measurement]) -> None:
    """Writes a file anew, one line for each measurement."""
    write_atomically(path, b"".join(map(_line, measurements)))


def merge_measurements(files: Iterable[Iterable[Measurement]]) -> list[Measurement]:
    """Joins files, of several machines too: cells differ by machine, and of one cell the latest measurement counts."""
    found: dict[str, Measurement] = {}
    for item in itertools.chain.from_iterable(files):
        if item.cell not in found or found[item.cell].created <= item.created:
            found[item.cell] = item
    return list(found.values())


def _line(measurement: Measurement) -> bytes:
    content = measurement.model_dump(mode="json", exclude_defaults=True)
    return (json.dumps({"version": VERSION, **content}, sort_keys=True, ensure_ascii=False) + "\n").encode()
