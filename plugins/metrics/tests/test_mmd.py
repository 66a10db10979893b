"""MMD with a Gaussian kernel: the definition, the bias that it keeps, its error."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from harness.testing import MetricConformance
from harness_metrics.mmd import MMD

METRIC = MMD()


def draw(num, *, seed, shift=0.0):
    return torch.from_numpy(np.random.default_rng(seed).standard_normal((num, 6)) * 4 + shift)


def kernel(a, b):
    return np.exp(-((a.numpy()[:, None] - b.numpy()) ** 2).sum(2) / 200)


def test_it_is_a_thousand_times_the_means_of_the_kernel_over_all_pairs():
    x, y = draw(30, seed=1), draw(40, seed=2, shift=1.0)
    expected = kernel(x, x).mean() + kernel(y, y).mean() - 2 * kernel(x, y).mean()
    assert METRIC.distance(x, y) == pytest.approx(1000 * expected, rel=1e-6)
    assert METRIC.distance(x, y) == pytest.approx(METRIC.distance(y, x), rel=1e-9)


def test_a_set_is_at_zero_from_itself():
    x = draw(30, seed=1)
    assert 0 <= METRIC.distance(x, x.flip(0)) < 1e-9


def test_equal_distributions_are_apart_by_the_bias_and_by_nothing_in_the_unbiased_estimate():
    sets = [(draw(40, seed=2 * seed), draw(60, seed=2 * seed + 1)) for seed in range(100)]
    biased = np.array([METRIC.distance(x, y) for x, y in sets])
    unbiased = np.array([METRIC.details(x, y)["unbiased"] for x, y in sets])
    mean_kernel = np.mean([kernel(x, y).mean() for x, y in sets])
    bias = 1000 * (1 / 40 + 1 / 60) * (1 - mean_kernel)
    assert abs(biased.mean() - bias) < 3 * biased.std() / 100**0.5
    assert abs(unbiased.mean()) < 3 * unbiased.std() / 100**0.5 < 0.3 * bias


def test_its_errors_are_its_spread_over_resampling_either_set():
    x, y = draw(200, seed=0), draw(150, seed=1, shift=2.0)
    over = ([METRIC.distance(draw(200, seed=seed), y) for seed in range(2, 42)],
            [METRIC.distance(x, draw(150, seed=seed, shift=2.0)) for seed in range(2, 42)])  # fmt: skip
    assert METRIC.errors(x, y, 50) == pytest.approx(np.std(over, axis=1), rel=0.35)


def test_its_errors_are_those_of_leaving_out_each_image():
    x, y = draw(12, seed=1), draw(9, seed=2, shift=1.0)
    left = [METRIC.distance(torch.cat([x[:i], x[i + 1 :]]), y) for i in range(12)]
    assert METRIC.errors(x, y, 50)[0] == pytest.approx((11 * np.var(left)) ** 0.5, rel=1e-6)


class TestConformance(MetricConformance):
    metric = "mmd-pixels-n100"
