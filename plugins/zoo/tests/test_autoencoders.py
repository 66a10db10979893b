"""Discriminators that are autoencoders: energies, EBGAN's margin."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from harness import ImageSpec
from harness_gan.adversarial import Round
from harness_zoo.autoencoder import Autoencoder
from harness_zoo.ebgan import EBGAN, discriminator, pulling_away
from harness_zoo.magan import MAGAN

SPEC = ImageSpec(channels=1, height=8, width=8, levels=17)
networks = pytest.mark.parametrize("network", ["mlp", "dcgan", "resnet"])


def known(power):
    """One whose reconstruction is the image cut off at -0.5 and 0.5."""
    return Autoencoder(nn.Identity(), nn.Hardtanh(-0.5, 0.5), power=power)


def some(num_images, spec=SPEC):
    return torch.rand(num_images, *spec.shape, dtype=torch.float64) * 2 - 1


def shown(real, fake):
    return Round(real, fake, torch.zeros(len(fake), 1, dtype=torch.float64))


def small(model, **changes):
    return model(SPEC, **{"network": "mlp", "latents": 3, "width": 8, **changes}).double()


def test_an_energy_is_an_images_mean_error():
    images = torch.tensor([[1.0, -0.75], [0.25, 0.5]], dtype=torch.float64).view(2, 1, 1, 2)
    torch.testing.assert_close(known(1).energies(images), torch.tensor([0.375, 0.0], dtype=torch.float64))
    torch.testing.assert_close(known(2).energies(images), torch.tensor([0.15625, 0.0], dtype=torch.float64))


@networks
@pytest.mark.parametrize("model", [EBGAN, MAGAN])
def test_an_energy_is_one_images_own(model, network):
    judged, images = small(model, network=network).train(), some(5)
    torch.testing.assert_close(judged.judge(images)[:2], judged.judge(images[:2]))


def test_a_generated_image_above_the_margin_is_left_alone_whatever_the_mean():
    real = torch.tensor([0.25, 0.75], dtype=torch.float64)
    fake = torch.tensor([3.0, 0.5], dtype=torch.float64, requires_grad=True)  # their mean is above the margin
    loss = discriminator(real, fake, margin=1.0)
    assert loss.item() == pytest.approx(0.5 + 0.5 / 2)
    [slope] = torch.autograd.grad(loss, fake)
    assert slope.tolist() == [0.0, -0.5]


def test_the_pulling_away_term_is_a_mean_over_pairs():
    codes = torch.randn(5, 3, dtype=torch.float64)
    cosines = [
        (codes[i] @ codes[j] / (codes[i].norm() * codes[j].norm())).item() ** 2
        for i in range(5) for j in range(5) if i != j
    ]  # fmt: skip
    assert pulling_away(codes).item() == pytest.approx(sum(cosines) / 20)
    assert pulling_away(torch.eye(4).double()).item() == 0
    assert pulling_away(torch.tensor([[1.0, 2], [-2, -4]]).double()).item() == pytest.approx(1)


def test_ebgans_generator_gets_the_gradient_of_the_whole_error():
    model = small(EBGAN, pulling_away=0.0)
    fake = some(3).requires_grad_()
    [slope] = torch.autograd.grad(model.generator_loss(shown(some(3), fake)), fake)
    nudge, step = torch.zeros_like(fake), 1e-6
    nudge[1, 0, 4, 5] = step
    with torch.no_grad():
        change = model.generator_loss(shown(some(3), fake + nudge)) - model.generator_loss(shown(some(3), fake - nudge))
    assert slope[1, 0, 4, 5].item() == pytest.approx(change.item() / (2 * step), rel=1e-5)


def test_ebgans_term_is_added_by_its_weight():
    model, images = small(EBGAN, pulling_away=0.25), shown(some(4), some(4))
    expected = model.judge(images.fake).mean() + 0.25 * pulling_away(model.discriminator.codes(images.fake))
    torch.testing.assert_close(model.generator_loss(images), expected)


@pytest.mark.parametrize(
    ("model", "wrong"),
    [(EBGAN, {"margin": 0.0}), (EBGAN, {"pulling_away": -1.0}), (MAGAN, {"pretraining": 1.0})],
)
def test_hyperparameters_out_of_range_are_refused(model, wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        model(SPEC, **wrong)
