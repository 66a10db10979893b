"""The sliced Wasserstein distance: the definition, closed forms, its error."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from harness.testing import MetricConformance
from harness_metrics.sliced_wasserstein import SlicedWasserstein, directions

METRIC = SlicedWasserstein()


def draw(num, *, seed, shift=0.0, scale=1.0):
    return torch.from_numpy(np.random.default_rng(seed).standard_normal((num, 4)) * scale + shift)


def by_definition(x, y):
    """Of two sets of equal size: the root mean square of the gaps of sorted projections."""
    ways = directions(x.shape[1]).numpy()
    return np.sqrt(np.mean([np.mean((np.sort(x.numpy() @ way) - np.sort(y.numpy() @ way)) ** 2) for way in ways]))


def test_of_sets_of_equal_size_it_pairs_the_sorted_projections():
    x, y = draw(50, seed=1), draw(50, seed=2, shift=0.5)
    assert METRIC.distance(x, y) == pytest.approx(by_definition(x, y), rel=1e-6)


@pytest.mark.parametrize(("num", "other"), [(6, 4), (4, 9), (5, 1)])
def test_sets_of_unequal_size_are_at_the_distance_of_their_copies_in_equal_number(num, other):
    x, y = draw(num, seed=1), draw(other, seed=2, shift=0.5)
    expected = by_definition(x.repeat(other, 1), y.repeat(num, 1))
    assert METRIC.distance(x, y) == pytest.approx(expected, rel=1e-6)


def test_a_shift_is_at_its_length_by_the_root_of_the_dimensions():
    x, shift = draw(50, seed=1), torch.tensor([3.0, 0, 0, 4.0], dtype=torch.float64)
    assert METRIC.distance(x + shift, x) == pytest.approx(5 / 4**0.5, rel=0.05)  # 1000 directions of all


def test_a_set_is_at_zero_from_itself_with_no_error():
    x = draw(30, seed=1)
    assert [METRIC.distance(x, x.clone()), *METRIC.errors(x, x.clone(), 50)] == [0, 0, 0]
    assert METRIC.distance(x, x.flip(0)) < 1e-12  # rounding


def test_its_errors_are_its_spread_over_resampling_either_set():
    x, y = draw(60, seed=0, scale=1.5), draw(50, seed=1, shift=1.0)
    over = ([METRIC.distance(draw(60, seed=seed, scale=1.5), y) for seed in range(2, 42)],
            [METRIC.distance(x, draw(50, seed=seed, shift=1.0)) for seed in range(2, 42)])  # fmt: skip
    assert METRIC.errors(x, y, 50) == pytest.approx(np.std(over, axis=1), rel=0.35)


class TestConformance(MetricConformance):
    metric = "sliced-wasserstein-pixels-n100"
