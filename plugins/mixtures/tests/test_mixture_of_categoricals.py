"""The mixture of categoricals: what EM does, and what it finds."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

import harness
from harness_baselines.independent_pixels import IndependentPixels
from harness_mixtures.mixture_of_categoricals import MixtureOfCategoricals, em_step

BINARY = harness.ImageSpec(1, 3, 3, 2)
COLOUR = harness.ImageSpec(3, 1, 2, 3)


def make_dataset(spec, *, num_images=200, seed=0):
    # Two clusters, so that a mixture has something to find.
    rng = np.random.default_rng(seed)
    probs = rng.dirichlet(np.full(spec.levels, 0.5), size=(2, spec.num_dimensions))
    cluster = rng.integers(2, size=3 * num_images)
    cumulative = probs.cumsum(-1)[cluster]  # (n, D, levels)
    values = (rng.random((3 * num_images, spec.num_dimensions, 1)) > cumulative[..., :-1]).sum(-1).astype(np.uint8)
    images = torch.from_numpy(values).view(-1, *spec.shape)
    splits = [harness.Split(part) for part in images.split(num_images)]
    return harness.Dataset("clusters", spec, *splits)


def fitted(model, data, budget="10 epochs"):
    torch.manual_seed(0)
    model.double()
    model.fit(data, harness.Trainer(model, data, budget=harness.Budget.parse(budget), precision="float64"))
    return model.eval()


def reference_em(images, weights, probs, pseudocount):
    """EM by loops over components and images: weights (K,), probs (K, D, levels)."""
    joint = np.array([
        [w * np.prod(table[np.arange(len(x)), x]) for w, table in zip(weights, probs, strict=True)] for x in images
    ])  # fmt: skip
    shares = joint / joint.sum(1, keepdims=True)
    new_probs = np.empty_like(probs)
    for k, table in enumerate(new_probs):
        for entry in range(table.shape[0]):
            for level in range(table.shape[1]):
                count = shares[images[:, entry] == level, k].sum()
                table[entry, level] = (count + pseudocount / table.shape[1]) / (shares[:, k].sum() + pseudocount)
    return shares.mean(0), new_probs, np.log(joint.sum(1)).mean()


@pytest.mark.parametrize("spec", [BINARY, COLOUR], ids=str)
def test_a_categorical_em_step_agrees_with_explicit_responsibilities(spec):
    rng = np.random.default_rng(5)
    images = make_dataset(spec, num_images=60).train.images.flatten(1)
    weights = rng.dirichlet(np.ones(4))
    probs = rng.dirichlet(np.ones(spec.levels), size=(4, spec.num_dimensions))
    table = torch.from_numpy(probs).permute(1, 2, 0).log()
    got = em_step(images, torch.from_numpy(weights).log(), table, pseudocount=0.7)
    new_weights, new_probs, log_likelihood = reference_em(images.numpy(), weights, probs, 0.7)
    np.testing.assert_allclose(got[0].exp().numpy(), new_weights, rtol=1e-10)
    np.testing.assert_allclose(got[1].exp().permute(2, 0, 1).numpy(), new_probs, rtol=1e-10)
    assert got[2] == pytest.approx(log_likelihood, rel=1e-12)


def test_categorical_em_never_lowers_likelihood_plus_prior():
    images = make_dataset(COLOUR).train.images.flatten(1)
    rng = np.random.default_rng(0)
    probs = torch.from_numpy(rng.dirichlet(np.ones(3), size=(6, 5))).permute(0, 2, 1).log()  # (D, levels, K)
    weights = torch.full((5,), -math.log(5), dtype=torch.float64)
    objectives = []
    for _ in range(60):
        prior = 1.5 / 3 * probs.sum().item() / len(images)
        weights, probs, log_likelihood = em_step(images, weights, probs, pseudocount=1.5)
        objectives.append(log_likelihood + prior)
    steps = np.diff(objectives)
    assert steps.min() > -1e-12
    assert steps[0] > 1e-3


def test_one_component_is_the_independent_pixels():
    data = make_dataset(COLOUR)
    one = fitted(MixtureOfCategoricals(COLOUR, components=1, pseudocount=2.0), data, budget="2 epochs")
    reference = fitted(IndependentPixels(COLOUR, pseudocount=2.0), data)
    torch.testing.assert_close(one.log_prob(data.test.images), reference.log_prob(data.test.images), rtol=1e-12, atol=0)


def test_two_components_find_two_clusters_that_independent_pixels_cannot():
    data = make_dataset(BINARY, num_images=2000)
    rng = np.random.default_rng(0)
    ones = torch.from_numpy(rng.dirichlet(np.full(2, 0.5), size=(2, 9))[..., 1])  # the truth of make_dataset
    x = data.test.images.flatten(1).double()[:, None]
    truth = ((x * ones.log() + (1 - x) * (1 - ones).log()).sum(2).logsumexp(1) - math.log(2)).mean().item()
    mixture = fitted(MixtureOfCategoricals(BINARY, components=2), data, budget="60 epochs")
    alone = fitted(IndependentPixels(BINARY), data)
    assert mixture.log_prob(data.test.images).mean().item() == pytest.approx(truth, abs=0.02)
    assert alone.log_prob(data.test.images).mean().item() < truth - 0.4


def test_bad_hyperparameters_are_refused_by_their_value():
    with pytest.raises(ValueError, match="components must be positive, not 0"):
        MixtureOfCategoricals(BINARY, components=0)
    with pytest.raises(ValueError, match=r"pseudocount must be positive, not 0\.0"):
        MixtureOfCategoricals(BINARY, pseudocount=0.0)
