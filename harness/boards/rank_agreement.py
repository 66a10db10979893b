"""How well one quantity orders what another one orders: Somers' D, with an interval by the bootstrap."""

from __future__ import annotations

import random
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

_REPLICATES, _FEWEST = 1000, 4


class Agreement(NamedTuple):
    """Somers' D and its 95 % interval: 1 where all is in order, -1 where all is the wrong way."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        interval = f" ({self.low:+.2f} to {self.high:+.2f})" if self.low < self.high else ""
        return f"{self.value:+.2f}{interval}"


def concordance(x: Floats, y: Floats) -> Floats:
    """Returns Somers' D of y given x, of (..., N) each, (...): NaN where no two x differ.

    Of the pairs that differ in x it is the share whose y has the same order, less that whose y has the opposite one;
    equal y are neither. Without ties it is Kendall's tau. Somers 1962, doi 10.2307/2090408.
    """
    first, second = np.triu_indices(x.shape[-1], 1)
    way = np.sign(x[..., second] - x[..., first])
    same = (way * np.sign(y[..., second] - y[..., first])).sum(-1)
    pairs = np.abs(way).sum(-1)
    found: Floats = np.divide(same, pairs, out=np.full(np.shape(same), np.nan), where=pairs > 0)
    return found


def agreement_along(strengths: Sequence[float], values: Sequence[Sequence[float]]) -> Agreement | None:
    """Returns how values rise with a strength, some for each; the bootstrap draws among those of one strength.

    None where there are fewer than two strengths. Of few values of each, such as three seeds, the interval is too
    narrow rather than too wide.
    """
    if len(strengths) < 2:
        return None
    x = np.repeat(np.asarray(strengths, dtype=np.float64), [len(some) for some in values])
    y = np.concatenate([np.asarray(some, dtype=np.float64) for some in values])
    starts = np.cumsum([0, *(len(some) for some in values)])
    drawn = [start + _drawn(len(some), index) for index, (start, some) in enumerate(zip(starts, values, strict=False))]
    return _with_interval(x, y, np.broadcast_to(x, (_REPLICATES, len(x))), y[np.concatenate(drawn, axis=1)])


def agreement_between(x: Sequence[float], y: Sequence[float]) -> Agreement | None:
    """Returns how y orders what x orders, (N,) each; the bootstrap draws among the N. None for fewer than four."""
    if len(x) < _FEWEST:
        return None
    xs, ys = (np.asarray(values, dtype=np.float64) for values in (x, y))
    drawn = _drawn(len(x), 0)
    return _with_interval(xs, ys, xs[drawn], ys[drawn])


def _with_interval(x: Floats, y: Floats, drawn_x: Floats, drawn_y: Floats) -> Agreement | None:
    value, replicates = float(concordance(x, y)), concordance(drawn_x, drawn_y)
    if np.isnan(value):
        return None
    low, high = np.quantile(replicates[~np.isnan(replicates)], [0.025, 0.975])
    return Agreement(*(float(f"{number:.10g}") for number in (value, low, high)))


@lru_cache
def _drawn(size: int, stream: int) -> npt.NDArray[np.int64]:
    """(1000, size) indices below ``size``: always the same, on every machine, and so for every metric."""
    draw = random.Random(stream).random  # of which Python promises the same numbers in every version
    uniform = np.array([draw() for _ in range(_REPLICATES * size)]).reshape(_REPLICATES, size)
    return (uniform * size).astype(np.int64)
