"""The deep Gaussian mixture: maps and their determinants, and its density against the mixture that it spells out."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from scipy import stats
from torch.func import jacrev

import harness
from harness_mixtures.deep_gmm import AffineMaps, DeepGMM

SPEC = harness.ImageSpec(1, 2, 2, 8)
PAIR = harness.ImageSpec(1, 1, 2, 256)


def random_model(spec, maps, *, rank=2):
    torch.manual_seed(0)
    model = DeepGMM(spec, maps=maps, rank=rank).double()
    for parameter in model.parameters():
        parameter.data += 0.3 * torch.randn_like(parameter)
    return model


def paths(model):
    """(log weight, mean, covariance) of every path, by the maps' autograd Jacobians and their inverses."""
    dimensions = model.spec.num_dimensions
    layers = list(model.layers)
    for chosen in itertools.product(*(range(len(layer.centre)) for layer in layers)):

        def transform(x, chosen=chosen):
            for layer, k in zip(layers, chosen, strict=True):
                x = layer(x[None])[0, k]
            return x

        jacobian = jacrev(transform)(torch.zeros(dimensions, dtype=torch.float64)).detach()
        inverse = torch.linalg.inv(jacobian)
        mean = -inverse @ transform(torch.zeros(dimensions, dtype=torch.float64)).detach()
        weight = sum(layer.weight_logits.log_softmax(0)[k].item() for layer, k in zip(layers, chosen, strict=True))
        yield weight, mean.numpy(), (inverse @ inverse.T).numpy()


@pytest.mark.parametrize("maps", [(3,), (2, 3), (2, 3, 2)], ids=str)
def test_the_density_is_the_mixture_of_the_gaussians_of_all_paths(maps):
    model = random_model(SPEC, maps)
    points = 8 * torch.rand(20, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    expected = sum(
        math.exp(weight) * stats.multivariate_normal(mean, covariance).pdf(points.numpy())
        for weight, mean, covariance in paths(model)
    )
    np.testing.assert_allclose(model.log_density(points).detach().numpy(), np.log(expected), rtol=1e-9)


def test_log_determinants_are_those_of_the_maps_jacobians():
    torch.manual_seed(0)
    layer = AffineMaps(3, 5, 2).double()
    for parameter in layer.parameters():
        parameter.data += torch.randn_like(parameter)
    jacobians = jacrev(lambda x: layer(x[None])[0])(torch.randn(5, dtype=torch.float64))  # (K, D, D)
    expected = torch.linalg.slogdet(jacobians).logabsdet + layer.weight_logits.log_softmax(0)
    torch.testing.assert_close(layer.log_joint(torch.float64), expected, rtol=1e-10, atol=1e-10)


def test_each_map_is_undone_by_its_inverse():
    torch.manual_seed(0)
    layer = AffineMaps(3, 5, 2).double()
    points, chosen = torch.randn(6, 5, dtype=torch.float64), torch.tensor([0, 1, 2, 0, 1, 2])
    there = layer(points)[torch.arange(6), chosen]
    torch.testing.assert_close(layer.inverse(there, chosen), points, rtol=1e-10, atol=1e-10)


def test_squared_norms_are_those_of_what_the_maps_make():
    torch.manual_seed(0)
    layer = AffineMaps(3, 5, 2).double()
    points = 100 + 10 * torch.randn(6, 5, dtype=torch.float64)
    torch.testing.assert_close(layer.squared_norms(points), layer(points).square().sum(2), rtol=1e-10, atol=1e-10)


def test_the_density_of_pairs_sums_to_one_over_the_plane():
    model = random_model(PAIR, (3, 2))
    edges = torch.arange(-1500.0, 1756.0, 4.0, dtype=torch.float64)
    grid = torch.cartesian_prod(edges, edges)
    with torch.no_grad():
        density = torch.cat([model._log_density(part) for part in grid.split(50_000)])
    assert 16 * density.exp().sum().item() == pytest.approx(1, abs=1e-3)


def test_samples_have_the_moments_of_the_paths():
    spec = harness.ImageSpec(1, 1, 2, 256)
    model = random_model(spec, (2, 2))
    model.layers[0].log_scale.data += 2.5  # narrow: nothing is clamped
    found = list(paths(model))
    weights = np.exp([weight for weight, _, _ in found])
    mean = sum(w * m for w, (_, m, _) in zip(weights, found, strict=True))
    second = sum(w * (c + np.outer(m, m)) for w, (_, m, c) in zip(weights, found, strict=True))
    torch.manual_seed(3)
    samples = model.sample(40_000).flatten(1).double().numpy() + 0.5
    assert samples.min() > 1
    assert samples.max() < 255
    covariance = second - np.outer(mean, mean) + np.eye(2) / 12
    np.testing.assert_allclose(samples.mean(0), mean, atol=5 * math.sqrt(covariance.max() / 40_000))
    np.testing.assert_allclose(np.cov(samples.T), covariance, rtol=0.1, atol=0.03 * covariance.max())


def test_a_start_at_clusters_scores_better_than_uniform_pixels():
    rng = np.random.default_rng(0)
    centres = rng.integers(40, 216, size=(4, 2))
    values = centres[rng.integers(4, size=600)] + rng.integers(-8, 9, size=(600, 2))
    splits = [harness.Split(part) for part in torch.from_numpy(values.astype(np.uint8)).view(-1, 1, 1, 2).split(200)]
    data = harness.Dataset("spots", PAIR, *splits)
    torch.manual_seed(0)
    model = DeepGMM(PAIR, maps=(4, 2))
    model.fit(data, harness.Trainer(model, data, budget=harness.Budget.parse("2 epochs")))
    with torch.no_grad():
        assert model.elbo(data.test.images).mean().item() > -2 * math.log(256) + 2


def test_bad_hyperparameters_are_refused_by_their_value():
    with pytest.raises(ValueError, match=r"maps must be one positive number or more, not \[5, 0\]"):
        DeepGMM(SPEC, maps=[5, 0])
    with pytest.raises(ValueError, match="rank must be positive, not 0"):
        DeepGMM(SPEC, rank=0)
