"""The Gaussian: its moments and its shrinkage. Its bound and sampler are tested with the mixtures of Gaussians."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import harness
from harness_baselines.gaussian import Gaussian

SPEC = harness.ImageSpec(1, 2, 3, 8)


def make_dataset(spec, *, num_images=300):
    rng = np.random.default_rng(0)
    dimensions = spec.num_dimensions
    mixing = np.eye(dimensions) + 0.5 * rng.normal(size=(dimensions, dimensions))
    points = spec.levels * (0.5 + rng.normal(size=(3 * num_images, dimensions)) @ mixing / 8)
    values = np.clip(np.floor(points), 0, spec.levels - 1).astype(np.uint8)
    splits = [harness.Split(part) for part in torch.from_numpy(values).view(-1, *spec.shape).split(num_images)]
    return harness.Dataset("correlated", spec, *splits)


def fitted(model, data, budget="10 epochs"):
    torch.manual_seed(0)
    model.double()
    model.fit(data, harness.Trainer(model, data, budget=harness.Budget.parse(budget), precision="float64"))
    return model.eval()


def test_gaussian_moments_are_those_of_the_dequantized_images():
    data = make_dataset(SPEC)
    model = fitted(Gaussian(SPEC), data)
    values = data.train.images.flatten(1).double().numpy()
    expected = np.cov(values.T, bias=True) + np.eye(SPEC.num_dimensions) / 12
    np.testing.assert_allclose(model.mean.numpy(), values.mean(0) + 0.5, rtol=1e-12)
    np.testing.assert_allclose((model.cholesky @ model.cholesky.T).numpy(), expected, rtol=1e-10, atol=1e-12)


def test_gaussian_maximises_the_expected_bound_of_the_training_images():
    data = make_dataset(SPEC)
    model = fitted(Gaussian(SPEC), data)
    mean, cholesky = model.mean.clone().requires_grad_(), model.cholesky.clone().requires_grad_()
    normal = torch.distributions.MultivariateNormal(mean, scale_tril=cholesky)
    # E_u log N(x + u) = log N(x + 1/2) - trace(precision) / 24, since u has mean 1/2 and variance 1/12.
    points = data.train.images.flatten(1).double() + 0.5
    (normal.log_prob(points).mean() - normal.precision_matrix.trace() / 24).backward()
    assert mean.grad.abs().max().item() < 1e-10
    assert cholesky.grad.tril().abs().max().item() < 1e-10


def test_shrinkage_of_one_leaves_the_variances_alone():
    data = make_dataset(SPEC)
    half, whole, none = (fitted(Gaussian(SPEC, shrinkage=s), data).cholesky for s in (0.5, 1.0, 0.0))
    covariance = none @ none.T
    variances = covariance.diagonal().diag()
    torch.testing.assert_close(whole @ whole.T, variances)
    torch.testing.assert_close(half @ half.T, (covariance + variances) / 2)


def test_bad_hyperparameters_are_refused_by_their_value():
    with pytest.raises(ValueError, match=r"shrinkage must be from 0 to 1, not 1\.5"):
        Gaussian(SPEC, shrinkage=1.5)


def test_covariances_too_large_to_hold_are_unsupported():
    with pytest.raises(harness.Unsupported, match="49152 dimensions"):
        Gaussian(harness.ImageSpec(3, 128, 128, 256))
