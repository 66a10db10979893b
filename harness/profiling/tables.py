"""From measurements to tables: one set for each machine, with laws of growth and the comparison with a baseline."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from harness.profiling.measurement import RASTER, Measurement
from harness.profiling.scaling import SMALLEST_SIZE, Growth, PowerLaw, fit_growth, fit_power_law
from harness.support.numbers import ten_digits

CACHED = "cached"


@dataclass(frozen=True)
class Scaling:
    """How one sampler of a row grows with the pixels, at one batch size: its seconds, and its sequential depth."""

    label: str
    sampler: str
    batch_size: int
    sizes: tuple[int, ...]
    seconds: PowerLaw
    depth: Growth | None


@dataclass(frozen=True)
class Advantage:
    """A measurement of another model beside those of the baseline at the same size and batch size.

    ``cached`` is the baseline's sampler that computes each activation once, or its default where it has none of that
    name; ``naive`` its full pass for each step. ``over_`` them is their seconds over the measurement's.
    """

    measurement: Measurement
    cached: Measurement | None
    naive: Measurement | None

    @property
    def over_cached(self) -> float | None:
        """The headline."""
        return self._over(self.cached)

    @property
    def over_naive(self) -> float | None:
        """What caching alone gives is in it."""
        return self._over(self.naive)

    def _over(self, other: Measurement | None) -> float | None:
        return None if other is None else ten_digits(other.median_seconds / self.measurement.median_seconds)


@dataclass(frozen=True)
class MachineTables:
    """All that was measured on one machine.

    Attributes:
        fingerprint, hardware: the machine.
        measurements: in order.
        scalings: of what was measured at two sizes or more.
        advantages: of the other models over the baseline.
        baseline: its label; None where none was named.
    """

    fingerprint: str
    hardware: str
    measurements: tuple[Measurement, ...]
    scalings: tuple[Scaling, ...]
    advantages: tuple[Advantage, ...]
    baseline: str | None

    def scaling_of(self, item: Measurement) -> Scaling | None:
        """Returns the scaling that a measurement is a point of."""
        series = (item.label, item.sampler, item.batch_size)
        return next(
            (found for found in self.scalings if (found.label, found.sampler, found.batch_size) == series), None
        )

    def latency_of(self, item: Measurement) -> float | None:
        """Returns the seconds until a single image is drawn: those of the same sampler and size at batch size 1."""
        wanted = (item.label, item.sampler, item.height, item.width, 1)
        for other in self.measurements:
            if other.shown and (other.label, other.sampler, other.height, other.width, other.batch_size) == wanted:
                return other.median_seconds
        return None


def tables_of(
    measurements: Sequence[Measurement], *, labels: Sequence[str] = (), baseline: str | None = None
) -> list[MachineTables]:
    """Parts measurements by machine, and makes the tables of each; figures of two machines never meet.

    Args:
        measurements: of any machines.
        labels: the order of the rows, and the only ones that are taken; all of them where it is empty.
        baseline: a label, or a model's name.
    """
    order = {label: number for number, label in enumerate(labels)}

    def place(item: Measurement) -> tuple[Any, ...]:
        return (item.pixels, item.batch_size, order.get(item.label, 0), item.label, not item.default, item.sampler)

    machines: dict[str, list[Measurement]] = {}
    for item in measurements:
        if not order or item.label in order:
            machines.setdefault(item.fingerprint, []).append(item)
    found = []
    for fingerprint in sorted(machines, key=lambda name: (machines[name][0].hardware, name)):
        own = sorted(machines[fingerprint], key=place)
        named = next((item.label for item in own if baseline in (item.label, item.model)), None)
        advantages = () if baseline is None else tuple(_advantages([item for item in own if item.shown], baseline))
        found.append(MachineTables(fingerprint, own[0].hardware, tuple(own), tuple(_scalings(own)), advantages, named))
    return found


def _scalings(measurements: Sequence[Measurement]) -> list[Scaling]:
    series: dict[tuple[str, str, int, int, int], list[Measurement]] = {}
    for item in measurements:
        if item.shown and item.height == item.width >= SMALLEST_SIZE:
            key = (item.label, item.sampler, item.batch_size, item.channels, item.levels)
            series.setdefault(key, []).append(item)
    found = []
    for (label, sampler, batch_size, *_), points in series.items():
        pixels = [float(item.pixels) for item in points]
        law = fit_power_law(pixels, [item.median_seconds for item in points])
        if law is not None:
            depths = [item.sequential_depth for item in points if item.sequential_depth is not None]
            depth = fit_growth(pixels, depths) if len(depths) == len(points) else None
            found.append(Scaling(label, sampler, batch_size, tuple(item.height for item in points), law, depth))
    return found


def _advantages(shown: Sequence[Measurement], baseline: str) -> list[Advantage]:
    rows = [item for item in shown if baseline in (item.label, item.model)]
    found = []
    for item in shown:
        if item.model in {row.model for row in rows} or (item.sampler == RASTER and not item.default):
            continue
        # of several rows of the baseline, the one that is as trained as this one
        beside = sorted(
            (row for row in rows if row.setting == item.setting), key=lambda row: row.weights != item.weights
        )
        if beside:
            own = {row.sampler: row for row in reversed(beside) if row.label == beside[0].label}
            default = next((row for row in own.values() if row.default and row.sampler != RASTER), None)
            found.append(Advantage(item, own.get(CACHED, default), own.get(RASTER)))
    return found
