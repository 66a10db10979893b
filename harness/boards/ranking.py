"""Ranks of a column of figures as intervals, and in words what they rest on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, get_args

import numpy as np

from harness.boards.pair_tests import Scored, compare_pairs
from harness.boards.statistics import ALPHA, Basis, RankInterval, decides
from harness.interface.spec import ScoreKind

_BASES: tuple[Basis, ...] = get_args(Basis)
_REVERSED = "another training might reverse the result"
_SAYS: dict[Basis, str] = {
    "seeds x images": "seeds x images",
    "seeds": "seeds alone: there are no scores per image",
    "images": f"images alone: a model with one seed, of which {_REVERSED}",
    "resampling": f"resampling alone: a row with one seed, whose training variance is unseen, so that {_REVERSED}",
}


class Ranked(Scored, Protocol):
    """What is ranked: a figure of some kind. Lower is better."""

    @property
    def kind(self) -> ScoreKind:
        """What it is of the quantity that is ranked."""


@dataclass(frozen=True)
class Ranks:
    """Rank intervals in the order of the figures, and what the tests between them rest on.

    Attributes:
        intervals: one for each figure.
        bases: what the tests generalise to, each once.
        num_pairs, untested: how many pairs were tested, and how many could not be.
    """

    intervals: tuple[RankInterval, ...] = ()
    bases: tuple[Basis, ...] = ()
    num_pairs: int = 0
    untested: int = 0

    @property
    def basis(self) -> str:
        """The bases as one value for a table, empty without a test."""
        return "; ".join(self.bases)

    @property
    def sentence(self) -> str:
        """What the ranks rest on."""
        if not self.num_pairs and not self.untested:
            return "A single row is ranked: there is nothing to test."
        bases = "; or on ".join(_SAYS[basis] for basis in self.bases) or "nothing"
        untested = f" {self.untested} pairs could not be tested and count as not told apart." if self.untested else ""
        pairs = "pair" if self.num_pairs == 1 else "pairs"
        return f"Ranks at alpha = {ALPHA:g}, Holm over {self.num_pairs} {pairs}. The tests rest on {bases}.{untested}"


def rank(figures: Sequence[Ranked]) -> Ranks:
    """Ranks K figures of one quantity: from 1 + the number proven better to K - the number proven worse.

    Holm's (1979) method over all pairs keeps the chance of any false claim on the board at ``ALPHA``. A pair that
    cannot be tested is not told apart.
    """
    tests = compare_pairs(figures, alpha=ALPHA)
    kinds = np.array([figure.kind for figure in figures], dtype=object)
    claimed = tests.rejected(ALPHA)
    lower, higher = tests.lower[claimed], tests.higher[claimed]
    proven = decides(kinds[lower], kinds[higher])
    won = np.bincount(lower[proven], minlength=len(figures)).tolist()
    lost = np.bincount(higher[proven], minlength=len(figures)).tolist()
    intervals = tuple(RankInterval(1 + lost[k], len(figures) - won[k]) for k in range(len(figures)))
    pairs = len(figures) * (len(figures) - 1) // 2
    bases = tuple(basis for basis in _BASES if basis in tests.bases)
    return Ranks(intervals, bases, tests.num_tested, pairs - tests.num_tested)
