"""Learning rates, and numbers of importance samples, as functions of the fraction of the budget that is spent."""

from __future__ import annotations

import math

_STAGES = 8
_LATE = 0.6


def stages(fraction: float) -> float:
    """Returns 10^(-i/7) in stage i = 0..7, stages 3^i long (Burda et al. 2016: 3^i epochs each, 3280 in all)."""
    stage = int(math.log1p((3**_STAGES - 1) * fraction) / math.log(3) + 1e-12)
    return float(10 ** (-min(stage, _STAGES - 1) / (_STAGES - 1)))


def cosine(fraction: float) -> float:
    """Returns (1 + cos(pi * fraction)) / 2, from one to zero (Loshchilov & Hutter 2017, arXiv 1608.03983)."""
    return 0.5 * (1 + math.cos(math.pi * fraction))


def constant(fraction: float) -> float:
    """Returns one."""
    return 1.0


def all_samples(fraction: float, num_samples: int) -> int:
    """Returns ``num_samples``."""
    return num_samples


def late_samples(fraction: float, num_samples: int) -> int:
    """Returns one sample for 60 % of the budget, then a number that grows geometrically to ``num_samples``."""
    return round(math.pow(num_samples, max(0.0, (fraction - _LATE) / (1 - _LATE))))


SAMPLE_SCHEDULES = {"constant": all_samples, "late": late_samples}
SCHEDULES = {"stages": stages, "cosine": cosine, "constant": constant}
