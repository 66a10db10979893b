"""Hamiltonian variational inference: the leapfrog, its weights, and where autograd is off."""

from __future__ import annotations

import math

import pytest
import torch

import harness
from harness_vae.hvi import HVI, leapfrog

BINARY = harness.ImageSpec(1, 2, 2, 2)
IMAGE = torch.tensor([[[[0, 1], [0, 1]]]], dtype=torch.uint8)
STEP = torch.tensor([0.3, 0.5], dtype=torch.float64)


def model_of(**hyperparameters):
    torch.manual_seed(0)
    model = HVI(BINARY, latents=2, width=5, reverse_width=4, leapfrog_steps=2, **hyperparameters).double()
    for name, value in model.named_parameters():
        if name != "log_steps":
            value.data.normal_(0, 0.7 if name.startswith("decoder") else 0.2)
    model.posterior.gaussian.bias.data[2:] += 0.7  # wider than the prior, as the reverse models are narrower than
    for reverse in model.reverse:  # the momenta, so that weights have a variance
        reverse.last.bias.data[2:] -= 0.7
    model.block_rows = 10**5  # all at once
    return model.eval()


def path(model, z, v):
    images = IMAGE.repeat(len(z), 1, 1, 1)
    return leapfrog(model._target(images), z, v, STEP, 3)[:2]


def test_a_leapfrog_keeps_volumes_and_is_undone_by_turning_the_momentum_round():
    model, start = model_of(), torch.randn(1, 4, dtype=torch.float64)
    moved = lambda both: torch.cat(path(model, *both.chunk(2, 1)), 1)  # noqa: E731
    volume = torch.linalg.det(torch.autograd.functional.jacobian(moved, start).view(4, 4))
    torch.testing.assert_close(volume.abs(), torch.ones(()).double(), rtol=0, atol=1e-10)
    z, v = path(model, *start.chunk(2, 1))
    back, turned = path(model, z, -v)
    torch.testing.assert_close(torch.cat([back, -turned], 1), start)


def test_the_leapfrogs_error_falls_with_the_square_of_its_step():
    model, (z, v) = model_of(), torch.randn(2, 20, 2, dtype=torch.float64)
    images = IMAGE.repeat(20, 1, 1, 1)

    def energy(z, v):
        return (v.square() / 2).sum(1) - model.log_prior(z) - model.log_likelihood(images, z)

    errors = []
    for count in (4, 8):
        moved = leapfrog(model._target(images), z, v, torch.full((2,), 1.0 / count).double(), count)[:2]
        errors.append((energy(*moved) - energy(z, v)).abs().mean().item())
    assert errors[0] / errors[1] == pytest.approx(4, rel=0.25)


def test_weights_over_latents_and_momenta_average_to_the_probability_of_the_image(every_image, log_prob_by_quadrature):
    model = model_of(iterations=2)
    with torch.no_grad():
        exact, weights = log_prob_by_quadrature(model, every_image), model.log_importance_weights(every_image, 1000)
    ratios = (weights - exact).exp()
    assert ((ratios.mean(0) - 1).abs() < 5 * ratios.std(0) / math.sqrt(1000) + 1e-3).all()
    assert (weights.mean(0) < exact).all()


def test_without_steps_and_with_the_right_guess_of_momenta_it_is_the_plain_vae(every_image):
    model = model_of()
    model.log_steps.data.fill_(-100)
    for value in model.reverse[0].last.parameters():
        value.data.zero_()
    with torch.no_grad():
        found = model.log_importance_weights(every_image, 20)
        torch.manual_seed(1)
        one = model.terms(every_image, model.features(every_image), 3).log_weights()
        torch.manual_seed(1)
        plain = super(HVI, model).terms(every_image, model.features(every_image)[:1], 3).log_weights()
    torch.testing.assert_close(one, plain)
    assert found.shape == (20, 16)


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_it_is_scored_where_autograd_is_off(mode, every_image):
    model, images = model_of(), every_image[:3]
    torch.manual_seed(1)
    expected = model.log_importance_weights(images, 4).detach()
    with mode():
        torch.manual_seed(1)
        found = model.log_importance_weights(images, 4)
    assert not found.requires_grad
    torch.testing.assert_close(found, expected)


def test_step_sizes_learn_through_the_dynamics(every_image):
    model = model_of()

    def bound():
        torch.manual_seed(1)
        return model.terms(every_image, model.features(every_image), 1).log_weights().sum()

    bound().backward()
    gradient, small = model.log_steps.grad[0, 0].item(), 1e-5
    values = []
    for sign in (1, -1):
        model.log_steps.data[0, 0] += sign * small
        values.append(bound().item())
        model.log_steps.data[0, 0] -= sign * small
    assert gradient == pytest.approx((values[0] - values[1]) / (2 * small), rel=1e-4)


def test_training_starts_with_guesses_of_the_momenta_that_are_about_what_they_are(every_image):
    model = model_of()
    model.start_from(every_image)
    with torch.no_grad():
        guess = model.reverse[0](torch.randn(50, 16, 2, dtype=torch.float64), model.features(every_image)[1])
    assert guess.mean.abs().mean() < 0.5
    assert guess.log_variance.abs().mean() < 0.5


def test_the_density_of_its_latents_is_not_claimed(every_image):
    with pytest.raises(NotImplementedError):
        model_of().draw_posterior(every_image)
