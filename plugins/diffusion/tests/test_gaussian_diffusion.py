"""Bounds and samplers, with the exact mean of the noise in place of a network."""

from __future__ import annotations

import itertools
import math
from typing import Any

import pytest
import torch
from scipy import stats
from torch import Tensor
from torch.distributions import Normal, kl_divergence

from harness import ImageSpec
from harness_diffusion.ddpm import DDPM, discretized_log_prob
from harness_diffusion.denoiser import Denoiser
from harness_diffusion.gaussian_diffusion import GaussianDiffusion, divergence
from harness_diffusion.vdm import VDM, MonotoneGamma

PAIR = ImageSpec(1, 1, 2, levels=3)
PAIRS = torch.tensor(list(itertools.product(range(3), repeat=2)), dtype=torch.uint8).view(-1, 1, 1, 2)
PROBABILITIES = torch.tensor([0.3, 0.02, 0.08, 0.1, 0.1, 0.05, 0.05, 0.1, 0.2], dtype=torch.float64)
GREY = ImageSpec(1, 1, 1, levels=256)
FIXED: dict[type, dict[str, Any]] = {VDM: {}, DDPM: {"variance": "small"}}
MEAN, DEVIATION = 0.2, 0.15  # of the Gaussian dataset


def _of_pairs(model: GaussianDiffusion) -> GaussianDiffusion:
    """Returns the model with E[noise | z] where images are PAIRS with PROBABILITIES."""

    def predict(z: Tensor, gamma: Tensor) -> tuple[Tensor, Tensor]:
        noise = _noise(z[:, None], model.points(PAIRS), gamma)  # (N, M, 1, 1, 2)
        posterior = (PROBABILITIES.log() - noise.square().flatten(2).sum(2) / 2).softmax(1)
        return (posterior[:, :, None, None, None] * noise).sum(1), torch.zeros_like(z)

    model.predict = predict  # type: ignore[method-assign]
    return model


def _of_gaussian(model: GaussianDiffusion, share: float) -> GaussianDiffusion:
    """Returns the model with E[noise | z] where f is Gaussian."""

    def predict(z: Tensor, gamma: Tensor) -> tuple[Tensor, Tensor]:
        alpha, sigma = _alpha_sigma(gamma)
        return sigma * (z - alpha * MEAN) / (sigma**2 + alpha**2 * DEVIATION**2), torch.full_like(z, share)

    model.predict = predict  # type: ignore[method-assign]
    return model


def _alpha_sigma(gamma: Tensor) -> tuple[Tensor, Tensor]:
    gamma = gamma[:, None, None, None]
    return (-gamma).sigmoid().sqrt(), gamma.sigmoid().sqrt()


def _noise(z: Tensor, points: Tensor, gamma: Tensor) -> Tensor:
    alpha, sigma = _alpha_sigma(gamma)
    return (z - alpha[:, None] * points) / sigma[:, None]


def _make(kind: type[GaussianDiffusion], spec: ImageSpec, **options: Any) -> GaussianDiffusion:
    return kind(spec, width=4, **options).double().eval()


@pytest.mark.parametrize(
    ("kind", "options"), [(VDM, {}), (DDPM, {"variance": "small"}), (DDPM, {"variance": "small", "betas": "linear"})]
)
def test_with_the_exact_noise_the_bound_is_log_p_but_for_the_steps(kind: type, options: dict[str, Any]) -> None:
    gaps, errors = [], []
    for steps, repeats in ((20, 400), (200, 200)):
        model = _of_pairs(_make(kind, PAIR, num_steps=steps, scored_steps=steps, **options))
        bounds = model.elbo(PAIRS.repeat(repeats, 1, 1, 1)).view(repeats, len(PAIRS))
        gaps.append(float(PROBABILITIES @ (PROBABILITIES.log() - bounds.mean(0))))
        errors.append(float((bounds @ PROBABILITIES).std()) / repeats**0.5)
    assert -4 * errors[1] < gaps[1] < gaps[0] / 3 + 4 * sum(errors)
    assert gaps[0] > 4 * errors[0]
    assert errors[1] < 0.02


@pytest.mark.parametrize(
    ("kind", "share", "options"),
    [(VDM, 0.0, {"lowest_gamma": 2 * math.log(1 / 128)}), (DDPM, 1.0, {"variance": "large"})],
)
def test_on_gaussian_data_the_bound_is_the_log_likelihood(kind: type, share: float, options: dict[str, Any]) -> None:
    images = torch.arange(70, 240, dtype=torch.uint8).view(-1, 1, 1, 1)
    model = _of_gaussian(_make(kind, GREY, num_steps=500, scored_steps=500, **options), share)
    points = model.points(images).flatten()
    exact = torch.as_tensor(stats.norm.logpdf(points, MEAN, DEVIATION)) + (points[1] - points[0]).log()
    gaps = exact - model.elbo(images.repeat(8, 1, 1, 1)).view(8, len(images))
    error = float(gaps.std()) / gaps.numel() ** 0.5
    assert -4 * error < float(gaps.mean()) < 0.06 + 4 * error
    assert error < 0.03


@pytest.mark.parametrize("kind", [VDM, DDPM])
def test_images_are_drawn_from_what_is_scored(kind: type) -> None:
    model = _of_pairs(_make(kind, PAIR, num_steps=60, scored_steps=10, **FIXED[kind]))
    drawn = model.sample(2000).flatten(1).long()
    counts = torch.bincount(3 * drawn[:, 0] + drawn[:, 1], minlength=9)
    assert stats.chisquare(counts, 2000 * PROBABILITIES).pvalue > 1e-4


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_a_step_is_the_divergence_of_two_gaussians_by_the_rule_of_bayes(share: float) -> None:
    before, after = torch.tensor([-1.3], dtype=torch.float64), torch.tensor([0.4], dtype=torch.float64)
    (alpha_s, sigma_s), (alpha_t, sigma_t) = (_alpha_sigma(gamma) for gamma in (before, after))
    point, noise, predicted = (torch.randn(1, 1, 2, 2, dtype=torch.float64) for _ in range(3))
    z, ratio = alpha_t * point + sigma_t * noise, alpha_t / alpha_s
    forward = sigma_t**2 - ratio**2 * sigma_s**2  # Var q(z_t | z_s)

    def posterior(point: Tensor) -> tuple[Tensor, Tensor]:  # of z_s given z_t
        precision = 1 / sigma_s**2 + ratio**2 / forward
        return (alpha_s * point / sigma_s**2 + ratio * z / forward) / precision, 1 / precision

    mean, variance = posterior(point)
    model_mean, _ = posterior((z - sigma_t * predicted) / alpha_t)
    model_variance = forward**share * variance ** (1 - share)
    exact = kl_divergence(Normal(mean, variance.sqrt()), Normal(model_mean, model_variance.sqrt())).sum()
    shares = torch.full_like(point, share)
    assert torch.allclose(divergence(predicted - noise, shares, before, after), exact)


def test_a_step_back_has_the_mean_and_the_variance_that_are_scored() -> None:
    model = _of_gaussian(_make(DDPM, ImageSpec(1, 8, 8, levels=256), num_steps=2, scored_steps=1), 0.7)
    first, last = (z.flatten() for z in model.ancestral(400))
    (alpha_s, sigma_s), (alpha_t, sigma_t) = (_alpha_sigma(gamma[None]) for gamma in model.gammas()[1:])
    ratio = alpha_t / alpha_s
    forward = sigma_t**2 - ratio**2 * sigma_s**2
    noise, _ = model.predict(first, model.gammas()[2:])
    mean = (first - forward / sigma_t * noise) / ratio
    residual = (last - mean).flatten()
    variance = forward**0.7 * (forward * sigma_s**2 / sigma_t**2) ** 0.3
    assert abs(float(residual.mean())) < 4 * float(variance.sqrt()) / len(residual) ** 0.5
    assert abs(float(residual.var() / variance) - 1) < 4 * (2 / len(residual)) ** 0.5


def test_an_estimate_of_few_steps_has_the_mean_of_the_whole_bound() -> None:
    model = _of_pairs(_make(VDM, PAIR, num_steps=12, scored_steps=12))
    images = PAIRS.repeat(1000, 1, 1, 1)
    whole = model.elbo(images)
    model.scored_steps = 5
    part = model.elbo(images)
    error = ((whole.var() + part.var()) / len(images)) ** 0.5
    assert abs(float(whole.mean() - part.mean())) < 4 * float(error)


@torch.no_grad()
def test_the_loss_of_a_vdm_is_the_bound_of_its_steps() -> None:
    model = _make(VDM, PAIR, num_steps=200, scored_steps=200, averaging=0)
    images = PAIRS.repeat(300, 1, 1, 1)
    losses = torch.stack([model.loss(images) for _ in range(10)])
    bound = model.elbo(images)
    model.predict = lambda z, gamma: (_noise(z[:, None], points[:, None], gamma)[:, 0], torch.zeros_like(z))  # type: ignore[method-assign]
    points = model.points(images)
    rest = model.elbo(images)  # without the steps, as the noise is known
    error = float(losses.mean(1).std()) / 10**0.5 + float(bound.std()) / len(images) ** 0.5
    assert abs(float(losses.mean() - (rest - bound).mean())) < 4 * error


@pytest.mark.parametrize("kind", [VDM, DDPM])
def test_fewer_steps_are_another_model_and_leave_this_one_as_it_is(kind: type) -> None:
    model = _make(kind, PAIR, num_steps=12, scored_steps=3)
    fewer = model.with_steps(4)
    assert torch.allclose(fewer.gammas()[1:], model.gammas()[3::3])
    assert (model.num_steps, model.scored_steps, fewer.num_steps, fewer.scored_steps) == (12, 3, 4, 4)
    assert len(list(fewer.ancestral(2))) == 6 - kind.first_step
    assert torch.equal(model.with_steps(12).gammas(), model.gammas())


@pytest.mark.parametrize("kind", [VDM, DDPM])
def test_images_are_scored_and_drawn_by_the_averaged_weights(kind: type) -> None:
    model = _make(kind, PAIR, num_steps=4, scored_steps=4)
    for parameter in model.network.parameters():
        parameter.data.fill_(math.nan)
    assert model.elbo(PAIRS).isfinite().all()
    assert len(model.sample(3)) == 3
    for parameter in model.weights.parameters():
        parameter.data.fill_(math.nan)
    assert model.elbo(PAIRS).isnan().all()


def test_levels_are_drawn_from_the_softmax_and_not_its_largest_value() -> None:
    model = _make(VDM, GREY)
    alpha, _ = _alpha_sigma(model.gammas()[:1])
    between = alpha * (model.points(torch.tensor([[[[100]]]])) + model.points(torch.tensor([[[[101]]]]))) / 2
    drawn = model.draw(between.expand(1000, 1, 1, 1))
    assert 400 < int((drawn == 100).sum()) < 600
    assert set(drawn.flatten().tolist()) == {100, 101}


def test_the_probabilities_of_all_levels_sum_to_one_given_the_last_z() -> None:
    levels = torch.arange(256, dtype=torch.uint8).view(-1, 1, 1, 1)
    model = _make(VDM, GREY, lowest_gamma=-6.0)
    alpha, sigma = _alpha_sigma(model.gammas()[:1])
    noise = (alpha * (0.3 - model.points(levels))) / sigma  # so that all have the same z
    assert abs(float(model.reconstruction(levels, noise).exp().sum()) - 1) < 1e-9


@pytest.mark.parametrize(("mean", "deviation"), [(0.1, 0.3), (-1.7, 0.002), (1.0, 0.01), (0.0, 40.0)])
def test_a_discretized_gaussian_is_the_mass_of_intervals_and_sums_to_one(mean: float, deviation: float) -> None:
    levels = torch.arange(5, dtype=torch.uint8)
    mean_, deviation_ = (torch.full((5,), value, dtype=torch.float64) for value in (mean, deviation))
    probabilities = discretized_log_prob(levels, mean_, deviation_, 5).exp()
    edges = stats.norm.cdf([-math.inf, -0.75, -0.25, 0.25, 0.75, math.inf], mean, deviation)
    assert torch.allclose(probabilities, torch.as_tensor(edges[1:] - edges[:-1]), atol=1e-12)
    assert abs(float(probabilities.sum()) - 1) < 1e-12


def test_a_learned_gamma_rises_between_its_ends() -> None:
    gamma = MonotoneGamma(-9.0, 4.0, learned=True).double()
    torch.nn.init.normal_(gamma.log_rises)
    values = gamma(torch.linspace(0, 1, 200, dtype=torch.float64))
    assert (values.diff() > 0).all()
    assert torch.allclose(values[[0, -1]], torch.tensor([-9.0, 4.0], dtype=torch.float64))


def test_where_all_pixels_are_black_the_noise_is_known() -> None:
    denoiser = Denoiser(ImageSpec(1, 2, 2, levels=256), lowest=-1.0, highest=1.0, width=4, blocks=1).double()
    noise, gamma = torch.randn(5, 1, 2, 2, dtype=torch.float64), torch.tensor([-12.0], dtype=torch.float64)
    alpha, sigma = _alpha_sigma(gamma)
    last = denoiser.network.network.last
    last.bias.data[:4] = 60.0  # odds of the lowest level
    assert torch.allclose(denoiser(sigma * noise - alpha, gamma)[0], noise)
