from __future__ import annotations

import pytest
import torch
from torch.nn.functional import logsigmoid

from harness import ImageSpec, Split, Unsupported
from harness_zoo.lapgan import LAPGAN, double, halve

SPEC = ImageSpec(channels=1, height=8, width=8, levels=17)


def small(**changes):
    return LAPGAN(SPEC, **{"network": "mlp", "latents": 3, "width": 8, **changes}).double()


def some_images(num_images=6):
    return Split(torch.randint(0, 17, (num_images, 1, 8, 8), dtype=torch.uint8))


def test_a_residual_is_what_halving_loses():
    images = torch.randn(2, 1, 4, 4).double()
    means = torch.stack([images[:, :, i : i + 2, j : j + 2].mean((2, 3)) for i in (0, 2) for j in (0, 2)], 2)
    assert torch.allclose(halve(images).flatten(2), means)
    residual = images - double(halve(images))
    assert torch.allclose(halve(residual), torch.zeros(2, 1, 2, 2).double())


def test_the_data_of_a_level_are_residuals_beside_the_real_image_that_they_are_added_to():
    model, batch = small(levels=3), some_images()
    shown = model.show(batch)
    assert [real.shape[1:] for real, _ in shown.inputs] == [(1, 2, 2), (2, 4, 4), (2, 8, 8)]
    real, fake = shown.inputs[-1]
    assert torch.allclose(real[:, :1] + real[:, 1:], shown.real)
    assert torch.equal(real[:, 1:], fake[:, 1:])  # one condition, and it is real
    assert torch.allclose(fake[:, :1] + fake[:, 1:], shown.fake)
    assert torch.allclose(real[:, 1:], double(halve(shown.real)))


def test_losses_are_the_sum_of_a_gan_for_each_level():
    model = small(levels=2)
    model.eval()  # no dropout, and batch norm by its statistics
    shown = model.show(some_images())
    judged, made = 0.0, 0.0
    for judge, (real, fake) in zip(model.discriminator, shown.inputs, strict=True):
        judged -= logsigmoid(judge(real)).mean() + logsigmoid(-judge(fake)).mean()
        made -= logsigmoid(judge(fake)).mean()
    assert torch.allclose(model.discriminator_loss(shown), judged)
    assert torch.allclose(model.generator_loss(shown), made)


def test_a_sample_goes_up_through_all_levels():
    model = small(levels=2).eval()
    latents = model.draw_latents(5)
    coarse = model.generator[0](latents[:, :3])
    below = coarse.repeat_interleave(2, 2).repeat_interleave(2, 3)
    residual = 2 * model.generator[1](torch.cat([latents[:, 3:], below.flatten(1)], 1))
    assert torch.allclose(model.generate(model.generator, latents, None), below + residual)


def test_what_a_level_is_shown_has_no_graph_of_another_level():
    model = small(levels=2)
    _, fake = model.show(some_images()).inputs[1]
    assert torch.autograd.grad(fake.sum(), list(model.generator[0].parameters()), allow_unused=True)[0] is None


def test_one_level_is_a_gan():
    shown = small(levels=1).show(some_images())
    assert torch.equal(shown.inputs[0][0], shown.real)
    assert torch.equal(shown.inputs[0][1], shown.fake)


def test_images_that_cannot_be_halved_are_not_for_it():
    with pytest.raises(Unsupported, match="7x8 pixels cannot be halved 1 times: take fewer"):
        LAPGAN(ImageSpec(channels=1, height=7, width=8, levels=2), network="mlp")
