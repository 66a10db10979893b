"""Precision, recall, density and coverage against their definitions, closed forms and the traps."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from harness import FeatureMetric
from harness.testing import MetricConformance
from harness_metrics.prdc import Coverage, Density, K, Precision, Recall, squared_radii

METRICS = [Precision(), Recall(), Density(), Coverage()]


def draw(num, dimensions=3, *, seed, shift=0.0):
    return torch.from_numpy(np.random.default_rng(seed).standard_normal((num, dimensions)) + shift)


def by_definition(samples, reference):
    """Precision, recall, density, coverage, point by point."""
    s, r = samples.numpy(), reference.numpy()

    def radius(points, i):
        return sorted(np.linalg.norm(points[i] - points[j]) for j in range(len(points)) if j != i)[K - 1]

    r_balls, s_balls = ([radius(points, i) for i in range(len(points))] for points in (r, s))
    inside = np.array([[np.linalg.norm(y - x) <= b for x, b in zip(r, r_balls, strict=True)] for y in s])  # (S, R)
    other = np.array([[np.linalg.norm(y - x) <= b for y, b in zip(s, s_balls, strict=True)] for x in r])  # (R, S)
    return inside.any(1).mean(), other.any(1).mean(), inside.sum() / K / len(s), inside.any(0).mean()


def test_the_four_equal_their_definitions():
    samples, reference = draw(40, seed=0, shift=0.8), draw(60, seed=1)
    found = [metric.distance(samples, reference) for metric in METRICS]
    assert found == pytest.approx(by_definition(samples, reference), rel=1e-6)
    assert 0 < min(found) < max(found) < 1


@pytest.mark.parametrize("metric", METRICS, ids=lambda metric: metric.family)
def test_the_jackknife_is_that_of_measuring_again_without_each_group(metric):
    samples, reference = draw(45, seed=2, shift=0.5), draw(64, seed=3)
    over_samples, over_images = metric.errors(samples, reference, 7)
    naive_samples, naive_images = FeatureMetric.errors(metric, samples, reference, 7)
    if not isinstance(metric, Recall):
        assert over_images == pytest.approx(naive_images, rel=1e-9)
    if isinstance(metric, Recall | Coverage):
        assert over_samples == pytest.approx(naive_samples, rel=1e-9)


def test_of_equal_distributions_the_expected_density_is_one_and_coverage_as_derived():
    pairs = [(draw(40, 2, seed=seed), draw(40, 2, seed=1000 + seed)) for seed in range(60)]
    coverage = 1 - math.prod((40 - i) / (80 - i) for i in range(1, K + 1))
    for metric, expected in ((Density(), 1), (Coverage(), coverage)):
        values = [metric.distance(*pair) for pair in pairs]
        assert abs(np.mean(values) - expected) < 3 * np.std(values) / math.sqrt(len(values))


def test_lost_modes_cost_recall_and_invented_ones_precision():
    one, two = draw(100, seed=4), torch.cat([draw(50, seed=5), draw(50, seed=6, shift=20.0)])
    assert Precision().distance(one, two) > 0.8 > 0.6 > Recall().distance(one, two)
    assert Recall().distance(two, one) > 0.8 > 0.6 > Precision().distance(two, one)


def test_one_outlier_among_the_images_deceives_precision_and_hardly_density():
    images = torch.cat([draw(99, seed=7), torch.full((1, 3), 30.0).double()])
    noise = draw(50, seed=8, shift=25.0)
    assert Precision().distance(noise, images) == 1
    assert Density().distance(noise, images) == pytest.approx(1 / K)


@pytest.mark.parametrize("metric", [Precision(), Recall(), Coverage()], ids=lambda metric: metric.family)
def test_copies_of_one_image_lie_in_each_others_balls(metric):
    images = draw(10, 50, seed=9).repeat(8, 1)  # all radii are zero, but for rounding
    assert metric.distance(images.flip(0), images) == 1


@pytest.mark.parametrize("metric", METRICS, ids=lambda metric: metric.family)
def test_sets_that_never_vary_give_finite_figures(metric):
    same, other = torch.full((30, 4), 0.1).double(), torch.full((20, 4), 0.7).double()
    assert metric.distance(same, same) >= 1
    assert metric.distance(same, other) == 0
    assert all(map(math.isfinite, metric.errors(same, other, 10)))


def test_fewer_points_than_neighbours_are_refused():
    with pytest.raises(ValueError, match="5 points have no 5 neighbours each: at least 6 are needed"):
        squared_radii(draw(5, seed=0), torch.full((5,), -1), 0)


class TestCoverage(MetricConformance):
    metric = "coverage-pixels-n100"
