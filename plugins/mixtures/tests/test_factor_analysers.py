"""The mixture of factor analysers: its density against scipy, and its EM against scikit-learn and by itself."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy import stats
from sklearn.decomposition import FactorAnalysis

import harness
from harness_mixtures.factor_analysers import MixtureOfFactorAnalysers, em_step
from harness_mixtures.factors import FactorGaussians, principal_axes

SPEC = harness.ImageSpec(1, 2, 3, 8)
PAIR = harness.ImageSpec(1, 1, 2, 256)
NO_PRIOR = {"pseudocount": 0.0, "prior_variance": 1.0}


def random_gaussians(*, components=3, dimensions=6, factors=2, seed=0):
    generator = torch.Generator().manual_seed(seed)
    shapes = [(components,), (components, dimensions), (components, dimensions, factors), (components, dimensions)]
    weights, mean, loadings, scale = (torch.randn(s, dtype=torch.float64, generator=generator) for s in shapes)
    return FactorGaussians(weights.log_softmax(0), 4 + mean, loadings, 0.5 + scale.abs())


def dense(gaussians):
    """(log weight, mean, covariance) of each Gaussian, as numpy arrays."""
    covariances = gaussians.loadings @ gaussians.loadings.mT + gaussians.scale.square().diag_embed()
    return list(zip(*(value.numpy() for value in (gaussians.log_weights, gaussians.mean, covariances)), strict=True))


def points_of(seed=0, num_points=400):
    rng = np.random.default_rng(seed)
    means = rng.uniform(2, 6, size=(3, 6))
    mixing = rng.normal(size=(6, 6))
    return torch.from_numpy(means[rng.integers(3, size=num_points)] + rng.normal(size=(num_points, 6)) @ mixing)


def test_log_densities_and_weights_are_those_of_the_dense_gaussians():
    gaussians, points = random_gaussians(), points_of(num_points=20)
    expected = [w + stats.multivariate_normal(mean, cov).logpdf(points.numpy()) for w, mean, cov in dense(gaussians)]
    np.testing.assert_allclose(gaussians.log_joint(points)[0].numpy(), np.stack(expected, 1), rtol=1e-10)


def test_projections_give_the_inverse_covariance_without_forming_it():
    gaussians, points = random_gaussians(), points_of(num_points=5)
    whitened, _ = gaussians.whitened()
    precision = gaussians.scale.square().reciprocal().diag_embed() - whitened @ whitened.mT
    expected = np.stack([np.linalg.inv(covariance) for _, _, covariance in dense(gaussians)])
    np.testing.assert_allclose(precision.numpy(), expected, rtol=1e-9, atol=1e-12)
    along = torch.einsum("mkd,kdq->mkq", points[:, None] - gaussians.mean, whitened)
    torch.testing.assert_close(gaussians.log_joint(points)[1], along)


def test_draws_have_the_moments_of_the_mixture():
    gaussians = random_gaussians()
    torch.manual_seed(0)
    draws = gaussians.draw(50_000).numpy()
    weights = np.exp([w for w, _, _ in dense(gaussians)])
    mean = sum(w * m for w, (_, m, _) in zip(weights, dense(gaussians), strict=True))
    second = sum(w * (c + np.outer(m, m)) for w, (_, m, c) in zip(weights, dense(gaussians), strict=True))
    np.testing.assert_allclose(draws.mean(0), mean, atol=0.06)
    np.testing.assert_allclose(np.cov(draws.T), second - np.outer(mean, mean), atol=0.2)


@pytest.mark.parametrize("noise_variance", [0.0, 1 / 12], ids=["no noise", "uniform noise"])
@pytest.mark.parametrize("pseudocount", [0.0, 5.0])
def test_em_never_lowers_its_objective_plus_the_prior(noise_variance, pseudocount):
    points, state, objectives = points_of(), random_gaussians(), []
    for _ in range(60):
        variances = state.scale.square()
        prior = -0.5 * pseudocount * (variances.log() + 2.0 / variances).sum().item() / len(points)
        state, objective = em_step(
            points, state, noise_variance=noise_variance, pseudocount=pseudocount, prior_variance=2.0
        )
        objectives.append(objective + prior)
    steps = np.diff(objectives)
    assert steps.min() > -1e-10
    assert steps[0] > 1e-2


def test_the_objective_of_one_component_is_the_expected_log_density_under_noise():
    points, state = points_of(), random_gaussians(components=1)
    _, objective = em_step(points, state, noise_variance=1 / 12, **NO_PRIOR)
    noise = torch.rand(400, *points.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) - 0.5
    draws = torch.stack([state.log_joint(points + u)[0].mean() for u in noise])
    assert objective == pytest.approx(draws.mean().item(), abs=4 * draws.std().item() / math.sqrt(len(draws)))


def test_one_component_is_fitted_as_by_scikit_learn():
    torch.manual_seed(0)
    points, state = (
        random_gaussians(components=1, factors=1, seed=1).draw(400),
        random_gaussians(components=1, factors=1),
    )
    for _ in range(300):
        state, objective = em_step(points, state, noise_variance=0.0, **NO_PRIOR)
    reference = FactorAnalysis(1, tol=1e-7, max_iter=5000, svd_method="lapack").fit(points.numpy())
    assert objective == pytest.approx(reference.score(points.numpy()), abs=1e-4)


def test_as_many_factors_as_entries_reach_the_full_covariance():
    points, state = points_of(), random_gaussians(components=1, factors=6)
    for _ in range(300):
        state, objective = em_step(points, state, noise_variance=0.0, **NO_PRIOR)
    values = points.numpy()
    full = stats.multivariate_normal(values.mean(0), np.cov(values.T, bias=True)).logpdf(values).mean()
    assert objective == pytest.approx(full, abs=1e-6)


def test_a_component_that_no_image_belongs_to_is_kept_as_it_was():
    state = random_gaussians()
    state.mean[1] = 1e6
    new, objective = em_step(points_of(), state, noise_variance=1 / 12, pseudocount=0.01, prior_variance=2.0)
    assert math.isfinite(objective)
    for name in ("mean", "loadings", "scale"):
        assert torch.equal(getattr(new, name)[1], getattr(state, name)[1])


def test_principal_axes_are_the_covariances_first_eigenvectors_and_zero_beyond_them():
    points = points_of()
    points = points - points.mean(0)
    torch.manual_seed(0)
    axes, variances = principal_axes(points, 8)
    covariance = points.T @ points / len(points)
    torch.testing.assert_close((axes * variances) @ axes.T, covariance)
    assert axes[:, 6:].abs().max().item() == 0


def test_pairs_of_a_correlated_spot_are_fitted_better_than_by_a_diagonal_gaussian():
    rng = np.random.default_rng(0)
    values = 128 + (rng.normal(size=(600, 1)) * 30 + rng.normal(size=(600, 2)) * 4).round()
    splits = [harness.Split(part) for part in torch.from_numpy(values.astype(np.uint8)).view(-1, 1, 1, 2).split(200)]
    data = harness.Dataset("spot", PAIR, *splits)
    torch.manual_seed(0)
    model = MixtureOfFactorAnalysers(PAIR, components=2)
    model.fit(data, harness.Trainer(model, data, budget=harness.Budget.parse("20 epochs")))
    covariance = np.cov(values.T)
    diagonal = -math.log(2 * math.pi * math.e) - 0.5 * np.log(np.diag(covariance)).sum()
    assert model.elbo(data.test.images).mean().item() > diagonal + 0.8


def test_bad_hyperparameters_are_refused_by_their_value():
    with pytest.raises(ValueError, match="factors must be positive, not 0"):
        MixtureOfFactorAnalysers(SPEC, factors=0)
    with pytest.raises(ValueError, match=r"pseudocount must be positive, not -1\.0"):
        MixtureOfFactorAnalysers(SPEC, pseudocount=-1.0)
