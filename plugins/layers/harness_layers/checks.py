"""Checks of hyperparameters, such as ``check_positive(hidden=hidden, learning_rate=learning_rate)``.

Each raises a ValueError that names the hyperparameter, its value and what would be right.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any


def _check(right: Callable[[Any], bool], wanted: str, values: Mapping[str, Any]) -> None:
    for name, value in values.items():
        if not right(value):
            raise ValueError(f"{name} must be {wanted}, not {value!r}")


def check_positive(**values: float) -> None:
    """Takes numbers above zero, and no infinity."""
    _check(lambda value: value > 0, "positive", values)
    _check(math.isfinite, "finite", values)


def check_at_least(least: float, **values: float) -> None:
    """Takes numbers from ``least`` on."""
    _check(lambda value: value >= least, f"at least {least}", values)


def check_share(**values: float) -> None:
    """Takes numbers from 0 to 1, without the 1."""
    _check(lambda value: 0 <= value < 1, "at least 0 and below 1", values)


def check_odd(**values: int) -> None:
    """Takes odd numbers above zero, such as the width of a kernel with a middle."""
    _check(lambda value: value > 0 and value % 2 == 1, "an odd number", values)


def check_widths(**values: Sequence[int]) -> None:
    """Takes one number above zero or more, such as the widths of hidden layers."""
    _check(lambda widths: len(widths) > 0 and min(widths) > 0, "one positive number or more", values)


def check_choice(options: Collection[str], **values: str) -> None:
    """Takes one of the words in ``options``."""
    _check(lambda value: value in options, "one of " + ", ".join(map(repr, options)), values)
