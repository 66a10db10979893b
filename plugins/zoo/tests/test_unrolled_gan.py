from __future__ import annotations

import copy

import pytest
import torch

from harness import ImageSpec
from harness_gan.adversarial import Round
from harness_gan.objectives import non_saturating
from harness_zoo.unrolled_gan import UnrolledGAN

TINY = ImageSpec(channels=1, height=1, width=2, levels=5)
STEPS, RATE = 3, 1.0


def some_model(*, steps=STEPS):
    return UnrolledGAN(TINY, network="mlp", latents=2, width=3, unrolled_steps=steps, unrolled_rate=RATE).double()


def some_round():
    images = torch.rand(2, 5, 1, 1, 2, dtype=torch.float64) * 2 - 1
    return Round(images[0], images[1].requires_grad_(), torch.empty(0))


def value_after(model, shown, steps):
    """Less the discriminator's loss after steps of an ordinary optimizer, on a copy of it."""
    judge = copy.deepcopy(model.discriminator)
    descent = torch.optim.SGD(judge.parameters(), lr=RATE)
    for _ in range(steps):
        descent.zero_grad()
        non_saturating(judge(shown.real), judge(shown.fake.detach())).backward()
        descent.step()
    return -non_saturating(judge(shown.real), judge(shown.fake))


def test_the_generator_plays_against_the_discriminator_of_some_steps_later():
    model, shown = some_model(), some_round()
    before = copy.deepcopy(model.discriminator.state_dict())
    loss = model.generator_loss(shown)
    assert loss.item() == pytest.approx(value_after(model, shown, STEPS).item(), abs=1e-12)
    assert all(torch.equal(value, before[name]) for name, value in model.discriminator.state_dict().items())


def test_its_gradient_goes_through_the_steps():
    model, shown = some_model(), some_round()
    [gradient] = torch.autograd.grad(model.generator_loss(shown), shown.fake)
    numerical = torch.zeros_like(gradient)
    for place in range(gradient.numel()):
        change = torch.zeros(gradient.numel(), dtype=torch.float64)
        change[place] = 1e-6
        change = change.view_as(gradient)
        above, below = (
            value_after(model, Round(shown.real, shown.fake.detach() + sign * change, shown.latents), STEPS)
            for sign in (1, -1)
        )
        numerical.view(-1)[place] = (above - below) / 2e-6
    assert torch.allclose(gradient, numerical, atol=1e-8)
    [held] = torch.autograd.grad(value_after(model, shown, STEPS), shown.fake)  # the steps taken as given
    assert not torch.allclose(gradient, held, atol=1e-4)


def test_without_steps_it_is_a_saturating_gan():
    model, shown = some_model(steps=0), some_round()
    assert model.generator_loss(shown).item() == pytest.approx(-model.discriminator_loss(shown).item())
    [gradient] = torch.autograd.grad(model.generator_loss(shown), shown.fake)
    [expected] = torch.autograd.grad((1 - model.judge(shown.fake).sigmoid()).log().mean(), shown.fake)
    assert torch.allclose(gradient, expected, atol=1e-12)


def test_steps_may_not_be_negative():
    with pytest.raises(ValueError, match="unrolled_steps must be at least 0, not -1"):
        some_model(steps=-1)
