"""From measurements to tables: one set for each machine, with laws of growth and the comparison with a baseline.

A power law cost = c pixels^b is a line in the logarithms, fitted by least squares; its exponent's interval is that of
the slope of a regression line, b +/- t(0.975, n - 2) s / sqrt(sum (x - mean x)^2) (Student's t). One that says nothing
is left out: see ``LEAST_SIZES`` and ``WIDEST``.
"""

import math
import operator
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, Self

import numpy as np
import numpy.typing as npt
from scipy import stats

from harness.profiling.profile import RASTER, Measurement
from harness.support.numbers import fixed, short, ten_digits

CACHED = "cached"
SMALLEST_SIZE = 16
LEAST_SIZES, WIDEST = 3, 1.0  # a law stands on so many sizes, and its exponent's interval is narrower than that
_DECIMALS = 9  # of what is fitted: an exponent of 1 has ten digits then, and what is zero but for rounding is zero
_Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class PowerLaw:
    """cost = c pixels^exponent, its 95 % interval, and the root mean square of log cost - log fit."""

    exponent: float
    exponent_low: float
    exponent_high: float
    power_error: float

    def __str__(self) -> str:
        return f"{fixed(self.exponent, 2)} [{fixed(self.exponent_low, 2)}, {fixed(self.exponent_high, 2)}]"


@dataclass(frozen=True)
class Growth(PowerLaw):
    """Beside it, cost = intercept + slope log2(pixels); and which is nearer, None where both are."""

    intercept: float
    slope_per_doubling: float
    logarithmic_error: float
    nearer: Literal["power", "logarithmic"] | None

    def __str__(self) -> str:
        sign, power = "-" if self.intercept < 0 else "+", f"pixels^{super().__str__()}"
        logarithm = f"{short(self.slope_per_doubling)} log2(pixels) {sign} {short(abs(self.intercept))}"
        if self.nearer is None:
            return f"{power} or {logarithm}"
        text, error = (power, self.power_error) if self.nearer == "power" else (logarithm, self.logarithmic_error)
        return f"{text}, within {100 * error:.2g} %"


@dataclass(frozen=True)
class Scaling:
    """How one sampler of a row grows with the pixels, at one batch size: seconds, if that is known, and depth."""

    label: str
    sampler: str
    batch_size: int
    sizes: tuple[int, ...]
    seconds: PowerLaw | None
    depth: Growth | None


@dataclass(frozen=True)
class Ratio:
    """How many times as fast, round by round: the median and the quartiles over rounds, which are interleaved."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, item: Measurement, other: Measurement) -> Self:
        """Returns the speed of one over that of another."""
        rounds = [theirs / ours for ours, theirs in zip(item.seconds, other.seconds, strict=False)]
        low, median, high = (ten_digits(value) for value in np.quantile(rounds, [0.25, 0.5, 0.75]))
        return cls(median, low, high)


@dataclass(frozen=True)
class Advantage:
    """A measurement of another model than the baseline, and what it stands beside at its size and batch size.

    ``fastest`` is the fastest certified sampler of all other models, of those that are as trained if there are any: the
    headline. ``cached`` is the baseline's, which computes each activation once, or its default where it has none of
    that name; ``naive`` makes a full pass for each step: over it also counts what caching alone gives.
    """

    measurement: Measurement
    fastest: Measurement | None
    cached: Measurement | None
    naive: Measurement | None

    def over(self, other: Measurement | None) -> Ratio | None:
        """Returns how many times as fast it is."""
        return None if other is None else Ratio.of(self.measurement, other)


@dataclass(frozen=True)
class MachineTables:
    """All that was measured on one machine, in order, and what it gives; ``baseline`` is a label, if one was named."""

    fingerprint: str
    hardware: str
    measurements: tuple[Measurement, ...]
    scalings: tuple[Scaling, ...]
    advantages: tuple[Advantage, ...]
    baseline: str | None

    def scaling_of(self, item: Measurement) -> Scaling | None:
        """Returns the scaling that a measurement is a point of."""
        series = (item.label, item.sampler, item.batch_size)
        return next((one for one in self.scalings if (one.label, one.sampler, one.batch_size) == series), None)

    def latency_of(self, item: Measurement) -> float | None:
        """Returns the seconds until a single image is drawn: those of the same sampler and size at batch size 1."""
        single = [other for other in self.measurements if other.shown and other.batch_size == 1]
        same = operator.attrgetter("label", "sampler", "height", "width")
        return next((other.median_seconds for other in single if same(other) == same(item)), None)


def tables_of(
    measurements: Sequence[Measurement], *, labels: Sequence[str] = (), baseline: str | None = None
) -> list[MachineTables]:
    """Makes the tables of each machine, of ``labels`` alone if any; ``baseline`` is a label or a model's name."""
    order = {label: number for number, label in enumerate(labels)}

    def place(item: Measurement) -> tuple[Any, ...]:
        return (item.pixels, item.batch_size, order.get(item.label, 0), item.label, not item.default, item.sampler)

    machines: dict[str, list[Measurement]] = {}
    for item in sorted(measurements, key=place):
        if not order or item.label in order:
            machines.setdefault(item.fingerprint, []).append(item)
    found = []
    for own in sorted(machines.values(), key=lambda own: (own[0].hardware, own[0].fingerprint)):
        named = next((item.label for item in own if baseline in (item.label, item.model)), None)
        advantages = () if baseline is None else tuple(_advantages([item for item in own if item.shown], baseline))
        machine, scalings = (own[0].fingerprint, own[0].hardware), tuple(_scalings(own))
        found.append(MachineTables(*machine, tuple(own), scalings, advantages, named))
    return found


def _scalings(measurements: Sequence[Measurement]) -> Iterator[Scaling]:
    series: dict[tuple[str, str, int, int, int], list[Measurement]] = {}
    for item in measurements:
        if item.shown and item.height == item.width >= SMALLEST_SIZE:
            key = (item.label, item.sampler, item.batch_size, item.channels, item.levels)
            series.setdefault(key, []).append(item)
    for (label, sampler, batch_size, *_), points in series.items():
        pixels = [float(item.pixels) for item in points]
        law = fit_power_law(pixels, [item.median_seconds for item in points])
        known = law if law is not None and law.exponent_high - law.exponent_low < WIDEST else None
        depths = [item.sequential_depth for item in points if item.sequential_depth is not None]
        depth = fit_growth(pixels, depths) if len(depths) == len(points) else None
        if known is not None or depth is not None:
            yield Scaling(label, sampler, batch_size, tuple(item.height for item in points), known, depth)


def _advantages(shown: Sequence[Measurement], baseline: str) -> Iterator[Advantage]:
    rows = [item for item in shown if baseline in (item.label, item.model)]
    for item in shown:
        if item.model in {row.model for row in rows} or (item.sampler == RASTER and not item.default):
            continue
        # of several rows of the baseline, the one that is as trained as this one
        same = [row for row in rows if row.setting == item.setting]
        beside = sorted(same, key=lambda row: row.weights != item.weights)
        if beside:
            own = {row.sampler: row for row in reversed(beside) if row.label == beside[0].label}
            default = next((row for row in own.values() if row.default and row.sampler != RASTER), None)
            yield Advantage(item, fastest_other(item, shown), own.get(CACHED, default), own.get(RASTER))


def fastest_other(item: Measurement, measurements: Sequence[Measurement]) -> Measurement | None:
    """Returns the fastest certified sampler of another model, at the same size and batch size."""
    others = [it for it in measurements if it.is_exact and it.setting == item.setting and it.model != item.model]
    alike = [it for it in others if it.weights == item.weights] or others
    return min(alike, key=lambda other: other.median_seconds, default=None)


def fit_power_law(pixels: Sequence[float], costs: Sequence[float]) -> PowerLaw | None:
    """Fits a power law; None below ``LEAST_SIZES`` numbers of pixels; ValueError for what is not positive."""
    if min(*pixels, *costs) <= 0:
        raise ValueError("a law of growth is fitted to positive numbers alone")
    x, y = np.log(pixels), np.log(costs)
    if len(set(x.tolist())) < LEAST_SIZES:
        return None
    slope, intercept = np.polyfit(x, y, 1).tolist()
    residuals, freedom = y - intercept - slope * x, len(x) - 2
    deviation = math.sqrt(float(residuals @ residuals) / freedom / float(np.square(x - x.mean()).sum()))
    reach = float(stats.t.ppf(0.975, freedom)) * deviation
    return PowerLaw(_rounded(slope), _rounded(slope - reach), _rounded(slope + reach), _root_mean_square(residuals))


def fit_growth(pixels: Sequence[float], costs: Sequence[float]) -> Growth | None:
    """Fits a power law and a logarithm; None below ``LEAST_SIZES`` numbers of pixels."""
    power = fit_power_law(pixels, costs)
    if power is None:
        return None
    x, y = np.log2(pixels), np.asarray(costs)
    slope, intercept = np.polyfit(x, y, 1).tolist()
    fitted = intercept + slope * x
    error = _root_mean_square(np.log(y) - np.log(fitted)) if (fitted > 0).all() else math.inf
    nearer: Literal["power", "logarithmic"] | None = "logarithmic" if error < power.power_error else "power"
    logarithm = {"intercept": _rounded(intercept), "slope_per_doubling": _rounded(slope), "logarithmic_error": error}
    return Growth(**asdict(power), **logarithm, nearer=None if error == power.power_error else nearer)


def _rounded(value: float) -> float:
    return ten_digits(round(value, _DECIMALS))


def _root_mean_square(values: _Floats) -> float:
    return _rounded(math.sqrt(float(np.square(values).mean())))
