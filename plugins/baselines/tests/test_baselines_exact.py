"""The exact models: their figures and their closed forms."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

import harness
from harness_baselines.independent_pixels import IndependentPixels
from harness_baselines.uniform import Uniform

BINARY = harness.ImageSpec(1, 3, 3, 2)
COLOUR = harness.ImageSpec(3, 1, 2, 3)


def make_dataset(spec, *, num_images=200):
    rng = np.random.default_rng(0)
    values = rng.binomial(spec.levels - 1, rng.random(spec.num_dimensions), size=(3 * num_images, spec.num_dimensions))
    images = torch.from_numpy(values.astype(np.uint8)).view(-1, *spec.shape)
    splits = [harness.Split(part) for part in images.split(num_images)]
    return harness.Dataset("counts", spec, *splits)


def fitted(model, data, budget="10 epochs"):
    torch.manual_seed(0)
    model.double()
    model.fit(data, harness.Trainer(model, data, budget=harness.Budget.parse(budget), precision="float64"))
    return model.eval()


def test_uniform_scores_543_427_nats_on_binary_digits():
    model = Uniform(harness.ImageSpec(1, 28, 28, 2)).double()
    assert model.log_prob(torch.zeros(3, 1, 28, 28, dtype=torch.uint8)).tolist() == [-784 * math.log(2)] * 3
    assert 784 * math.log(2) == pytest.approx(543.427, abs=5e-4)


def test_uniform_scores_eight_bits_a_dimension_on_eight_bit_images():
    spec = harness.ImageSpec(3, 32, 32, 256)
    nats = -Uniform(spec).double().log_prob(torch.zeros(1, 3, 32, 32, dtype=torch.uint8)).item()
    assert nats / (spec.num_dimensions * math.log(2)) == 8.0


@pytest.mark.parametrize("spec", [BINARY, COLOUR], ids=str)
@pytest.mark.parametrize("pseudocount", [0.25, 1.0, 12.0])
def test_independent_pixels_score_the_smoothed_counts(spec, pseudocount):
    data = make_dataset(spec)
    model = fitted(IndependentPixels(spec, pseudocount=pseudocount), data)
    train, test = (split.images.flatten(1).numpy() for split in (data.train, data.test))
    expected = np.zeros(len(test))
    for entry in range(spec.num_dimensions):
        counts = np.bincount(train[:, entry], minlength=spec.levels)
        expected += np.log((counts[test[:, entry]] + pseudocount / spec.levels) / (len(train) + pseudocount))
    np.testing.assert_allclose(model.log_prob(data.test.images).numpy(), expected, rtol=1e-12)


def test_independent_pixels_of_random_data_count_the_images_of_a_draw():
    spec = harness.ImageSpec(1, 3, 3, 2)
    grey = torch.randint(256, (50, 1, 3, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    split = harness.BernoulliSplit(grey, seed=3)
    model = fitted(IndependentPixels(spec), harness.Dataset("random", spec, split, split, split))
    ones = (split.draw(0).images.double().sum(0) + 0.5) / 51
    torch.testing.assert_close(model.logits.softmax(0)[1], ones, rtol=1e-12, atol=0)


def test_a_pseudocount_that_is_not_positive_is_refused_by_its_value():
    with pytest.raises(ValueError, match=r"pseudocount must be positive, not 0\.0"):
        IndependentPixels(BINARY, pseudocount=0.0)
