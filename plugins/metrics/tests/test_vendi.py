"""The Vendi score against its definition and closed forms."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from harness import FeatureMetric
from harness.testing import MetricConformance
from harness_metrics.vendi import Vendi


def draw(num, dimensions, seed):
    return torch.from_numpy(np.random.default_rng(seed).standard_normal((num, dimensions)))


def score(features):
    return Vendi().distance(features, features)


def by_definition(features):
    x = features.numpy()
    similarity = np.array([[a @ b / np.linalg.norm(a) / np.linalg.norm(b) for b in x] for a in x])
    eigenvalues = np.linalg.eigvalsh(similarity / len(x))
    return np.exp(-sum(value * np.log(value) for value in eigenvalues if value > 1e-12))


@pytest.mark.parametrize(("num", "dimensions"), [(50, 8), (12, 40)], ids=["many images", "many dimensions"])
def test_it_equals_its_definition(num, dimensions):
    features = draw(num, dimensions, seed=0)
    assert score(features) == pytest.approx(by_definition(features), rel=1e-6)


def test_copies_of_images_that_have_nothing_in_common_count_once():
    corners = torch.eye(7, dtype=torch.float64)
    assert score(corners) == pytest.approx(7, rel=1e-9)
    assert score(3 * corners.repeat(6, 1)) == pytest.approx(7, rel=1e-9)
    assert score(corners[:1].repeat(9, 1)) == pytest.approx(1, rel=1e-9)


def test_a_blank_image_is_like_other_blank_ones_alone():
    features = torch.cat([torch.eye(3, dtype=torch.float64), torch.zeros(1, 3, dtype=torch.float64)])
    assert score(features.repeat(5, 1)) == pytest.approx(4, rel=1e-9)


def test_the_error_is_that_of_measuring_again_without_each_group():
    features = draw(60, 5, seed=1)
    naive, _ = FeatureMetric.errors(Vendi(), features, features, 6)
    assert Vendi().errors(features, features, 6) == pytest.approx((naive, 0), rel=1e-6)


class TestVendi(MetricConformance):
    metric = "vendi-pixels-n100"
