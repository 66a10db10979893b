"""At what size a model overtakes all others: its fastest certified sampler against theirs, at each batch size.

Between two measured sizes the logarithm of the ratio of speeds is taken for a line in the logarithm of the pixels.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from harness.profiling.profile import Measurement
from harness.profiling.tables import MachineTables, Ratio, fastest_other
from harness.support.numbers import significant, ten_digits


@dataclass(frozen=True)
class Overtaking:
    """A model at one batch size: at each measured size its fastest sampler, the fastest of another model, the ratio."""

    ours: tuple[Measurement, ...]
    theirs: tuple[Measurement, ...]
    ratios: tuple[Ratio, ...]

    @property
    def place(self) -> int | None:
        """The number of the size from which on it is the faster one; None if it is not at the largest."""
        return _ahead_from([ratio.median for ratio in self.ratios])

    @property
    def point(self) -> tuple[float, float] | None:
        """Pixels and seconds of a call where both are level; None if that lies between no two measured sizes."""
        if (pixels := self._level("median")) is None:
            return None
        sizes, seconds = (np.log([getattr(it, name) for it in self.ours]) for name in ("pixels", "median_seconds"))
        return pixels, ten_digits(math.exp(np.interp(math.log(pixels), sizes, seconds)))

    @property
    def between(self) -> str:
        """The two measured sizes that it overtakes between."""
        return f"{self.ours[self.place - 1].size} and {self.ours[self.place].size}" if self.place else ""

    @property
    def words(self) -> str:
        """Where it overtakes; in brackets, where by the quartiles of the ratio."""
        if self.place == 0:
            return "all of these"
        if (level := self._level("median")) is None:
            ahead = [it.size for it, ratio in zip(self.ours, self.ratios, strict=True) if ratio.median > 1]
            return f"{', '.join(ahead)} alone" if ahead else "none of these"
        early, late = self._level("high"), self._level("low")
        within = (size_of(early) if early else f"below {self.ours[0].size}", size_of(late) if late else "not proven")
        return f"{size_of(level)} ({' to '.join(within)})"

    def _level(self, quartile: str) -> float | None:
        """The pixels at which the ratio, or one of its quartiles, is one, and above it from there on."""
        ratios = [getattr(ratio, quartile) for ratio in self.ratios]
        if not (place := _ahead_from(ratios)):
            return None
        pixels = np.log([it.pixels for it in self.ours[place - 1 : place + 1]])
        return ten_digits(math.exp(np.interp(0.0, np.log(ratios[place - 1 : place + 1]), pixels)))


def _ahead_from(ratios: Sequence[float]) -> int | None:
    first = max((number for number, ratio in enumerate(ratios, 1) if ratio <= 1), default=0)
    return first if first < len(ratios) else None


def size_of(pixels: float) -> str:
    """Returns the height and width of a square image of so many pixels."""
    return "x".join([significant(math.sqrt(pixels))] * 2)


def overtakings(tables: MachineTables) -> list[Overtaking]:
    """Returns one for each model that is compared with the baseline, and batch size, in the order of the tables."""
    fastest: dict[tuple[object, ...], dict[int, Measurement]] = {}
    compared = {found.measurement.label for found in tables.advantages}
    for item in (it for it in tables.measurements if it.is_exact and it.label in compared):
        sizes = fastest.setdefault((item.label, item.channels, item.levels, item.batch_size), {})
        if item.pixels not in sizes or item.median_seconds < sizes[item.pixels].median_seconds:
            sizes[item.pixels] = item
    found = []
    for sizes in fastest.values():
        pairs = [(it, other) for it in sizes.values() if (other := fastest_other(it, tables.measurements)) is not None]
        if pairs:
            ours, theirs = zip(*pairs, strict=True)
            found.append(Overtaking(ours, theirs, tuple(Ratio.of(*pair) for pair in pairs)))
    return found
