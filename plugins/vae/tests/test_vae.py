"""The VAE's and the IWAE's probabilities, bounds and gradients against integrals, enumeration and scipy."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import scipy.integrate
import scipy.stats
import torch
import torch.nn.functional as F
from numpy.polynomial.hermite_e import hermegauss

import harness
from harness_vae import hierarchy
from harness_vae.iwae import IWAE
from harness_vae.pixels import sum_softplus
from harness_vae.vae import VAE

BINARY = harness.ImageSpec(1, 2, 2, 2)
BINARY_3X3 = harness.ImageSpec(1, 3, 3, 2)
THREE_LEVELS = harness.ImageSpec(1, 2, 2, 3)
COLOUR = harness.ImageSpec(3, 1, 1, 4)


def all_images(spec):
    values = itertools.product(range(spec.levels), repeat=spec.num_dimensions)
    return torch.tensor(list(values), dtype=torch.uint8).view(-1, *spec.shape)


def model_with_random_weights(cls=VAE, spec=BINARY, latents=(1,), **hyperparameters):
    torch.manual_seed(3)
    model = cls(spec, latents=latents, hidden=(5,) * len(latents), **hyperparameters).double()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.normal_(0, 0.6 if name.startswith("pixel") else 0.3)
            if name.startswith("encoders") and name.endswith("log_variance.bias"):
                parameter.add_(1)  # a posterior wider than the prior: weights of finite variance
        model.pixel_mean.uniform_(0.2, 0.8)
    return model


def gauss_hermite(size, points):
    """Nodes (M, size) and weights (M,) of the expectation under N(0, I)."""
    nodes, weights = hermegauss(points)
    grid = np.array(list(itertools.product(nodes, repeat=size)))
    products = np.array(list(itertools.product(weights / weights.sum(), repeat=size))).prod(1)
    return torch.from_numpy(grid), torch.from_numpy(products)


def numpy_gaussian(network, inputs):
    for layer in network.features.layers:
        inputs = np.tanh(inputs @ layer.weight.detach().numpy().T + layer.bias.detach().numpy())
    mean = inputs @ network.mean.weight.detach().numpy().T + network.mean.bias.detach().numpy()
    log_variance = inputs @ network.log_variance.weight.detach().numpy().T + network.log_variance.bias.detach().numpy()
    return mean, np.exp(0.5 * log_variance)


def numpy_level_probabilities(model, latents):
    """(..., units of h_1) to (..., D, levels)."""
    for layer in model.pixel_features.layers:
        latents = np.tanh(latents @ layer.weight.detach().numpy().T + layer.bias.detach().numpy())
    logits = latents @ model.pixels.linear.weight.detach().numpy().T + model.pixels.linear.bias.detach().numpy()
    if model.spec.levels == 2:
        ones = 1 / (1 + np.exp(-logits))
        return np.stack([1 - ones, ones], -1)
    logits = np.swapaxes(logits.reshape(*logits.shape[:-1], model.spec.levels, -1), -1, -2)
    return np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)


def numpy_image_probability(model, images, latents):
    """(N, C, H, W) and (M, units of h_1) to (M, N)."""
    probabilities = numpy_level_probabilities(model, latents)
    flat = images.flatten(1).numpy()
    return np.stack([probabilities[:, range(flat.shape[1]), image].prod(-1) for image in flat], 1)


def integrated_probability(model, images, points=None):
    """p(image) of every image by Gauss-Hermite quadrature, layer by layer from the top."""
    points = points or {1: 80, 2: 48, 3: 28}[sum(model.latents)]
    grid, weights = gauss_hermite(model.latents[-1], points)
    latents, weights = grid.numpy(), weights.numpy()
    for decoder, size in zip(reversed(model.decoders), model.latents[-2::-1], strict=True):
        noise, noise_weights = gauss_hermite(size, points)
        mean, deviation = numpy_gaussian(decoder, latents)
        latents = (mean[:, None] + deviation[:, None] * noise.numpy()).reshape(-1, size)
        weights = (weights[:, None] * noise_weights.numpy()).flatten()
    return weights @ numpy_image_probability(model, images, latents)


def test_quadrature_agrees_with_adaptive_integration_on_every_image():
    model, images = model_with_random_weights(), all_images(BINARY)
    adaptive, _ = scipy.integrate.quad_vec(
        lambda h: np.exp(-h * h / 2) * numpy_image_probability(model, images, np.array([[h]]))[0], -12, 12
    )
    adaptive /= math.sqrt(2 * math.pi)
    np.testing.assert_allclose(integrated_probability(model, images), adaptive, rtol=1e-6)


@pytest.mark.parametrize("latents", [(1,), (2,), (1, 1), (1, 2)])
@pytest.mark.parametrize("spec", [BINARY, THREE_LEVELS, COLOUR], ids=["binary", "three levels", "colour"])
def test_the_mean_weight_of_every_image_is_its_integrated_probability(spec, latents):
    model, images = model_with_random_weights(spec=spec, latents=latents), all_images(spec)
    torch.manual_seed(0)
    with torch.no_grad():
        weights = model.log_importance_weights(images, 4000).exp()
    expected = integrated_probability(model, images)
    errors = (weights.mean(0).numpy() - expected) / (weights.std(0) / math.sqrt(4000)).numpy()
    assert expected.sum() == pytest.approx(1, abs=1e-9)
    assert np.abs(errors).max() < 4.5
    assert (errors**2).mean() < 1.6


def elbo_by_integration(model, images):
    """One stochastic layer of one unit: E_q[log p(h) + log p(x | h) - log q(h | x)] by quadrature over q."""
    noise, weights = gauss_hermite(1, 80)
    inputs = images.flatten(1).numpy() / (model.spec.levels - 1) - model.pixel_mean.numpy()
    mean, deviation = numpy_gaussian(model.encoders[0], inputs)
    bounds = []
    for image, centre, scale in zip(images.split(1), mean, deviation, strict=True):
        latents = centre + scale * noise.numpy()
        log_likelihood = np.log(numpy_image_probability(model, image, latents)[:, 0])
        log_ratio = scipy.stats.norm.logpdf(latents) - scipy.stats.norm.logpdf(latents, centre, scale)
        bounds.append(weights.numpy() @ (log_likelihood + log_ratio[:, 0]))
    return np.array(bounds)


def test_the_elbo_is_its_integral_and_at_most_the_log_probability():
    model, images = model_with_random_weights(), all_images(BINARY)
    torch.manual_seed(0)
    with torch.no_grad():
        draws = torch.stack([model.elbo(images) for _ in range(1000)])
    expected = elbo_by_integration(model, images)
    errors = (draws.mean(0).numpy() - expected) / (draws.std(0) / math.sqrt(1000)).numpy()
    assert np.abs(errors).max() < 4.5
    assert (expected <= np.log(integrated_probability(model, images))).all()


@pytest.mark.parametrize("latents", [(3,), (3, 2), (2, 3, 1)])
@pytest.mark.parametrize("spec", [BINARY_3X3, COLOUR], ids=["binary", "colour"])
def test_weights_are_log_p_minus_log_q_by_scipy_under_the_same_noise(spec, latents):
    model, images = model_with_random_weights(spec=spec, latents=latents), all_images(spec)[5:12]
    torch.manual_seed(1)
    weights = model.log_importance_weights(images, 6).detach()
    torch.manual_seed(1)
    noise = [torch.randn(6, 7, size, dtype=torch.float64).numpy() for size in latents]
    flat = np.broadcast_to(images.flatten(1).numpy(), (6, 7, spec.num_dimensions))
    inputs = flat / (spec.levels - 1) - model.pixel_mean.numpy()
    values, log_posterior = [], 0.0
    for encoder, layer_noise in zip(model.encoders, noise, strict=True):
        mean, deviation = numpy_gaussian(encoder, inputs)
        inputs = mean + deviation * layer_noise
        values.append(inputs)
        log_posterior = log_posterior + scipy.stats.norm.logpdf(inputs, mean, deviation).sum(-1)
    log_joint = scipy.stats.norm.logpdf(values[-1]).sum(-1)
    for decoder, below, above in zip(model.decoders, values, values[1:], strict=False):
        log_joint = log_joint + scipy.stats.norm.logpdf(below, *numpy_gaussian(decoder, above)).sum(-1)
    probabilities = numpy_level_probabilities(model, values[0])
    if spec.levels == 2:
        log_likelihood = scipy.stats.bernoulli.logpmf(flat, probabilities[..., 1]).sum(-1)
    else:
        log_likelihood = np.log(np.take_along_axis(probabilities, flat[..., None].astype(int), -1)).sum((-1, -2))
    np.testing.assert_allclose(weights.numpy(), log_joint + log_likelihood - log_posterior, rtol=1e-10)


@pytest.mark.parametrize("latents", [(3,), (3, 2)])
def test_prior_and_likelihood_of_top_first_latents_rebuild_the_weights(latents):
    model, images = model_with_random_weights(spec=BINARY_3X3, latents=latents), all_images(BINARY_3X3)[100:104]
    torch.manual_seed(2)
    weights = model.log_importance_weights(images, 1)[0]
    torch.manual_seed(2)
    values, log_posterior, inputs = [], 0.0, images.flatten(1) - model.pixel_mean
    for encoder, size in zip(model.encoders, latents, strict=True):
        posterior = encoder(inputs)
        noise = torch.randn(1, 4, size, dtype=torch.float64)[0]
        inputs = posterior.mean + (0.5 * posterior.log_variance).exp() * noise
        values.append(inputs)
        log_posterior = log_posterior - 0.5 * (noise**2 + posterior.log_variance + math.log(2 * math.pi)).sum(1)
    joint = torch.cat(values[::-1], dim=1)
    torch.testing.assert_close(model.log_prior(joint) + model.log_likelihood(images, joint) - log_posterior, weights)


@pytest.mark.parametrize("spec", [BINARY_3X3, THREE_LEVELS, COLOUR], ids=["binary", "three levels", "colour"])
def test_the_decoder_sums_to_one_over_all_images_and_decode_is_its_expectation(spec):
    model, images = model_with_random_weights(spec=spec, latents=(2, 1)), all_images(spec)
    for latents in torch.randn(5, 3, dtype=torch.float64):
        probabilities = model.log_likelihood(images, latents.expand(len(images), -1)).exp()
        assert probabilities.sum().item() == pytest.approx(1, abs=1e-12)
        expected = torch.einsum("n,nchw->chw", probabilities, images.double())
        torch.testing.assert_close(model.decode(latents[None])[0], expected)


def test_samples_drawn_in_several_blocks_are_as_many_as_asked_for_and_distinct(monkeypatch):
    model = model_with_random_weights(spec=BINARY_3X3, latents=(2,))
    monkeypatch.setattr(hierarchy, "_SAMPLED_ENTRIES", 18 * 7)
    torch.manual_seed(0)
    samples = model.sample(24)
    assert samples.shape == (24, 1, 3, 3)
    assert not torch.equal(samples[:7], samples[7:14])


def parameter_gradients(model, value):
    gradients = torch.autograd.grad(value, list(model.parameters()), retain_graph=True, allow_unused=True)
    return torch.cat([gradient.flatten() for gradient in gradients if gradient is not None])


@pytest.mark.parametrize("latents", [(2,), (2, 1)])
def test_the_gradient_of_the_iwae_objective_is_the_weighted_mean_of_gradients_of_log_weights(latents):
    model = model_with_random_weights(IWAE, BINARY_3X3, latents, num_samples=7)
    image = all_images(BINARY_3X3)[77:78]
    torch.manual_seed(4)
    gradient = parameter_gradients(model, model.objective(image, model.num_samples).sum())
    torch.manual_seed(4)
    log_weights = model.log_importance_weights(image, 7)[:, 0]
    normalized = log_weights.detach().softmax(0)
    expected = sum(w * parameter_gradients(model, log_w) for w, log_w in zip(normalized, log_weights, strict=True))
    torch.testing.assert_close(gradient, expected)


def test_the_vae_objective_is_the_mean_log_weight():
    model, images = model_with_random_weights(VAE, BINARY_3X3, (2,), num_samples=7), all_images(BINARY_3X3)[:5]
    torch.manual_seed(4)
    objective = model.objective(images, model.num_samples)
    torch.manual_seed(4)
    torch.testing.assert_close(objective, model.log_importance_weights(images, 7).sum(0) / 7)


def test_weights_do_not_depend_on_how_samples_are_split_into_blocks(monkeypatch):
    model, images = model_with_random_weights(spec=BINARY_3X3, latents=(2, 3)), all_images(BINARY_3X3)[:20]
    torch.manual_seed(0)
    whole = model.log_importance_weights(images, 9)
    monkeypatch.setattr(hierarchy, "_BLOCK_ROWS", 40)
    torch.manual_seed(0)
    torch.testing.assert_close(model.log_importance_weights(images, 9), whole)


def test_codes_are_the_means_along_the_mean_path_top_level_first():
    model, images = model_with_random_weights(spec=COLOUR, latents=(3, 2)), all_images(COLOUR)
    bottom, _ = numpy_gaussian(model.encoders[0], images.flatten(1).numpy() / 3 - model.pixel_mean.numpy())
    top, _ = numpy_gaussian(model.encoders[1], bottom)
    assert model.latent_sizes == (2, 3)
    np.testing.assert_allclose(model.encode(images).detach().numpy(), np.concatenate([top, bottom], 1), rtol=1e-12)


@pytest.mark.parametrize("size", [3, 8, 29])
def test_sum_softplus_is_the_sum_of_softplus_and_its_gradient_the_sigmoid(size):
    logits = torch.linspace(-200, 200, 11 * size, dtype=torch.float64).view(11, size)[:, torch.randperm(size)]
    logits.requires_grad_()
    total = sum_softplus(logits)
    torch.testing.assert_close(total, F.softplus(logits, threshold=1000).sum(-1), rtol=1e-13, atol=1e-13)
    torch.testing.assert_close(torch.autograd.grad(total.sum(), logits)[0], logits.sigmoid())
    single = sum_softplus(logits.detach().float())
    torch.testing.assert_close(single.double(), total.detach(), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("spec", [BINARY_3X3, COLOUR], ids=["binary", "colour"])
def test_training_starts_from_the_frequencies_of_the_training_images(spec):
    torch.manual_seed(0)
    images = torch.randint(spec.levels, (2500, *spec.shape), dtype=torch.uint8)
    images[:, 0, 0, 0] = 1  # a level that is never seen is not impossible
    split = harness.Split(images)
    data = harness.Dataset("random", spec, split, split, split)
    model = VAE(spec, learning_rate=1e-12).double()
    model.fit(data, harness.Trainer(model, data, budget=harness.Budget.parse("1 steps")))
    counted = torch.stack([(images == level).double().mean(0).flatten() for level in range(spec.levels)])
    frequencies = 0.999 * counted + 0.001 / spec.levels
    expected = torch.arange(spec.levels, dtype=torch.float64) @ frequencies
    torch.testing.assert_close(model.pixel_mean, expected / (spec.levels - 1))
    drawn = model.pixels.expected(torch.zeros(1, 200, dtype=torch.float64))
    torch.testing.assert_close(drawn.flatten(), expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("latents", [(2,), (2, 1)])
def test_fit_learns_two_equally_likely_images_to_a_twentieth_of_a_nat(latents):
    pair = torch.tensor([[0, 1, 2, 2, 1, 0], [2, 2, 0, 1, 1, 2]], dtype=torch.uint8).view(2, 1, 2, 3)
    split = harness.Split(pair.repeat(10, 1, 1, 1))
    data = harness.Dataset("pair", harness.ImageSpec(1, 2, 3, 3), split, split, split)
    torch.manual_seed(0)
    model = IWAE(data.spec, latents=latents, hidden=(16,) * len(latents), num_samples=20, learning_rate=0.02,
                 epsilon=1e-8, schedule="cosine")  # fmt: skip
    model.fit(data, harness.Trainer(model, data, budget=harness.Budget.parse("300 steps")))
    torch.manual_seed(1)
    with torch.no_grad():
        log_prob = model.log_importance_weights(pair, 4000).double().logsumexp(0) - math.log(4000)
    assert (-log_prob).mean().item() == pytest.approx(math.log(2), abs=0.05)


@pytest.mark.parametrize(
    ("hyperparameters", "message"),
    [
        ({"latents": ()}, r"latents must be one positive number or more, not \(\)"),
        ({"latents": (5, 0), "hidden": (8, 8)}, r"latents must be one positive number or more, not \(5, 0\)"),
        ({"latents": (5, 3)}, r"hidden=\(200,\) needs one width for each of latents=\(5, 3\)"),
        ({"num_samples": 0}, "num_samples must be positive, not 0"),
        ({"schedule": "steps"}, "schedule must be one of 'constant', 'linear', 'cosine', 'stages', not 'steps'"),
        ({"sample_schedule": "early"}, "sample_schedule must be one of 'constant', 'late', not 'early'"),
        ({"learning_rate": 0.0}, "learning_rate must be positive, not 0.0"),
    ],
)
def test_a_hyperparameter_out_of_range_is_named_with_its_value(hyperparameters, message):
    with pytest.raises(ValueError, match=message):
        VAE(BINARY, **hyperparameters)


def test_the_late_schedule_goes_from_one_sample_to_all_of_them():
    model = IWAE(BINARY, num_samples=50, sample_schedule="late")
    counts = [model.samples_at(fraction) for fraction in (0.0, 0.6, 0.7, 0.8, 0.9, 1.0)]
    assert counts == [1, 1, 3, 7, 19, 50]  # 50^f for f = 0, 0, 1/4, 1/2, 3/4, 1: 1, 1, 2.66, 7.07, 18.8, 50


@pytest.mark.parametrize("latents", [(2,), (3, 2)])
def test_layers_cost_what_the_bound_takes_from_the_likelihood(monkeypatch, latents):
    model, images = model_with_random_weights(latents=latents), all_images(BINARY)
    monkeypatch.setattr(torch, "randn_like", torch.zeros_like)
    monkeypatch.setattr(hierarchy, "standard_noise", lambda shape, like: torch.zeros(shape, dtype=like.dtype))
    costs = model.layer_divergences(images)
    assert costs.shape == (16, len(latents))
    torch.testing.assert_close(model.log_likelihood(images, model.encode(images)) - costs.sum(1), model.elbo(images))
