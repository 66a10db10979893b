"""Somers' D against an independent computation, and its intervals against all ways to draw and against the truth."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from harness import agreement_along, agreement_between
from harness.boards.rank_agreement import concordance


@pytest.mark.parametrize("levels", [100, 3])
def test_concordance_is_somers_d(levels):
    rng = np.random.default_rng(0)
    x, y = rng.integers(levels, size=(2, 30)).astype(float)
    assert concordance(x, y) == pytest.approx(stats.somersd(x, y).statistic)
    if levels == 100:
        x, y = rng.permutation(30).astype(float), rng.permutation(30).astype(float)
        assert concordance(x, y) == pytest.approx(stats.kendalltau(x, y).statistic)


def test_an_interval_covers_the_truth_about_as_often_as_it_says():
    rng, truth = np.random.default_rng(1), 2 / np.pi * np.arcsin(0.6)  # Kendall's tau of a correlation of 0.6
    held = 0
    for _ in range(150):
        x, noise = rng.standard_normal((2, 20))
        found = agreement_between(x, 0.6 * x + 0.8 * noise)
        held += found.low <= truth <= found.high
    assert 0.9 < held / 150 <= 1


def test_the_interval_along_strengths_is_that_of_all_ways_to_draw_among_equals():
    found = agreement_along([0.0, 1.0], [[0.0, 2.0], [1.0, 3.0]])
    assert found.value == 0.5  # three pairs of four
    assert (found.low, found.high) == (-1.0, 1.0)  # drawn 2 2 and 1 1; drawn 0 0
    assert agreement_along([0.0], [[1.0, 2.0]]) is None


def test_few_or_equal_models_say_nothing():
    assert agreement_between([1.0, 2.0, 3.0], [1.0, 2.0, 3.0]) is None
    assert agreement_between([1.0] * 5, [1.0, 2.0, 3.0, 4.0, 5.0]) is None
