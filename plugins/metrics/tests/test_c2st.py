"""Classifier two-sample tests: chance, copies, duplicates, sets of unequal size, their errors."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from harness.testing import MetricConformance
from harness_metrics.c2st import C2ST, NearestNeighbourTest

CLASSIFIER, NEIGHBOURS = C2ST(), NearestNeighbourTest()


def draw(num, *, seed, shift=0.0, dimensions=5):
    return torch.from_numpy(np.random.default_rng(seed).standard_normal((num, dimensions)) + shift)


def by_definition(x, y):
    """A vote among all nearest neighbours, in a loop over exact distances."""
    images, labels = np.concatenate([x, y]), np.arange(len(x) + len(y)) < len(x)
    shares = []
    for index, image in enumerate(images):
        distances = ((images - image) ** 2).sum(1)
        distances[index] = np.inf
        shares.append(np.mean(labels[distances == distances.min()] == labels[index]))
    return 100 * np.mean(shares)


def test_the_nearest_neighbour_test_is_its_definition():
    x, y = draw(40, seed=1), draw(40, seed=2, shift=0.4)
    assert NEIGHBOURS.distance(x, y) == pytest.approx(by_definition(x.numpy(), y.numpy()), rel=1e-9)


def test_of_binary_images_with_many_duplicates_all_nearest_ones_vote():
    x, y = (torch.from_numpy(np.random.default_rng(seed).integers(0, 2, (60, 4)).astype(float)) for seed in (1, 2))
    expected = by_definition(x.numpy(), y.numpy())
    assert NEIGHBOURS.distance(x, y) == pytest.approx(expected, rel=1e-9)
    features = torch.randn(4, 30, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    noise = 1e-7 * torch.randn(120, 30, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    assert NEIGHBOURS.distance(x @ features + noise[:60], y @ features + noise[60:]) == pytest.approx(
        by_definition((x @ features).numpy().round(6), (y @ features).numpy().round(6)), rel=1e-9
    )


def test_copies_of_the_real_images_are_never_nearest_to_their_own_set():
    x = draw(50, seed=1)
    assert NEIGHBOURS.distance(x, x.flip(0)) == 0


def test_images_that_are_all_the_same_are_told_apart_by_chance():
    x = torch.full((40, 3), 0.5, dtype=torch.float64)
    assert CLASSIFIER.distance(x, x) == 50
    assert NEIGHBOURS.distance(x, x) == pytest.approx(100 * 39 / 79)


@pytest.mark.parametrize("metric", [CLASSIFIER, NEIGHBOURS], ids=["classifier", "1-NN"])
def test_equal_distributions_are_told_apart_by_chance_and_distant_ones_always(metric):
    x, y = draw(200, seed=1), draw(200, seed=2)
    assert abs(metric.distance(x, y) - 50) < 3 * np.hypot(*metric.errors(x, y, 50))
    assert metric.distance(x, y + 20) == 100
    assert min(metric.errors(x, y + 20, 50)) > 0


def test_the_classifier_sees_what_no_mean_shows():
    assert CLASSIFIER.distance(draw(400, seed=1), 3 * draw(400, seed=2)) > 80


@pytest.mark.parametrize("metric", [CLASSIFIER, NEIGHBOURS], ids=["classifier", "1-NN"])
def test_the_larger_set_is_cut_to_the_size_of_the_smaller(metric):
    x, y = draw(200, seed=1), draw(80, seed=2)
    assert metric.distance(x, y) == metric.distance(x[:80], y)


@pytest.mark.parametrize("shift", [0.0, 0.5])
def test_the_error_of_the_nearest_neighbour_test_is_its_spread_over_resampling(shift):
    found = [NEIGHBOURS.distance(draw(100, seed=2 * s), draw(100, seed=2 * s + 1, shift=shift)) for s in range(150)]
    error = np.hypot(*NEIGHBOURS.errors(draw(100, seed=1000), draw(100, seed=1001, shift=shift), 50))
    assert error == pytest.approx(np.std(found), rel=0.25)


class TestConformance(MetricConformance):
    metric = "c2st-pixels-n100"
