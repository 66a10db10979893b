from __future__ import annotations

import math

import pytest
import torch

from harness_zoo.softmax_gan import discriminator, generator


def test_losses_are_cross_entropies_of_one_softmax_over_the_batch():
    real, fake = torch.tensor([1.0, -0.5]).double(), torch.tensor([0.25, 2.0, -1.0]).double()
    mass = [math.exp(value) for value in (1.0, -0.5, 0.25, 2.0, -1.0)]
    logs = [math.log(value / sum(mass)) for value in mass]
    assert discriminator(real, fake).item() == pytest.approx(-sum(logs[:2]) / 2)
    assert generator(real, fake).item() == pytest.approx(-sum(logs) / 5)


def test_the_generator_is_best_where_all_outputs_are_equal():
    real, fake = torch.zeros(4).double(), torch.zeros(4).double().requires_grad_()
    loss = generator(real, fake)
    assert loss.item() == pytest.approx(math.log(8))
    [slope] = torch.autograd.grad(loss, fake)
    assert slope.abs().max() < 1e-12
    assert generator(real, fake + 1) > loss


def test_outputs_may_be_large():
    assert torch.isfinite(discriminator(torch.tensor([900.0]), torch.tensor([-900.0])))
