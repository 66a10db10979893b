"""Ten significant digits: how computed numbers are written, so that every machine writes the same.

A processor's vector instructions decide in which order a sum is taken, and with it the last two or three of a number's
seventeen digits. What was measured is written as it was recorded; what is computed from that is rounded first.
"""

from __future__ import annotations

DIGITS = 10


def significant_digits(value: float) -> float:
    """Returns a number rounded to ten significant digits; a zero is never negative.

    It is rounded to thirteen digits before: a number that lies halfway between two results, but for the processor's
    last bits, is halfway on every machine.
    """
    return float(f"{float(f'{value:.{DIGITS + 2}e}'):.{DIGITS - 1}e}") + 0.0
