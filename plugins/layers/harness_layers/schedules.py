"""Learning rates as shares of the highest one, functions of the fraction of the budget that is spent."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal

Schedule = Literal["constant", "linear", "cosine", "stages"]

_STAGES = 8


def constant(fraction: float) -> float:
    """Returns one."""
    return 1.0


def linear(fraction: float) -> float:
    """Returns 1 - fraction, from one to zero."""
    return 1 - fraction


def cosine(fraction: float) -> float:
    """Returns (1 + cos(pi * fraction)) / 2, from one to zero (Loshchilov & Hutter 2017, arXiv 1608.03983)."""
    return 0.5 * (1 + math.cos(math.pi * fraction))


def stages(fraction: float) -> float:
    """Returns 10^(-i/7) in stage i = 0..7, stages 3^i long (Burda et al. 2016: 3^i epochs each, 3280 in all)."""
    stage = int(math.log1p((3**_STAGES - 1) * fraction) / math.log(3) + 1e-12)
    return float(10 ** (-min(stage, _STAGES - 1) / (_STAGES - 1)))


SCHEDULES: dict[str, Callable[[float], float]] = {
    "constant": constant, "linear": linear, "cosine": cosine, "stages": stages,
}  # fmt: skip
