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
    """A measurement beside those of the baseline at the same size and batch size.

    Attributes:
        measurement: of another model than the baseline.
        cached, naive: the baseline's sampler that computes each activation once, and its full pass for each step.
        sampler: the name of the former: ``cached``, or the baseline's default where it has none of that name.
    """

    measurement: Measurement
    cached: Measurement | None
    naive: Measurement | None

    @property
    def over_cached(self) -> float | None:
        """The baseline's seconds, cached, over the measurement's: the headline."""
        return self._over(self.cached)

    @property
    def over_naive(self) -> float | None:
        """The baseline's seconds, naive, over the measurement's."""
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

    def scaling_of(self, measurement: Measurement) -> Scaling | None:
        """Returns the scaling that a measurement is a point of."""
        for scaling in self.scalings:
            if (scaling.label, scaling.sampler, scaling.batch_size) == _series(measurement):
                return scaling
        return None

    def latency_of(self, measurement: Measurement) -> float | None:
        """Returns the seconds until a single image is drawn: those of the same sampler and size at batch size 1."""
        for other in self.measurements:
            same = (other.label, other.sampler, other.height, other.width, other.batch_size) == (
                measurement.label, measurement.sampler, measurement.height, measurement.width, 1,
            )  # fmt: skip
            if same and other.shown:
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
    taken = [item for item in measurements if not order or item.label in order]
    machines: dict[str, list[Measurement]] = {}
    for item in taken:
        machines.setdefault(item.fingerprint, []).append(item)

    def place(item: Measurement) -> tuple[Any, ...]:
        return (item.pixels, item.batch_size, order.get(item.label, 0), item.label, not item.default, item.sampler)

    found = []
    for fingerprint in sorted(machines, key=lambda name: (machines[name][0].hardware, name)):
        own = sorted(machines[fingerprint], key=place)
        named = next((item.label for item in own if baseline in (item.label, item.model)), None)
        scalings = tuple(_scalings(own))
        advantages = tuple(_advantages(own, baseline))
        found.append(MachineTables(fingerprint, own[0].hardware, tuple(own), scalings, advantages, named))
    return found


def _series(item: Measurement) -> tuple[str, str, int]:
    return item.label, item.sampler, item.batch_size


def _scalings(measurements: Sequence[Measurement]) -> list[Scaling]:
    series: dict[tuple[str, str, int, int, int], list[Measurement]] = {}
    for item in measurements:
        if item.shown and min(item.height, item.width) >= SMALLEST_SIZE and item.height == item.width:
            series.setdefault((*_series(item), item.channels, item.levels), []).append(item)
    found = []
    for (label, sampler, batch_size, *_), points in series.items():
        pixels = [float(item.pixels) for item in points]
        law = fit_power_law(pixels, [item.median_seconds for item in points])
        if law is None:
            continue
        depths = [item.sequential_depth for item in points if item.sequential_depth is not None]
        depth = fit_growth(pixels, depths) if len(depths) == len(points) else None
        found.append(Scaling(label, sampler, batch_size, tuple(item.height for item in points), law, depth))
    return found


def _advantages(measurements: Sequence[Measurement], baseline: str | None) -> list[Advantage]:
    if baseline is None:
        return []
    shown = [item for item in measurements if item.shown]
    models = {item.model for item in shown if baseline in (item.label, item.model)}
    found = []
    for item in shown:
        if item.model in models or (item.sampler == RASTER and not item.default):
            continue
        beside = [
            other for other in shown if baseline in (other.label, other.model) and _setting(other) == _setting(item)
        ]
        # of several rows of the baseline, the one that is as trained as this one
        beside.sort(key=lambda other: other.weights != item.weights)
        if not beside:
            continue
        own = [other for other in beside if other.label == beside[0].label]
        fast = [other for other in own if other.sampler == CACHED] or [
            other for other in own if other.default and other.sampler != RASTER
        ]
        naive = [other for other in own if other.sampler == RASTER]
        found.append(Advantage(item, next(iter(fast), None), next(iter(naive), None)))
    return found


def _setting(item: Measurement) -> tuple[int, ...]:
    return (item.channels, item.height, item.width, item.levels, item.batch_size)
