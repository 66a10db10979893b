"""Nearest training images, authenticity and C_T against their definitions, written naively, and at their traps."""

import itertools
import math

import numpy as np
import pytest
import torch
from scipy import stats

from harness import Dataset, Evaluation, ImageSpec, Model, Split, Unsupported
from harness.testing import MetricConformance
from harness_metrics.memorisation import (
    Authenticity,
    DataCopying,
    NearestTraining,
    authentic,
    c_t,
    k_means,
    mann_whitney,
)
from harness_metrics.neighbours import nearest


class TestAuthenticity(MetricConformance):
    metric = "authenticity-pixels-n100"


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def binary(*shape, seed=0):
    return (normal(*shape, seed=seed) > 0).double()


def test_the_nearest_is_that_of_all_differences_with_and_without_itself():
    queries, reference = normal(30, 5), normal(40, 5, seed=1)
    apart = (queries[:, None] - reference).square().sum(2).sqrt()
    distance, index = nearest(queries, reference)
    assert torch.equal(index, apart.argmin(1))
    torch.testing.assert_close(distance, apart.min(1).values, rtol=1e-12, atol=0)
    own = (queries[:, None] - queries).square().sum(2).sqrt().fill_diagonal_(math.inf)
    assert torch.equal(nearest(queries, queries, but=torch.arange(30))[1], own.argmin(1))


def test_a_copy_is_at_distance_zero_far_from_the_origin():
    train = 1e6 + normal(50, 8)
    assert not nearest(train, train)[0].any()


def test_the_nearest_of_nothing_is_refused():
    with pytest.raises(ValueError, match="1 vectors"):
        nearest(normal(3, 2), normal(1, 2), but=torch.zeros(3, dtype=torch.int64))


def naive_authenticity(samples, train):
    found = []
    for sample in samples.numpy():
        apart = [np.linalg.norm(sample - image) for image in train.numpy()]
        closest = train.numpy()[int(np.argmin(apart))]
        own = sorted(np.linalg.norm(closest - image) for image in train.numpy())[1]  # the first is itself
        found.append(min(apart) > own)
    return found


@pytest.mark.parametrize("draw", [normal, binary])
def test_authenticity_is_its_definition_with_and_without_ties(draw):
    samples, train = draw(40, 6, seed=1), draw(30, 6)
    assert authentic(samples, train).tolist() == naive_authenticity(samples, train)


def test_an_equal_distance_is_not_authentic_nor_is_a_copy_of_a_duplicate():
    train = torch.tensor([[0.0, 0.0], [1.0, 0.0], [9.0, 9.0], [9.0, 9.0]], dtype=torch.float64)
    samples = torch.tensor([[0.0, 1.0], [9.0, 9.0], [0.0, 1.1]], dtype=torch.float64)
    assert authentic(samples, train).tolist() == [False, False, True]


def test_copies_have_no_authenticity_and_no_distance_and_noise_has_much_of_both():
    train, held_out, noise = normal(60, 4), normal(60, 4, seed=1), 9 * normal(60, 4, seed=2)
    for metric in (Authenticity, NearestTraining):
        assert metric.compare(train[:20], held_out, train)[:2] == (0, 0)
        assert metric.compare(noise, held_out, train)[0] > metric.compare(held_out, held_out, train)[0]


def test_held_out_images_are_as_near_as_themselves_and_copies_are_counted():
    train, held_out = normal(60, 4), normal(60, 4, seed=1)
    value, _, details = NearestTraining.compare(torch.cat([held_out, train]), torch.cat([held_out, train]), train)
    assert (value, details["copies"], details["held_out_copies"]) == (1, 0.5, 0.5)
    with pytest.raises(Unsupported, match="all 60 held-out images are training images"):
        NearestTraining.compare(held_out, train, train)


def test_the_error_of_the_ratio_is_its_spread_over_resampling():
    train = normal(50, 3)
    found = [NearestTraining.compare(normal(40, 3, seed=s), normal(60, 3, seed=-s), train) for s in range(1, 200)]
    values, errors, _ = zip(*found, strict=True)
    assert np.mean(errors) == pytest.approx(np.std(values), rel=0.15)


@pytest.mark.parametrize("decimals", [0, 1, 9])
def test_z_is_that_of_scipy_with_and_without_ties(decimals):
    ours, theirs = normal(40).round(decimals=decimals), (normal(30, seed=1) + 0.3).round(decimals=decimals)
    test = stats.mannwhitneyu(ours.numpy(), theirs.numpy(), alternative="less", method="asymptotic")
    assert mann_whitney(ours, theirs)[0] == pytest.approx(stats.norm.ppf(test.pvalue), abs=1e-9)


def test_equal_distances_tell_nothing_apart():
    assert mann_whitney(torch.ones(25), torch.ones(30)) == (0, 0)


@pytest.mark.parametrize(("shift", "scale"), [(0.0, 1.0), (0.7, 2.0)])
def test_z_is_standard_normal_for_equal_distributions_and_its_error_is_its_spread(shift, scale):
    found = [mann_whitney(shift + scale * normal(40, seed=s), normal(60, seed=-s)) for s in range(1, 200)]
    z, errors = map(np.array, zip(*found, strict=True))
    assert np.sqrt((errors**2).mean()) == pytest.approx(np.std(z), rel=0.15)
    if shift == 0:
        assert abs(z.mean()) < 0.2
        assert np.std(z) == pytest.approx(1, rel=0.15)


def naive_c_t(samples, held_out, train, centres):
    def cell(x):
        return int(np.argmin([np.sum((x - centre) ** 2) for centre in centres]))

    def of(images, which):
        return [x for x in images if cell(x) == which]

    total, weights = 0.0, 0.0
    for which in range(len(centres)):
        ours, theirs, known = (of(images, which) for images in (samples, held_out, train))
        if len(ours) < 20:
            continue
        far, usual = ([min(np.linalg.norm(x - t) for t in known) for x in images] for images in (ours, theirs))
        m, n = len(far), len(usual)
        u = sum((x > y) + (x == y) / 2 for x, y in itertools.product(far, usual))
        ties = sum(t**3 - t for t in np.unique(far + usual, return_counts=True)[1].astype(float))
        sd = np.sqrt(n * m / 12 * (n + m + 1 - ties / ((n + m) * (n + m - 1))))
        total += n / len(held_out) * (u - (n * m / 2 - 0.5)) / sd
        weights += n / len(held_out)
    return total / weights


@pytest.mark.parametrize("draw", [normal, binary])
def test_c_t_is_its_definition_with_and_without_ties(draw):
    sets = samples, held_out, train = draw(90, 9, seed=1), draw(60, 9, seed=2), draw(70, 9, seed=3)
    centres = k_means(train, 3)
    expected = naive_c_t(*(images.numpy() for images in sets), centres.numpy())
    assert c_t(samples, held_out, train, centres)[0] == pytest.approx(expected, abs=1e-9)


def test_c_t_is_far_below_zero_for_copies_and_far_above_for_noise():
    train, held_out = normal(200, 4), normal(200, 4, seed=1)
    copies = train + 1e-3 * normal(200, 4, seed=2)
    assert DataCopying.compare(copies, held_out, train)[0] < -5
    assert DataCopying.compare(train, held_out, train)[0] < -5
    assert DataCopying.compare(3 * normal(200, 4, seed=2), held_out, train)[0] > 5


def test_c_t_of_new_images_spreads_by_the_sd_in_its_details():
    train = torch.cat([normal(50, 2), 20 + normal(50, 2, seed=1)])
    centres = torch.tensor([[0.0, 0.0], [20.0, 20.0]], dtype=torch.float64)
    found = []
    for seed in range(2, 100):
        drawn = normal(160, 2, seed=seed) + 20 * (torch.arange(160) % 2)[:, None]
        found.append(c_t(drawn[:80], drawn[80:], train, centres))
    values, errors, shares = zip(*found, strict=True)
    assert np.std(values) == pytest.approx(math.sqrt(0.5), rel=0.2)
    assert np.mean(errors) == pytest.approx(math.sqrt(0.5), rel=0.1)
    assert shares[0].tolist() == [0.5, 0.5]


def test_c_t_leaves_out_cells_of_few_samples_and_says_how_much_is_left():
    train, held_out = (torch.cat([normal(40, 2, seed=s), 20 + normal(120, 2, seed=s + 1)]) for s in (0, 2))
    few = torch.cat([normal(19, 2, seed=4), 20 + normal(60, 2, seed=5)])
    centres = torch.tensor([[0.0, 0.0], [20.0, 20.0]], dtype=torch.float64)
    assert c_t(few, held_out, train, centres)[2].tolist() == [0.75]
    with pytest.raises(Unsupported, match="of 19 samples no cell has 20"):
        c_t(few[:19], held_out, train, centres)


def test_cells_are_the_clusters_and_never_more_than_points_that_differ():
    where = torch.tensor([[0.0, 0.0], [50.0, 0.0], [0.0, 50.0]], dtype=torch.float64)
    points = (where[:, None] + normal(20, 2)).flatten(0, 1)
    centres = k_means(points, 3)
    assert torch.equal(centres, k_means(points, 3))
    expected = where + normal(20, 2).mean(0)
    torch.testing.assert_close(centres[nearest(expected, centres)[1]], expected)
    assert k_means(torch.ones(30, 4, dtype=torch.float64), 3).tolist() == [[1, 1, 1, 1]]


class Parrot(Model):
    """Draws training images."""

    def __init__(self, spec, images):
        super().__init__(spec)
        self.images = images

    def fit(self, data, trainer): ...

    def sample(self, num_samples):
        return self.images[torch.randint(len(self.images), (num_samples,))]


def test_all_three_see_a_model_that_repeats_training_images_and_say_what_they_compared():
    train, test = (
        Split(torch.randint(4, (100, 1, 3, 3), generator=torch.Generator().manual_seed(s), dtype=torch.uint8))
        for s in (0, 1)
    )
    data = Dataset("toy", ImageSpec(1, 3, 3, levels=4), train, test, test)
    evaluation = Evaluation(Parrot(data.spec, train.images), data)
    copying, authenticity, ratio = (
        metric(network="pixels", num_samples=100).evaluate(evaluation)
        for metric in (DataCopying, Authenticity, NearestTraining)
    )
    assert copying.value < -5
    assert (authenticity.value, ratio.value, ratio.details["copies"]) == (0, 0, 1)
    said = {"samples": "100", "reference": "train, 100 images", "held out": "test, 100 images"}
    assert copying.protocol.items() >= {**said, "cells": "3, k-means, 20 samples or more"}.items()
