"""The gradient penalty, against closed forms and finite differences."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from harness import ImageSpec
from harness_gan.adversarial import Round
from harness_gan.networks import build_discriminator
from harness_gan.penalties import PENALTIES, dragan_penalty, gradient_norms, gradient_penalty, interpolate, r1_penalty
from harness_gan.wgan_gp import WGANGP


def linear_critic(weight):
    critic = nn.Sequential(nn.Flatten(), nn.Linear(weight.numel(), 1, dtype=torch.float64), nn.Flatten(0))
    with torch.no_grad():
        critic[1].weight.copy_(weight.flatten())
    return critic


def images(*shape):
    return torch.rand(*shape, dtype=torch.float64) * 2 - 1


def test_penalty_of_a_linear_critic_is_the_square_of_its_norm_minus_one():
    weight = torch.randn(2, 3, 4, dtype=torch.float64)
    penalty = gradient_penalty(linear_critic(weight), images(5, 2, 3, 4), images(5, 2, 3, 4))
    torch.testing.assert_close(penalty, (weight.norm() - 1) ** 2)


def test_norms_are_an_images_own_and_not_the_batchs():
    def quadratic(batch):  # f(x) = ||x||^2 / 2 has the gradient x
        return batch.flatten(1).square().sum(1) / 2

    batch = images(6, 1, 3, 3) * torch.arange(6).view(6, 1, 1, 1)
    torch.testing.assert_close(gradient_norms(quadratic, batch), batch.flatten(1).norm(dim=1))


def test_penalty_is_the_mean_over_the_images():
    def quadratic(batch):
        return batch.flatten(1).square().sum(1) / 2

    batch = images(6, 1, 3, 3)
    penalty = gradient_penalty(quadratic, batch, batch)  # interpolates between equals are the equals
    torch.testing.assert_close(penalty, (batch.flatten(1).norm(dim=1) - 1).square().mean())


def test_gradient_in_the_weights_of_a_linear_critic_is_the_closed_form():
    weight = torch.randn(1, 3, 3, dtype=torch.float64)
    critic = linear_critic(weight)
    gradient_penalty(critic, images(4, 1, 3, 3), images(4, 1, 3, 3)).backward()
    norm = weight.norm()
    torch.testing.assert_close(critic[1].weight.grad, (2 * (norm - 1) * weight / norm).view(1, 9))
    assert critic[1].bias.grad is None or critic[1].bias.grad.item() == 0.0


@pytest.mark.parametrize("network", ["mlp", "dcgan"])
def test_gradient_in_a_critics_weights_agrees_with_finite_differences(network):
    spec = ImageSpec(1, 8, 8, 2)
    critic = build_discriminator(network, spec, width=4, normalization="none", dropout=0.0).double()
    real, fake = images(3, 1, 8, 8), images(3, 1, 8, 8)

    def penalty():
        torch.manual_seed(1)  # the same interpolates every time
        return gradient_penalty(critic, real, fake)

    parameters = list(critic.parameters())
    gradients = torch.autograd.grad(penalty(), parameters, allow_unused=True)
    direction = [torch.randn_like(parameter) for parameter in parameters]
    slope = sum((g * d).sum() for g, d in zip(gradients, direction, strict=True) if g is not None)
    step = 1e-6
    values = []
    for sign in (1, -1):
        with torch.no_grad():
            for parameter, d in zip(parameters, direction, strict=True):
                parameter.add_(sign * step * d)
        values.append(penalty().item())
        with torch.no_grad():
            for parameter, d in zip(parameters, direction, strict=True):
                parameter.sub_(sign * step * d)
    assert slope.item() == pytest.approx((values[0] - values[1]) / (2 * step), rel=1e-5)


def test_a_flat_critic_has_the_penalty_one_and_finite_gradients():
    critic = linear_critic(torch.zeros(1, 2, 2, dtype=torch.float64))
    penalty = gradient_penalty(critic, images(3, 1, 2, 2), images(3, 1, 2, 2))
    penalty.backward()
    assert penalty.item() == 1.0
    assert torch.isfinite(critic[1].weight.grad).all()


def test_a_models_penalty_is_lambda_times_the_gradient_penalty_of_its_critic():
    model = WGANGP(ImageSpec(1, 2, 2, 2), network="mlp", latents=2, width=4, penalty=7.0).double()
    batch = images(3, 1, 2, 2)  # interpolates between equals are the equals
    shown = Round(batch, batch, torch.zeros(3, 2))
    torch.testing.assert_close(model.penalty(shown), 7 * gradient_penalty(model.discriminator, batch, batch))


def test_interpolates_have_one_share_an_image_uniform_over_the_segment():
    real, fake = images(20_000, 1, 2, 2), images(20_000, 1, 2, 2)
    shares = ((interpolate(real, fake) - real) / (fake - real)).flatten(1)
    torch.testing.assert_close(shares, shares[:, :1].expand(-1, 4), rtol=1e-6, atol=1e-9)
    ordered = shares[:, 0].sort().values
    distance = (ordered - (torch.arange(20_000) + 0.5) / 20_000).abs().max()  # Kolmogorov-Smirnov
    assert distance.item() < 1.95 / 20_000**0.5  # exceeded once in a thousand draws of uniform shares


def test_critics_without_batch_norm_judge_every_image_by_itself():
    for network in ("mlp", "dcgan"):
        critic = build_discriminator(
            network, ImageSpec(3, 8, 8, 256), width=8, normalization="none", dropout=0.0
        ).double()
        batch = images(5, 3, 8, 8).requires_grad_()
        [gradient] = torch.autograd.grad(critic(batch)[2], batch)
        assert gradient[2].abs().max() > 0
        assert not gradient[[0, 1, 3, 4]].any()


def test_r1_is_half_the_squared_slope_at_real_images_whatever_is_generated():
    weight = images(1, 2, 3)[0]
    penalty = r1_penalty(linear_critic(weight), images(5, 1, 2, 3), images(5, 1, 2, 3))
    torch.testing.assert_close(penalty, weight.square().sum() / 2)
    quadratic = lambda batch: batch.flatten(1).square().sum(1) / 2  # noqa: E731 - its slope at x is x
    real = images(5, 1, 2, 3)
    torch.testing.assert_close(r1_penalty(quadratic, real, -real), real.flatten(1).square().sum(1).mean() / 2)


def test_dragan_looks_at_slopes_near_real_images_alone():
    seen = []
    real, fake = images(400, 1, 2, 2), images(400, 1, 2, 2) + 100

    def critic(batch):
        seen.append(batch.detach())
        return batch.flatten(1).sum(1)  # its slope is 2 everywhere

    assert dragan_penalty(critic, real, fake).item() == 1.0
    shift = (seen[0] - real) / (real.std() / 2)
    assert 0 <= shift.min() < 0.01
    assert 0.8 < shift.max() <= 1
    torch.testing.assert_close(shift.mean().item(), 0.25, rtol=0, atol=0.03)  # of a product of two uniform numbers


def test_no_penalty_is_zero():
    assert PENALTIES["none"](lambda batch: batch.sum(), images(2, 1, 1, 1), images(2, 1, 1, 1)).item() == 0
