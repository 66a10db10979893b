"""How a cost grows with the number of pixels: a power law by least squares on logarithms, or a logarithm.

A power law cost = c pixels^b is a line in the logarithms; its exponent's interval is that of the slope of a regression
line, b +/- t(0.975, n - 2) s / sqrt(sum (x - mean x)^2) (Student's t).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
from scipy import stats

from harness.support.numbers import ten_digits

SMALLEST_SIZE = 16
CONFIDENCE = 0.95
_DECIMALS = 9  # of what is fitted: an exponent of 1 has ten digits then, and what is zero but for rounding is zero
_Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class PowerLaw:
    """cost = c pixels^exponent, with the exponent's 95 % interval, which two sizes do not give.

    ``relative_error`` is the root mean square of log cost - log fit.
    """

    exponent: float
    low: float | None
    high: float | None
    relative_error: float


@dataclass(frozen=True)
class LogarithmicLaw:
    """cost = intercept + slope log2(pixels); ``relative_error`` is the root mean square of log cost - log fit."""

    intercept: float
    slope: float
    relative_error: float


@dataclass(frozen=True)
class Growth:
    """Both laws of one cost, and which of them is nearer; None where there are too few sizes to tell."""

    power: PowerLaw
    logarithmic: LogarithmicLaw
    nearer: Literal["power", "logarithmic"] | None


def fit_power_law(pixels: Sequence[float], costs: Sequence[float]) -> PowerLaw | None:
    """Fits a power law; None below two different numbers of pixels; ValueError for what is not positive."""
    x, y = (np.log(values) for values in _checked(pixels, costs))
    if len(set(x.tolist())) < 2:
        return None
    slope, intercept = _line(x, y)
    residuals = y - intercept - slope * x
    low = high = None
    freedom = len(x) - 2
    if freedom > 0:
        deviation = math.sqrt(float(residuals @ residuals) / freedom / float(np.square(x - x.mean()).sum()))
        reach = float(stats.t.ppf((1 + CONFIDENCE) / 2, freedom)) * deviation
        low, high = _rounded(slope - reach), _rounded(slope + reach)
    return PowerLaw(_rounded(slope), low, high, _root_mean_square(residuals))


def fit_growth(pixels: Sequence[float], costs: Sequence[float]) -> Growth | None:
    """Fits a power law and a logarithm; None below two different numbers of pixels."""
    power = fit_power_law(pixels, costs)
    if power is None:
        return None
    x, y = _checked(pixels, costs)
    slope, intercept = _line(np.log2(x), y)
    fitted = intercept + slope * np.log2(x)
    error = _root_mean_square(np.log(y) - np.log(fitted)) if (fitted > 0).all() else math.inf
    logarithmic = LogarithmicLaw(_rounded(intercept), _rounded(slope), error)
    nearer: Literal["power", "logarithmic"] | None = None
    if len(x) > 2 and error != power.relative_error:
        nearer = "logarithmic" if error < power.relative_error else "power"
    return Growth(power, logarithmic, nearer)


def _rounded(value: float) -> float:
    return ten_digits(round(value, _DECIMALS))


def _root_mean_square(values: _Floats) -> float:
    return _rounded(math.sqrt(float(np.square(values).mean())))


def _line(x: _Floats, y: _Floats) -> tuple[float, float]:
    centred = x - x.mean()
    slope = float(centred @ (y - y.mean()) / (centred @ centred))
    return slope, float(y.mean() - slope * x.mean())


def _checked(pixels: Sequence[float], costs: Sequence[float]) -> tuple[_Floats, _Floats]:
    x, y = np.asarray(pixels, dtype=np.float64), np.asarray(costs, dtype=np.float64)
    if (x <= 0).any() or (y <= 0).any():
        raise ValueError("a law of growth is fitted to positive numbers alone")
    return x, y
