"""Gaussians and their mixtures: bounds and samplers of dequantized densities, and EM against scikit-learn."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy import stats
from sklearn.mixture import GaussianMixture

import harness
from harness_baselines.gaussian import Gaussian
from harness_mixtures.mixture_of_gaussians import Components, MixtureOfGaussians, em_step

SPEC = harness.ImageSpec(1, 2, 3, 8)
PAIR = harness.ImageSpec(1, 1, 2, 5)


def make_dataset(spec, *, num_images=300, seed=0):
    rng = np.random.default_rng(seed)
    dimensions = spec.num_dimensions
    mixing = np.eye(dimensions) + 0.5 * rng.normal(size=(dimensions, dimensions))
    means = spec.levels * rng.uniform(0.25, 0.75, size=(2, dimensions))
    cluster = rng.integers(2, size=3 * num_images)
    points = means[cluster] + spec.levels / 8 * rng.normal(size=(3 * num_images, dimensions)) @ mixing
    values = np.clip(np.floor(points), 0, spec.levels - 1).astype(np.uint8)
    splits = [harness.Split(part) for part in torch.from_numpy(values).view(-1, *spec.shape).split(num_images)]
    return harness.Dataset("clusters", spec, *splits)


def fitted(model, data, budget="10 epochs"):
    torch.manual_seed(0)
    model.double()
    model.fit(data, harness.Trainer(model, data, budget=harness.Budget.parse(budget), precision="float64"))
    return model.eval()


def models(spec):
    data = make_dataset(spec)
    return {
        "gaussian": fitted(Gaussian(spec), data),
        "diagonal": fitted(MixtureOfGaussians(spec, components=3), data),
        "full": fitted(MixtureOfGaussians(spec, components=3, covariance="full"), data),
    }


def reference_components(model):
    """(weight, mean, covariance) of each Gaussian, as numpy arrays."""
    if isinstance(model, Gaussian):
        cholesky = model.cholesky.numpy()
        return [(1.0, model.mean.numpy(), cholesky @ cholesky.T)]
    scales = [np.diag(scale) if scale.ndim == 1 else scale for scale in model.scale.numpy()]
    weights = model.weight_logits.softmax(0).numpy()
    return [(w, m, s @ s.T) for w, m, s in zip(weights, model.mean.numpy(), scales, strict=True)]


def box_mass(model, lower, upper):
    """The model's mass of the box (lower, upper], by numerical integration."""
    return sum(
        weight * stats.multivariate_normal(mean, covariance).cdf(upper, lower_limit=lower)
        for weight, mean, covariance in reference_components(model)
    )


NAMES = ["gaussian", "diagonal", "full"]


@pytest.fixture(scope="module")
def small_models():
    return models(SPEC)


@pytest.fixture(scope="module")
def pair_models():
    return models(PAIR)


@pytest.mark.parametrize("name", NAMES)
def test_log_weights_are_the_density_at_the_dequantized_values(small_models, name):
    model, images = small_models[name], make_dataset(SPEC).test.images[:20]
    torch.manual_seed(4)
    got = model.log_dequantized_density(images, 3)
    torch.manual_seed(4)
    points = images.flatten(1).double() + torch.rand(3, 20, SPEC.num_dimensions, dtype=torch.float64)
    density = sum(
        weight * stats.multivariate_normal(mean, covariance).pdf(points.numpy())
        for weight, mean, covariance in reference_components(model)
    )
    np.testing.assert_allclose(got.numpy(), np.log(density), rtol=1e-9)


@pytest.mark.parametrize("name", NAMES)
def test_mean_weight_is_the_mass_of_the_unit_cell(pair_models, name):
    model, num_samples = pair_models[name], 40_000
    images = torch.cartesian_prod(torch.arange(5), torch.arange(5)).to(torch.uint8).view(-1, *PAIR.shape)
    torch.manual_seed(5)
    weights = model.log_dequantized_density(images, num_samples).exp().numpy()  # (num_samples, 25)
    corners = images.flatten(1).numpy().astype(float)
    masses = [box_mass(model, corner, corner + 1) for corner in corners]
    errors = weights.std(0) / math.sqrt(num_samples)
    assert np.all(np.abs(weights.mean(0) - masses) < 4.5 * errors + 1e-9)


@pytest.mark.parametrize("name", NAMES)
def test_samples_have_the_cells_masses_with_the_tails_in_the_edge_cells(pair_models, name):
    model, num_samples, levels = pair_models[name], 30_000, PAIR.levels
    torch.manual_seed(6)
    code = model.sample(num_samples).flatten(1).long() @ torch.tensor([levels, 1])
    observed = np.bincount(code.numpy(), minlength=levels**2).astype(float)
    edges = np.arange(levels + 1.0)
    edges[0], edges[-1] = -60, 60
    masses = [box_mass(model, edges[[i, j]], edges[[i + 1, j + 1]]) for i in range(levels) for j in range(levels)]
    expected = num_samples * np.array(masses)
    assert sum(masses) == pytest.approx(1, abs=1e-6)
    frequent = expected >= 5
    observed = np.append(observed[frequent], observed[~frequent].sum())
    expected = np.append(expected[frequent], expected[~frequent].sum())
    assert stats.chisquare(observed, expected * observed.sum() / expected.sum()).pvalue > 1e-3


@pytest.mark.parametrize("name", NAMES)
def test_elbo_is_on_average_below_the_log_mass_of_the_cell_with_its_tails(pair_models, name):
    model, levels = pair_models[name], PAIR.levels
    images = make_dataset(PAIR).test.images[:30]
    torch.manual_seed(7)
    elbo = model.log_dequantized_density(images, 5000).mean(0).numpy()
    for image, bound in zip(images.flatten(1).numpy().astype(float), elbo, strict=True):
        lower = np.where(image == 0, -60, image)
        upper = np.where(image == levels - 1, 60, image + 1)
        assert bound < math.log(box_mass(model, lower, upper))


@pytest.mark.parametrize("covariance", ["diagonal", "full"])
def test_pixels_that_never_vary_have_the_variance_of_the_noise(covariance):
    values = make_dataset(SPEC).train.images.clone()
    values[:, :, 0] = 3
    split = harness.Split(values)
    data = harness.Dataset("constant rows", SPEC, split, split, split)
    constant = [0, 1, 2]
    gaussian = fitted(Gaussian(SPEC), data)
    np.testing.assert_allclose(np.diag(reference_components(gaussian)[0][2])[constant], 1 / 12, rtol=1e-9)
    mixture = fitted(MixtureOfGaussians(SPEC, components=2, covariance=covariance), data)
    for _, mean, matrix in reference_components(mixture):
        np.testing.assert_allclose(np.diag(matrix)[constant], 1 / 12, rtol=1e-9)
        np.testing.assert_allclose(mean[constant], 3.5, rtol=1e-12)


def test_one_full_component_is_the_gaussian():
    data = make_dataset(SPEC)
    one, reference = (
        fitted(MixtureOfGaussians(SPEC, components=1, covariance="full"), data),
        fitted(Gaussian(SPEC), data),
    )
    torch.testing.assert_close(one.mean[0], reference.mean)
    torch.testing.assert_close(one.scale[0], reference.cholesky)


def start(points, covariance, *, components=3, seed=1):
    """Components at randomly chosen points, with the covariance of all points."""
    rng = np.random.default_rng(seed)
    means = torch.from_numpy(points[rng.choice(len(points), components, replace=False)])
    pooled = torch.from_numpy(np.cov(points.T, bias=True))
    scale = pooled.diagonal().sqrt() if covariance == "diagonal" else torch.linalg.cholesky(pooled)
    weights = torch.full((components,), -math.log(components), dtype=torch.float64)
    return Components(weights, means, scale.expand(components, *scale.shape).clone())


@pytest.mark.parametrize("covariance", ["diagonal", "full"])
def test_em_follows_scikit_learn_from_the_same_start(covariance):
    points = make_dataset(SPEC).train.images.flatten(1).double().numpy()
    points += np.random.default_rng(0).random(points.shape)
    state, iterations = start(points, covariance), 25
    kind = {"diagonal": "diag", "full": "full"}[covariance]
    inverse = [s.square().reciprocal() if s.ndim == 1 else torch.linalg.inv(s @ s.T) for s in state.scale]
    reference = GaussianMixture(
        3, covariance_type=kind, reg_covar=0, max_iter=iterations, tol=1e-300, weights_init=np.full(3, 1 / 3),
        means_init=state.mean.numpy(), precisions_init=torch.stack(inverse).numpy(),
    )  # fmt: skip
    with pytest.warns(UserWarning, match="did not converge"):
        reference.fit(points)
    for _ in range(iterations):
        state, _ = em_step(torch.from_numpy(points), state, noise_variance=0.0)
    _, log_likelihood = em_step(torch.from_numpy(points), state, noise_variance=0.0)
    assert log_likelihood == pytest.approx(reference.score(points), rel=1e-9)
    np.testing.assert_allclose(state.mean.numpy(), reference.means_, rtol=1e-6)
    np.testing.assert_allclose(state.log_weights.exp().numpy(), reference.weights_, rtol=1e-6)


@pytest.mark.parametrize("covariance", ["diagonal", "full"])
@pytest.mark.parametrize("noise_variance", [0.0, 1 / 12], ids=["no noise", "uniform noise"])
def test_em_never_lowers_its_objective(covariance, noise_variance):
    points = make_dataset(SPEC).train.images.flatten(1).double().numpy()
    points += np.random.default_rng(0).random(points.shape) if noise_variance == 0 else 0
    state, objectives = start(points, covariance), []
    for _ in range(60):
        state, objective = em_step(torch.from_numpy(points), state, noise_variance=noise_variance)
        objectives.append(objective)
    steps = np.diff(objectives)
    assert steps.min() > -1e-11
    assert steps[0] > 1e-2


@pytest.mark.parametrize("covariance", ["diagonal", "full"])
def test_em_objective_is_at_most_the_expected_log_density_under_noise(covariance):
    images = make_dataset(SPEC).train.images.flatten(1).double()
    state = start(images.numpy(), covariance)
    for _ in range(5):
        state, _ = em_step(images, state, noise_variance=1 / 12)
    _, objective = em_step(images, state, noise_variance=1 / 12)
    noise = torch.rand(200, *images.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) - 0.5
    draws = torch.stack([state.log_joint(images + u).logsumexp(1).mean() for u in noise])
    assert objective < draws.mean().item() + 4 * draws.std().item() / math.sqrt(len(draws))
    assert objective > draws.mean().item() - 0.2


def test_one_component_has_no_gap_between_objective_and_expected_log_density():
    images = make_dataset(SPEC).train.images.flatten(1).double()
    state = start(images.numpy(), "full", components=1)
    _, objective = em_step(images, state, noise_variance=1 / 12)
    noise = torch.rand(400, *images.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) - 0.5
    draws = torch.stack([state.log_joint(images + u).logsumexp(1).mean() for u in noise])
    assert objective == pytest.approx(draws.mean().item(), abs=4 * draws.std().item() / math.sqrt(len(draws)))


@pytest.mark.parametrize("covariance", ["diagonal", "full"])
def test_a_component_that_no_image_belongs_to_is_kept_as_it_was(covariance):
    points = make_dataset(SPEC).train.images.flatten(1).double().numpy()
    state = start(points, covariance)
    state.mean[1] = 1e6
    new, objective = em_step(torch.from_numpy(points), state, noise_variance=1 / 12)
    assert math.isfinite(objective)
    assert torch.equal(new.mean[1], state.mean[1])
    assert torch.equal(new.scale[1], state.scale[1])
    assert new.log_weights.exp().sum().item() == pytest.approx(1, abs=1e-12)


def test_bad_hyperparameters_are_refused_by_their_value():
    with pytest.raises(ValueError, match="components must be positive, not 0"):
        MixtureOfGaussians(SPEC, components=0)
    with pytest.raises(ValueError, match="covariance must be one of 'diagonal', 'full', not 'spherical'"):
        MixtureOfGaussians(SPEC, covariance="spherical")


def test_covariances_too_large_to_hold_are_unsupported():
    with pytest.raises(harness.Unsupported, match="10 full covariances of 49152 dimensions"):
        MixtureOfGaussians(harness.ImageSpec(3, 128, 128, 256), covariance="full")
