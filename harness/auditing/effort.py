"""How much a computation costs, in floating-point operations: an audit's size must not depend on the machine."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode


def flops(compute: Callable[[], Any]) -> int:
    """Runs a computation and returns its floating-point operations, as far as torch counts them; at least 1."""
    counter = FlopCounterMode(display=False)
    with torch.no_grad(), counter:
        compute()
    return max(1, counter.get_total_flops())
