"""Measurement: how fast one sampler of one model was at one size and batch size; a line of ``measurements.jsonl``."""

import itertools
import json
from collections.abc import Iterable
from pathlib import Path
from statistics import median
from typing import Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, ValidationError

from harness.support.files import write_atomically
from harness.support.names import what_is_wrong
from harness.support.numbers import ten_digits

MEASUREMENTS_FILE = "measurements.jsonl"
VERSION = 1
RASTER = "raster"  # the sampler that makes one full pass for each generation step


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
