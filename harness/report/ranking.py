"""Ranks of a column of figures, and in words what they rest on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from harness.report.rows import Figure
from harness.statistics import Basis, Comparison, RankInterval, compare, compare_seeds, rank

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
    """Ranks figures of one quantity, lower is better: on scores per image where both have them, else on seeds."""
    comparisons = {}
    for j in range(len(figures)):
        for i in range(j):
            comparison = _compare(figures[i], figures[j])
            if comparison is not None:
                comparisons[i, j] = comparison
    ranking = rank([figure.kind for figure in figures], comparisons, alpha=ALPHA)
    bases = sorted({comparison.basis for comparison in comparisons.values()}, reverse=True)
    pairs = len(figures) * (len(figures) - 1) // 2
    return Ranks(ranking.intervals, tuple(bases), len(comparisons), pairs - len(comparisons))


def _compare(a: Figure, b: Figure) -> Comparison | None:
    try:
        if a.matrix is not None and b.matrix is not None:
            return compare(a.matrix, b.matrix)
        return compare_seeds(a.values, b.values)
    except ValueError:  # too few common images, or one seed without scores per image
        return None
