"""How numbers are printed, everywhere; and how those that are computed are rounded, so that every machine has the same.

In which order a sum is taken depends on the processor, and with it the last two or three of a number's seventeen
digits. What was measured is written as it was recorded; what is computed from that is rounded first.
"""

import math

NOTHING = "–"
KIND_SIGNS = {"exact": "", "upper bound": "≤ ", "lower bound": "≥ ", "estimate": "≈ "}

LOADED = 0.1  # the share of the processors from which on others are said to have disturbed a measurement


def ten_digits(value: float) -> float:
    """Returns a number rounded to ten significant digits, after thirteen: what is halfway is so on every machine."""
    return float(f"{float(f'{value:.12e}'):.9e}") + 0.0


def fixed(value: float, decimals: int) -> str:
    """A number with so many decimals; never a negative zero."""
    text = f"{value:,.{decimals}f}"
    return text.lstrip("-") if float(text.replace(",", "")) == 0 else text


def uncertainty(value: float, decimals: int) -> str:
    """A spread with so many decimals; one that would print as zero, and is not, is less than the last digit."""
    smallest = 10.0**-decimals
    return f"<{smallest:.{decimals}f}" if 0 < value < smallest / 2 else fixed(value, decimals)


def with_spread(mean: float, deviation: float | None, error: float | None, decimals: int) -> str:
    """``mean ± standard deviation (standard error)``; what is not known is left out."""
    text = fixed(mean, decimals)
    if deviation is not None:
        text += f" ± {uncertainty(deviation, decimals)}"
    return text if error is None else f"{text} ({uncertainty(error, decimals)})"


def significant(value: float, digits: int = 3) -> str:
    """A number of so many significant digits, without an exponent where that is readable."""
    if value == 0 or not math.isfinite(value):
        return "0" if value == 0 else str(value)
    if not 1e-4 <= abs(value) < 1e15:
        return f"{value:.{digits - 1}e}"
    rounded = float(f"{value:.{digits - 1}e}")
    decimals = max(0, digits - 1 - math.floor(math.log10(abs(rounded))))
    return f"{rounded:,.{decimals}f}"


def short(value: float) -> str:
    """A number of three significant digits at most, without trailing zeros."""
    text = significant(value)
    return text.rstrip("0").rstrip(".") if "." in text and "e" not in text else text


def count(value: float) -> str:
    """A whole number, thousands apart; another one with three digits."""
    return f"{int(value):,}" if value == int(value) else significant(value)


def seconds(value: float) -> str:
    """A duration in the unit that suits it."""
    for unit, size, least in (("h", 3600.0, 7200.0), ("min", 60.0, 120.0), ("s", 1.0, 1.0), ("ms", 1e-3, 1e-3)):
        if value >= least:
            return f"{significant(value / size)} {unit}"
    return f"{significant(value * 1e6)} µs" if value > 0 else "0 s"


def duration(value: float) -> str:
    """How long somebody waits: whole seconds up to ten minutes, whole minutes from then on."""
    whole = round(value)
    if whole >= 6000:
        return f"{whole // 3600} h {whole // 60 % 60} min"
    return f"{whole} s" if whole < 60 else f"{whole // 60} min" + f" {whole % 60} s" * (whole < 600)


def scaled(value: float) -> str:
    """A large number with a decimal prefix."""
    for prefix, size in (("P", 1e15), ("T", 1e12), ("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if value >= size:
            return f"{significant(value / size)} {prefix}"
    return significant(value)


def memory(value: float) -> str:
    """Bytes, in KiB below one MiB and in MiB above."""
    return f"{significant(value / 2**10)} KiB" if value < 2**20 else f"{significant(value / 2**20)} MiB"


def load_words(share: float | None) -> str:
    """Says which share of the processors others used, to 10 %; empty from where it does not matter, or is not known."""
    return f"others used about {round(share, 1):.0%} of the processors" if share is not None and share >= LOADED else ""
