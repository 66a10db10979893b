"""Deep Diffusion's bounds against closed forms and enumeration, and its kernels against their chains."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from torch.distributions import Normal, kl_divergence

from harness import ImageSpec, Unsupported
from harness_diffusion.binomial_kernel import BinomialKernel
from harness_diffusion.deep_diffusion import DeepDiffusion
from harness_diffusion.gaussian_kernel import GaussianKernel

PIXEL = ImageSpec(1, 1, 1, 256)
PAIR = ImageSpec(1, 1, 2, 256)
BINARY = ImageSpec(1, 1, 2, 2)
SMALL = {"maps": 4, "layers": 1, "dense": 8, "readout": 6}


def all_images(spec):
    values = itertools.product(range(spec.levels), repeat=spec.num_dimensions)
    return torch.tensor(list(values), dtype=torch.uint8).view(-1, *spec.shape)


def built(spec, *, random=0.0, **hyperparameters):
    torch.manual_seed(0)
    model = DeepDiffusion(spec, **{**SMALL, **hyperparameters}).double().eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(random * torch.randn_like(parameter))
    return model


@torch.no_grad()
def bound(model, images, draws=4000, parts=None):
    """The mean of many estimates of the bound, (N,) nats, and its standard error."""
    parts = model.kernel.num_steps if parts is None else parts
    each = model.estimate(images.repeat(draws, 1, 1, 1), parts).view(draws, len(images))
    return each.mean(0), each.std(0) / math.sqrt(draws)


def test_the_gaussian_bound_of_one_step_is_the_standard_gaussian_on_standardised_pixels():
    model = built(PAIR, num_steps=1)
    images = all_images(ImageSpec(1, 1, 2, 4)) * 60
    torch.manual_seed(1)
    x = model.kernel.start(images, torch.float64)
    by_hand = (-0.5 * x.square() - 0.5 * math.log(2 * math.pi) - model.kernel.scale.log()).flatten(1).sum(1)
    torch.manual_seed(1)
    torch.testing.assert_close(model.estimate(images, 1), by_hand)


def test_the_binomial_bound_of_one_step_is_the_mean_of_the_conditionals_given_coins():
    model = built(BINARY, num_steps=1, random=1.0)
    images = all_images(BINARY)
    logits = model.outputs(images.double(), torch.ones(4, dtype=torch.int64))[:, 0].detach()  # (x_1, C, H, W)
    log_probs = [torch.where(image == 1, logits, -logits).sigmoid().log().flatten(1).sum(1) for image in images]
    found, error = bound(model, images)
    assert ((found - torch.stack(log_probs).mean(1)).abs() < 4.5 * error + 1e-9).all()


@torch.no_grad()
def test_the_gaussian_bound_is_exact_where_the_chain_is_its_own_reverse():
    """On standard Gaussian data q(x_{t-1} | x_t) = N(sqrt(1 - beta_t) x_t, beta_t), and no more is lost in any step."""
    model = built(PIXEL, num_steps=4, first_noise=0.25)
    model.network.coefficients[:, :2, -1] = -100.0  # no pixel has the lowest or the highest level
    x = torch.tensor([-1.5, 0.0, 0.7], dtype=torch.float64).view(3, 1, 1, 1)
    exact = -0.5 * x.square() - 0.5 * math.log(2 * math.pi) - model.kernel.scale.log()
    many = x.repeat(20_000, 1, 1, 1)
    lost = sum(model.divergence(many, torch.full((len(many),), step)).view(-1, 3) for step in range(2, 5))
    error = lost.std(0) / math.sqrt(20_000)
    assert ((model.kernel.ends(x) - lost.mean(0) - exact.flatten()).abs() < 4.5 * error).all()
    assert error.max() < 0.03


@pytest.mark.parametrize("step", [2, 3, 4])
def test_the_gaussian_divergence_is_that_of_the_posterior_from_bayes_rule(step):
    model = built(PIXEL, num_steps=4, first_noise=0.25, random=0.3)
    kernel, steps = model.kernel, torch.tensor([step])
    x = torch.full((1, 1, 1, 1), 0.7, dtype=torch.float64)
    noisy, noise = kernel.diffuse(x, steps)
    outputs = model.outputs(noisy, steps)
    beta = kernel.schedule()[0].sigmoid()
    kept, kept_before = (1 - beta).cumprod(0)[step - 1], (1 - beta).cumprod(0)[step - 2]
    beta = beta[step - 1]
    torch.testing.assert_close(noisy, kept.sqrt() * x + (1 - kept).sqrt() * noise)
    precision = (1 - beta) / beta + 1 / (1 - kept_before)
    mean = (noisy * (1 - beta).sqrt() / beta + x * kept_before.sqrt() / (1 - kept_before)) / precision
    m, log_variance = kernel.moments(noisy, outputs, steps)
    own = (1 - beta).sqrt() * noisy + beta.sqrt() * m
    variance = (outputs[:, 3] / 2 + beta.logit()).sigmoid()
    torch.testing.assert_close(log_variance, variance.log())
    posterior, reverse = Normal(mean, precision**-0.5), Normal(own, variance.sqrt())
    expected = kl_divergence(posterior, reverse).flatten()
    torch.testing.assert_close(kernel.divergence(noisy, noise, outputs, steps), expected)


def test_the_binomial_kernel_is_its_chain_and_its_posterior_is_that_of_bayes_rule():
    num_steps = 5
    kernel = BinomialKernel(BINARY, num_steps)
    step = [(1 - beta) * torch.eye(2) + beta / 2 for beta in (1 / (num_steps - t + 1) for t in range(1, num_steps + 1))]
    reached = torch.eye(2)
    for t in range(1, num_steps + 1):
        joint = reached[:, :, None] * step[t - 1][None]  # x_0, x_{t-1}, x_t
        reached = reached @ step[t - 1]
        for value, now in itertools.product(range(2), repeat=2):
            found = kernel.posterior(torch.full((1, 1, 1, 1), float(now)), float(value), torch.tensor([t]))
            torch.testing.assert_close(found.item(), (joint[value, 1, now] / joint[value, :, now].sum()).item())
    torch.testing.assert_close(reached, torch.full((2, 2), 0.5))


def enumerated(model):
    """log p of all binary images, summed over all chains of the model as it samples, (N,) nats."""
    kernel, images = model.kernel, all_images(model.spec)
    x = images.double()
    probabilities = torch.full((len(images),), 0.5**model.spec.num_dimensions, dtype=torch.float64)
    for t in range(kernel.num_steps, 0, -1):
        steps = torch.full((len(x),), t)
        low, high = (kernel.posterior(x, value, steps) for value in (0.0, 1.0))
        chance = low + model.outputs(x, steps)[:, 0].sigmoid() * (high - low)
        moves = torch.stack([torch.where(image == 1, chance, 1 - chance).flatten(1).prod(1) for image in images], 1)
        probabilities = probabilities @ moves
    return probabilities.log()


def test_the_binomial_bound_lies_below_log_p_by_enumeration_of_all_chains():
    model = built(BINARY, num_steps=3, random=0.7)
    with torch.no_grad():
        exact = enumerated(model)
    found, error = bound(model, all_images(BINARY))
    assert exact.exp().sum() == pytest.approx(1)
    assert (found < exact + 4.5 * error).all()


def test_the_binomial_sampler_draws_what_is_enumerated():
    model = built(BINARY, num_steps=3, random=0.7)
    with torch.no_grad():
        expected = enumerated(model).exp()
    torch.manual_seed(0)
    drawn = model.sample(4000).flatten(1).long()
    counts = torch.bincount(2 * drawn[:, 0] + drawn[:, 1], minlength=4)
    assert ((counts / 4000 - expected).abs() < 4.5 * (expected / 4000).sqrt()).all()


@pytest.mark.parametrize("spec", [PAIR, BINARY], ids=["gaussian", "binomial"])
def test_few_steps_estimate_the_bound_of_all(spec):
    model = built(spec, num_steps=7, random=0.3)
    images = torch.zeros(4, *spec.shape, dtype=torch.uint8)
    few, error = bound(model, images, 2000, parts=3)
    every, other = bound(model, images, 300)
    assert abs(few.mean() - every.mean()) < 4.5 * (error + other).mean()


def test_dequantization_noise_fills_the_cell_of_an_image_and_no_more():
    """The authors' code draws it a scale too narrow, and so scores nearly discrete data as a density."""
    kernel = built(PAIR).kernel
    kernel.scale.fill_(7.0)
    x = kernel.start(torch.full((5000, 1, 1, 2), 9, dtype=torch.uint8), torch.float64)
    levels = x * kernel.scale + kernel.shift
    assert (kernel.finish(x) == 9).all()
    assert levels.min() < 9.01
    assert levels.max() > 9.99


def test_the_last_step_has_the_noise_that_it_is_scored_with():
    kernel = built(PAIR, first_noise=0.2).kernel
    drawn = kernel.reverse_first(torch.zeros(5000, 1, 1, 2, dtype=torch.float64))
    assert (drawn.std() * kernel.scale).item() == pytest.approx(0.2, rel=0.03)


def test_beta_1_is_fixed_and_the_others_are_learned():
    model = built(PAIR, num_steps=5, random=0.1)
    model.estimate(torch.zeros(3, 1, 1, 2, dtype=torch.uint8), 5).sum().backward()
    assert isinstance(model.kernel, GaussianKernel)
    assert model.kernel.changes.shape == (4,)
    assert (model.kernel.changes.grad != 0).all()
    assert model.kernel.schedule()[0][0] == model.kernel.logits[0]
    assert not built(PAIR, learned_schedule=False).kernel.changes.requires_grad


def test_bad_kernels_and_noise_are_refused():
    with pytest.raises(Unsupported, match="256 levels"):
        DeepDiffusion(PAIR, kernel="binomial")
    with pytest.raises(ValueError, match="first_noise must be at most"):
        DeepDiffusion(PAIR, first_noise=0.5)
