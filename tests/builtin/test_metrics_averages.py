"""How much of a figure's variance is the random draw of the pixels."""

import numpy as np
import pytest
import torch
from scipy import stats

from harness.builtin.metrics import likelihood


def draw_share(values):
    return likelihood.of_draws(torch.from_numpy(np.asarray(values)))["draw_share_of_variance"]


def draw_standard_deviation(values):
    return likelihood.of_draws(torch.from_numpy(np.asarray(values)))["draw_sd_of_mean"]


def test_the_share_of_draws_is_the_inverse_of_the_one_way_f():
    values = np.random.default_rng(19).normal(size=(4, 30)) + np.random.default_rng(20).normal(size=30)
    expected = stats.f_oneway(*values.T).statistic
    assert draw_share(values) == pytest.approx(1 / expected, rel=1e-10)


def test_the_share_of_draws_is_found_again_in_simulated_scores():
    rng, num_draws, image_sd, draw_sd = np.random.default_rng(21), 5, 2.0, 3.0
    values = rng.normal(scale=image_sd, size=20_000) + rng.normal(scale=draw_sd, size=(num_draws, 20_000))
    true_share = (draw_sd**2 / num_draws) / (image_sd**2 + draw_sd**2 / num_draws)
    assert draw_share(values) == pytest.approx(true_share, rel=0.03)


def test_the_standard_deviation_of_a_draw_is_the_spread_of_means_over_fresh_draws():
    rng = np.random.default_rng(22)
    images = rng.normal(scale=20, size=500)
    values = images + rng.normal(scale=4.0, size=(3, 500))
    fresh = [(images + rng.normal(scale=4.0, size=500)).mean() for _ in range(2000)]
    assert draw_standard_deviation(values) == pytest.approx(np.std(fresh, ddof=1), rel=0.06)


def test_fixed_images_owe_nothing_to_draws():
    row = np.random.default_rng(23).normal(loc=300, size=100)
    assert draw_share(np.stack([row] * 3)) == 0.0
    assert draw_standard_deviation(np.stack([row] * 3)) == 0.0


def test_where_images_do_not_differ_all_variance_comes_from_draws():
    values = np.array([[0.0, 2.0], [2.0, 0.0]])
    assert draw_share(values) == 1.0
