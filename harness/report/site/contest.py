"""How the rows of a ranked table differ, by the engine's paired tests: who is best, by how much, and who may be too."""

import math
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple, Self

import numpy as np

from harness.boards.figures import Measured
from harness.boards.pair_tests import ALPHA, PairDifferences, decides, differences
from harness.boards.table import Line, Table
from harness.interface.board import Column
from harness.support.numbers import fixed, significant, ten_digits

_MOST_ROWS = 150  # of which all pairs are compared


class Pair(NamedTuple):
    """A row's figure less another's, as the column prints it, and whether the row is proven ``better`` or ``worse``."""

    difference: str
    half_width: str
    p_value: str
    proven: str


class Others(NamedTuple):
    """The rows but for the best: it is proven better; its kind of figure proves nothing; it is not told apart."""

    proven: list[int]
    hidden: list[int]
    alike: list[int]


@dataclass(frozen=True)
class Contest:
    """The ranked lines of a table, best first."""

    table: Table
    by: Column
    lines: tuple[Line, ...]
    labels: tuple[str, ...]
    figures: tuple[Measured, ...]

    @classmethod
    def of(cls, table: Table) -> Self | None:
        """Returns the contest of a table; None where nothing is ranked, or more rows than can be compared in pairs."""
        by, ranked = table.by, [line for line in table.lines if line.rank is not None]
        if by is None or by.figure is None or not 0 < len(ranked) <= _MOST_ROWS:
            return None
        found = [(line, line.row.label, by.figure(line.row)) for line in ranked if line.row is not None]
        lines, labels, figures = zip(*((*item, it.measured()) for *item, it in found if it is not None), strict=True)
        return cls(table, by, lines, labels, figures)

    @cached_property
    def _found(self) -> PairDifferences:
        return differences(self.figures)

    def _proven(self, row: int, other: int) -> bool:
        is_less = self._found.difference[row, other] < 0 and self._found.p_values[row, other] <= ALPHA
        return bool(is_less and decides(self.figures[row].kind, self.figures[other].kind))

    @cached_property
    def others(self) -> Others:
        """What the tests say of the first row against each other one."""
        found = Others([], [], [])
        for other in range(1, len(self.lines)):
            is_hidden = not decides(self.figures[0].kind, self.figures[other].kind)
            (found.proven if self._proven(0, other) else found.hidden if is_hidden else found.alike).append(other)
        return found

    @property
    def lead(self) -> str:
        """By how much the best row is at least ahead of all that it is proven better than; empty if that is nothing."""
        least = min(-self._found.difference[0, k] - self._found.half_width[0, k] for k in self.others.proven)
        if (size := least * self.by.scale) <= 0:
            return ""
        step = 10.0 ** (math.floor(math.log10(size)) - 2)  # rounded down: "at least" is true of what is printed
        return significant(math.floor(ten_digits(size / step)) * step)

    @property
    def nearest(self) -> int | None:
        """The row with the least difference from the best, of those that are compared with it."""
        compared = [k for k in (*self.others.proven, *self.others.alike) if not np.isnan(self._found.p_values[0, k])]
        return min(compared, key=lambda k: float(self._found.difference[k, 0]), default=None)

    def pair(self, row: int, other: int) -> Pair | None:
        """Returns how two rows differ; None for a row itself, and where there is no test."""
        p_value = self._found.p_values[row, other]
        if np.isnan(p_value):
            return None
        value = self._found.difference[row, other] * (-1 if self.by.higher_is_better else 1)
        size, width = (significant(abs(it) * self.by.scale) for it in (value, self._found.half_width[row, other]))
        proven = "better" if self._proven(row, other) else "worse" if self._proven(other, row) else ""
        sign = "+" if value > 0 else "−" if value < 0 else ""
        return Pair(sign + size, width, "< 0.001" if p_value < 0.001 else fixed(p_value, 3), proven)

    @property
    def interval(self) -> str:
        """The 95 % interval of the best row's figure by its standard error; empty without one."""
        cell = self.lines[0].cells[self.by.key]
        if not cell.se or not isinstance(cell.value, float):
            return ""
        ends = [(cell.value + side * 1.96 * cell.se) * self.by.scale for side in (-1, 1)]
        decimals = max(0, 1 - math.floor(math.log10(cell.se * self.by.scale)))
        return " to ".join(fixed(end, decimals) for end in ends)
