"""Fisher GAN, D2GAN and Cramer GAN: critics whose best is known in closed form, where three images are all there are.

The data are images 0, 0, 1, 2 and the generator makes 0, 1, 2, 2.
"""

from __future__ import annotations

import math

import pytest
import torch
from scipy.stats import energy_distance

from harness import ImageSpec
from harness_gan.adversarial import Round
from harness_zoo.cramer_gan import CramerGAN, energy, surrogate
from harness_zoo.d2gan import D2GAN, first_loss, log_softplus
from harness_zoo.fisher_gan import FisherGAN, augmented_lagrangian, second_moment

REAL, FAKE = torch.tensor([0, 0, 1, 2]), torch.tensor([0, 1, 2, 2])
P = torch.tensor([0.5, 0.25, 0.25]).double()
Q = torch.tensor([0.25, 0.25, 0.5]).double()
TINY = ImageSpec(channels=1, height=2, width=2, levels=5)


def some_round():
    images = torch.rand(2, 6, 1, 2, 2, dtype=torch.float64) * 2 - 1
    return Round(images[0], images[1], torch.empty(0))


def test_the_fisher_critic_is_best_where_its_lagrangian_is_stationary():
    multiplier = ((P - Q).square() / (P + Q)).sum().div(2).sqrt()
    best = ((P - Q) / (multiplier * (P + Q))).requires_grad_()
    value = augmented_lagrangian(best[REAL], best[FAKE], multiplier, 0.3)
    [slopes] = torch.autograd.grad(value, best)
    assert slopes.abs().max() < 1e-12
    assert second_moment(best[REAL], best[FAKE]).item() == pytest.approx(1)
    assert value.item() == pytest.approx((2 * (P - Q).square() / (P + Q)).sum().sqrt().item())


def test_the_multiplier_rises_where_the_second_moment_is_above_one():
    model, shown = FisherGAN(TINY, network="mlp", latents=2, width=3, rho=0.1).double(), some_round()
    for constant, expected in ((3.0, 0.1 * (9 - 1)), (0.0, 0.1 * (9 - 1) - 0.1)):
        with torch.no_grad():
            model.discriminator[-1].weight.zero_()
            model.discriminator[-1].bias.fill_(constant)
            model.after_discriminator(shown)
        assert model.multiplier.item() == pytest.approx(expected)
    assert "multiplier" in model.state_dict()


@pytest.mark.parametrize(("alpha", "beta"), [(1.0, 1.0), (0.2, 0.5)])
def test_the_best_discriminators_of_d2gan_are_ratios_of_densities(alpha, beta):
    first = (alpha * P / Q).expm1().log().requires_grad_()  # softplus of it is alpha p / q
    second = (beta * Q / P).expm1().log().requires_grad_()
    loss = first_loss(first[REAL], first[FAKE], alpha) + first_loss(second[FAKE], second[REAL], beta)
    for slopes in torch.autograd.grad(loss, [first, second]):
        assert slopes.abs().max() < 1e-12
    divergences = alpha * (P * (P / Q).log()).sum() + beta * (Q * (Q / P).log()).sum()
    constants = alpha * (math.log(alpha) - 1) + beta * (math.log(beta) - 1)
    assert -loss.item() == pytest.approx(divergences.item() + constants)


def test_the_generator_of_d2gan_minimises_what_the_discriminators_maximise():
    model, shown = D2GAN(TINY, network="mlp", latents=2, width=3, alpha=0.7, beta=0.4).double(), some_round()
    fake = shown.fake.requires_grad_()
    [own] = torch.autograd.grad(model.generator_loss(shown), fake)
    [other] = torch.autograd.grad(model.discriminator_loss(shown), fake)
    assert own.abs().max() > 0
    assert torch.allclose(own, -other, atol=1e-12)


def test_the_logarithm_of_a_softplus_that_underflows_has_its_value_and_slope():
    values = torch.tensor([-800.0, -20.5, -1.0, 30.0]).double().requires_grad_()
    logs = log_softplus(values)
    assert logs.tolist() == pytest.approx([-800, -20.5, math.log(math.log1p(math.exp(-1))), math.log(30)], abs=1e-8)
    [slopes] = torch.autograd.grad(logs.sum(), values)
    assert slopes.tolist()[:2] == pytest.approx([1, 1])
    assert torch.isfinite(slopes).all()


def test_the_generator_of_cramer_gan_minimises_the_energy_distance():
    """Over all pairings of a batch, the estimate is scipy's distance, but for the data's own distances."""
    real, fake = torch.tensor([0.0, 1.0, 3.0]).double(), torch.tensor([0.5, 2.0, 2.5]).double()
    pairings = [energy(real[:, None].roll(shift, 0), fake[:, None]) for shift in range(3)]
    between = torch.stack(pairings).mean()
    inner = (fake[:, None] - fake).abs().sum() / 6  # of pairs of two
    outer = (real[:, None] - fake).abs().mean()
    assert between.item() == pytest.approx(2 * outer.item() - inner.item())
    own = (real[:, None] - real).abs().mean()
    squared = energy_distance(real, fake) ** 2
    assert squared == pytest.approx((2 * outer - inner * 2 / 3 - own).item())


def test_the_critic_of_cramer_gan_sees_zero_in_the_place_of_a_second_real_image():
    real, fake = torch.tensor([[3.0, 4.0], [0.0, 1.0]]).double(), torch.tensor([[0.0, 0.0], [3.0, 0.0]]).double()
    f_real = ((0 + 4) - 5 + (1 - 1)) / 2  # |h(x) - h(x~')| - |h(x)|, the second generated image first
    f_fake = ((3 - 0) + (3 - 3)) / 2
    assert surrogate(real, fake).item() == pytest.approx(f_real - f_fake)


def test_the_critic_of_cramer_gan_has_as_many_outputs_as_asked_for():
    model, shown = CramerGAN(TINY, network="mlp", latents=2, width=3, features=7).double(), some_round()
    assert model.judge(shown.real).shape == (6, 7)
    assert model.penalty(shown).shape == ()
    with pytest.raises(ValueError, match="features must be positive, not 0"):
        CramerGAN(TINY, network="mlp", features=0)
