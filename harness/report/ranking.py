"""Ranks of a column of figures, and in words what they rest on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from harness.boards.statistics import Basis, RankInterval
from harness.report.pair_tests import compare_pairs
from harness.report.rows import Figure

ALPHA = 0.05


@dataclass(frozen=True)
class Ranks:
    """Rank intervals in the order of the figures, and the bases of the tests between them.

    Attributes:
        intervals: one a figure.
        bases: what the tests generalise to, each once.
        num_pairs: how many pairs were tested.
        untested: how many pairs could not be.
    """

    intervals: tuple[RankInterval, ...]
    bases: tuple[Basis, ...]
    num_pairs: int
    untested: int

    @property
    def basis(self) -> str:
        """The bases as one value for a table, empty without a test."""
        return "; ".join(self.bases)

    @property
    def sentence(self) -> str:
        """What the ranks rest on."""
        if not self.num_pairs and not self.untested:
            return "A single row is ranked: there is nothing to test."
        says = {
            "seeds x images": "seeds x images",
            "images": "images alone: a model with one seed, of which another training might reverse the result",
            "seeds": "seeds alone: there are no scores per image",
        }
        bases = "; or on ".join(says[basis] for basis in self.bases) or "nothing"
        untested = f" {self.untested} pairs could not be tested and count as not told apart." if self.untested else ""
        pairs = "pair" if self.num_pairs == 1 else "pairs"
        return f"Ranks at alpha = {ALPHA:g}, Holm over {self.num_pairs} {pairs}. The tests rest on {bases}.{untested}"


def rank_figures(figures: Sequence[Figure]) -> Ranks:
    """Ranks figures of one quantity, lower is better: on scores per image where both have them, else on seeds.

    As ``harness.boards.statistics.rank`` does of all pairs of ``compare`` and ``compare_seeds``, in arrays.
    """
    tests = compare_pairs(figures, alpha=ALPHA)
    kinds = np.array([figure.kind for figure in figures], dtype=object)
    claimed = tests.rejected(ALPHA)
    lower, higher = tests.lower[claimed], tests.higher[claimed]
    # ``statistics.better``: equal kinds by value; a bound proves a value above it wrong, and no other mixture.
    proven = (kinds[lower] == kinds[higher]) | ((kinds[lower] == "upper bound") & (kinds[higher] == "exact"))
    won = np.bincount(lower[proven], minlength=len(figures)).tolist()
    lost = np.bincount(higher[proven], minlength=len(figures)).tolist()
    intervals = tuple(RankInterval(1 + lost[k], len(figures) - won[k]) for k in range(len(figures)))
    pairs = len(figures) * (len(figures) - 1) // 2
    return Ranks(intervals, tuple(sorted(tests.bases, reverse=True)), tests.num_tested, pairs - tests.num_tested)
