"""FID extrapolated to infinitely many samples: the line, the bias that is left, its error, and too few samples."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.linalg
import torch

import harness
from harness.testing import MetricConformance
from harness_metrics.fid_infinity import FIDInfinity, sizes_of

METRIC = FIDInfinity()


def draw(num, dimensions, *, seed, scale=1.0):
    return torch.from_numpy(np.random.default_rng(seed).standard_normal((num, dimensions)) * scale)


def reference_of_exact_moments(num, dimensions):
    x = draw(num, dimensions, seed=0)
    x = x - x.mean(0)
    return x @ torch.linalg.inv(torch.linalg.cholesky(x.T.cov())).T


def fid_by_sqrtm(x, y):
    s1, s2 = np.cov(x, rowvar=False), np.cov(y, rowvar=False)
    return ((x.mean(0) - y.mean(0)) ** 2).sum() + np.trace(s1 + s2 - 2 * scipy.linalg.sqrtm(s1 @ s2).real)


def test_it_is_the_intercept_of_a_line_through_the_fids_of_nested_sets():
    x, y = draw(300, 5, seed=1, scale=1.5).numpy(), draw(200, 5, seed=2).numpy()
    sizes = np.linspace(30, 300, 15).round().astype(int)
    line = np.polyfit(1 / sizes, [fid_by_sqrtm(x[:size], y) for size in sizes], 1)
    assert METRIC.distance(torch.from_numpy(x), torch.from_numpy(y)) == pytest.approx(line[1], rel=1e-6)


def test_it_is_right_on_average_where_the_fid_is_too_high():
    reference, scale = reference_of_exact_moments(100, 8), 1.2
    truth = 8 * (scale - 1) ** 2
    sets = [draw(200, 8, seed=seed, scale=scale) for seed in range(1, 61)]
    found = torch.tensor([[METRIC.distance(x, reference), METRIC.details(x, reference)["fid"]] for x in sets])
    z = (found.mean(0) - truth) / (found.std(0) / len(sets) ** 0.5)
    assert abs(z[0]) < 3
    assert z[1] > 10


def test_its_error_over_samples_is_its_spread_over_resampling():
    reference = reference_of_exact_moments(100, 4)
    sets = [draw(300, 4, seed=seed, scale=1.5) for seed in range(1, 61)]
    spread = torch.tensor([METRIC.distance(x, reference) for x in sets]).std()
    errors = torch.tensor([METRIC.errors(x, reference, 20)[0] for x in sets[:6]])
    assert 0.7 < errors.mean() / spread < 1.4


def test_the_smallest_set_has_twice_as_many_images_as_features_and_too_few_samples_are_refused():
    assert [sizes_of(10_000, 84)[0], sizes_of(10_000, 784)[0]] == [1000, 1568]
    with pytest.raises(harness.Unsupported, match="2,000 samples are too few to extrapolate: 784 features need"):
        sizes_of(2000, 784)


def test_constant_features_leave_it_and_its_errors_as_they_are():
    x, y = draw(200, 3, seed=1), draw(200, 3, seed=2)
    constant = [torch.cat([z, torch.full((200, 2), 0.5, dtype=torch.float64)], 1) for z in (x, y)]
    assert METRIC.distance(*constant) == pytest.approx(METRIC.distance(x, y), rel=1e-9)
    assert METRIC.errors(*constant, 10) == pytest.approx(METRIC.errors(x, y, 10), rel=1e-4)


class TestConformance(MetricConformance):
    metric = "fid-infinity-pixels-n500"
