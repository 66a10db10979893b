"""Feature matching and minibatch discrimination."""

from __future__ import annotations

import math

import pytest
import torch

from harness import ImageSpec
from harness_gan.adversarial import Round
from harness_zoo.improved_gan import ImprovedGAN, feature_matching
from harness_zoo.minibatch_gan import MinibatchGAN, closeness

TINY = ImageSpec(channels=1, height=2, width=2, levels=5)


def some_round(*, num_images=6):
    images = torch.rand(2, num_images, 1, 2, 2, dtype=torch.float64) * 2 - 1
    return Round(images[0], images[1].requires_grad_(), torch.empty(0))


def test_feature_matching_is_the_squared_distance_of_mean_features():
    real = torch.tensor([[1.0, 0.0], [3.0, 2.0]]).double()
    fake = torch.tensor([[0.0, 4.0], [1.0, 0.0], [2.0, 2.0]]).double()
    assert feature_matching(real, fake).item() == pytest.approx((2 - 1) ** 2 + (1 - 2) ** 2)


def test_the_generator_of_feature_matching_does_not_look_at_the_verdict():
    model, shown = ImprovedGAN(TINY, network="mlp", latents=2, width=3).double(), some_round()
    before = model.generator_loss(shown)
    with torch.no_grad():
        last = model.discriminator[-1]
        last.weight.mul_(-3)
        last.bias.add_(5)
    assert torch.equal(model.generator_loss(shown), before)


def test_closeness_sums_over_the_others_of_the_batch():
    projections = torch.tensor([[[0.0, 0.0], [1.0, 1.0]], [[0.5, -0.5], [1.0, 1.0]], [[3.0, 0.0], [0.0, 1.0]]]).double()
    kernel = [  # (B, N, N): L1 distances by hand
        [[0, 1, 3], [1, 0, 3], [3, 3, 0]],
        [[0, 0, 1], [0, 0, 1], [1, 1, 0]],
    ]
    expected = [
        [sum(math.exp(-kernel[b][i][j]) for j in range(3) if j != i) for b in range(2)] for i in range(3)
    ]  # fmt: skip
    assert closeness(projections).tolist() == [pytest.approx(row) for row in expected]


def test_equal_images_are_as_close_as_can_be():
    projections = torch.randn(1, 4, 3, dtype=torch.float64).expand(5, -1, -1)
    assert closeness(projections).tolist() == [[4.0] * 4] * 5


def test_a_batch_is_of_one_kind():
    model, shown = MinibatchGAN(TINY, network="mlp", latents=2, width=3, kernels=2).double(), some_round()
    with torch.no_grad():
        apart = torch.cat([model.judge(shown.real), model.judge(shown.fake)])
        mixed = model.judge(torch.cat([shown.real, shown.fake]))
        assert not torch.allclose(apart, mixed)  # so the discriminator does look at its batch
        other = Round(shown.real, -shown.fake, shown.latents)
        scores = torch.nn.functional.softplus(-model.judge(shown.real)).mean()
        for one in (shown, other):
            fakes = torch.nn.functional.softplus(model.judge(one.fake)).mean()
            assert torch.allclose(model.discriminator_loss(one), scores + fakes, atol=1e-12)


def test_a_collapsed_batch_is_judged_by_its_closeness():
    model = MinibatchGAN(TINY, network="mlp", latents=2, width=3, kernels=2).double()
    with torch.no_grad():
        model.discriminator[-1].weight[:, -2:] = -1
        images = torch.rand(6, 1, 2, 2, dtype=torch.float64)
        assert model.judge(images[:1].expand(6, -1, -1, -1))[0] < model.judge(images)[0]
