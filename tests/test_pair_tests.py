"""All pairs at once against the plain formulation: ``harness.boards.statistics`` a pair at a time."""

import itertools
from types import SimpleNamespace

import numpy as np
import pytest

from harness.boards.statistics import ScoreMatrix, compare, compare_seeds, rank
from harness.report.pair_tests import compare_pairs
from harness.report.ranking import ALPHA, rank_figures

IMAGES = np.arange(60) * 7 - 100


def figure(values, images=IMAGES, kind="exact"):
    values = np.atleast_2d(np.asarray(values, dtype=np.float64))
    matrix = ScoreMatrix(values, np.asarray(images, dtype=np.int64))
    return SimpleNamespace(values=values.mean(axis=1), matrix=matrix, kind=kind)


def bare(values, kind="exact"):
    return SimpleNamespace(values=np.asarray(values, dtype=np.float64), matrix=None, kind=kind)


def plain(figures):
    """{(i, j): comparison}: one pair at a time."""
    comparisons = {}
    for i, j in itertools.combinations(range(len(figures)), 2):
        a, b = figures[i], figures[j]
        try:
            by_images = a.matrix is not None and b.matrix is not None
            comparisons[i, j] = compare(a.matrix, b.matrix) if by_images else compare_seeds(a.values, b.values)
        except ValueError:
            continue
    return comparisons


def board(seed, num_rows=14, *, bare_rows=3):
    """Rows of 1 to 5 seeds on images that overlap, near and far, in any order; some have no scores per image."""
    rng, rows = np.random.default_rng(seed), []
    difficulty = rng.normal(scale=20, size=len(IMAGES))
    sets = [np.arange(60), rng.permutation(60), np.arange(10, 55), np.array([3]), np.repeat(np.arange(20), 2)]
    kinds = ["exact", "upper bound", "estimate"]
    for _ in range(num_rows):
        chosen, num_seeds = sets[rng.integers(len(sets))], rng.integers(1, 6)
        values = 90 + rng.normal(scale=1) + difficulty[chosen] + rng.normal(scale=0.3, size=(num_seeds, 1))
        values = values + rng.normal(scale=10.0 ** rng.integers(-6, 1), size=(num_seeds, len(chosen)))
        rows.append(figure(values, IMAGES[chosen], kinds[rng.integers(3)]))
    rows += [bare(90 + rng.normal(scale=0.5, size=rng.integers(1, 6)), "exact") for _ in range(bare_rows)]
    return [rows[place] for place in rng.permutation(len(rows))]


def found(figures, alpha):
    tests = compare_pairs(figures, alpha=alpha)
    pairs = zip(tests.lower.tolist(), tests.higher.tolist(), tests.p_values.tolist(), strict=True)
    return tests, {(low, high): p_value for low, high, p_value in pairs}


def expected_of(figures, alpha):
    return {
        (pair if item.difference < 0 else pair[::-1]): item.p_value
        for pair, item in plain(figures).items()
        if item.p_value <= alpha and item.difference != 0
    }


@pytest.mark.parametrize("alpha", [0.05, 1.0])
@pytest.mark.parametrize("seed", range(12))
def test_every_pair_has_the_p_value_of_the_test_of_that_pair_alone(seed, alpha):
    figures = board(seed)
    tests, values = found(figures, alpha)
    comparisons, expected = plain(figures), expected_of(figures, alpha)
    assert values.keys() == expected.keys()
    assert values == {pair: pytest.approx(p_value, rel=1e-9, abs=1e-300) for pair, p_value in expected.items()}
    assert tests.num_tested == len(comparisons)
    assert tests.bases == {item.basis for item in comparisons.values()}


@pytest.mark.parametrize("seed", range(12))
def test_the_ranks_of_a_board_are_those_of_its_pairs_one_by_one(seed):
    figures = board(seed)
    comparisons = plain(figures)
    expected = rank([item.kind for item in figures], comparisons, alpha=ALPHA)
    ranks = rank_figures(figures)
    assert ranks.intervals == expected.intervals
    assert ranks.num_pairs == len(comparisons)
    assert ranks.untested == len(figures) * (len(figures) - 1) // 2 - len(comparisons)


@pytest.mark.parametrize("scale", [1e-3, 1e-6, 1e-8])
def test_models_that_differ_by_little_beside_their_images_are_told_apart_as_exactly(scale):
    rng = np.random.default_rng(0)
    common = 100 * rng.normal(size=60) + 500
    figures = [figure(common + scale * rng.normal(size=(3, 60))) for _ in range(4)]
    figures.append(figure(rng.normal(size=(3, 60))))  # far from all others: what they share is no longer the mean
    _, values = found(figures, 1.0)
    # scores are rounded to 1e-13 themselves
    tolerance = max(1e-9, 1e-11 / scale)
    assert values == {
        pair: pytest.approx(p, rel=tolerance, abs=1e-300) for pair, p in expected_of(figures, 1.0).items()
    }


def test_rows_that_are_equal_or_a_constant_apart_are_as_certain_as_one_by_one():
    row = np.random.default_rng(1).normal(loc=500, size=60)
    figures = [figure([row] * count) for count in (1, 2, 3)] + [figure([row + 0.1] * count) for count in (1, 2)]
    tests, values = found(figures, 0.05)
    assert values == {(low, high): 0.0 for low in (0, 1, 2) for high in (3, 4)}
    assert tests.num_tested == 10


def test_more_pairs_than_are_held_at_a_time_are_tested_once_each(monkeypatch):
    figures = board(3, 20)
    whole = found(figures, 1.0)[1]
    monkeypatch.setattr("harness.report.pair_tests._CHUNK", 7)
    parts = found(figures, 1.0)[1]
    assert parts == {pair: pytest.approx(p_value, rel=1e-9, abs=1e-300) for pair, p_value in whole.items()}


def test_no_figures_and_a_single_one_have_no_tests():
    assert rank_figures([]).intervals == ()
    assert [str(item) for item in rank_figures([figure(np.ones((2, 60)))]).intervals] == ["1"]
