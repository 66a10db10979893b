from __future__ import annotations

import pytest
import torch

from harness import ImageSpec
from harness_gan.adversarial import Round
from harness_zoo.ls_gan import LSGAN, discriminator

SPEC = ImageSpec(channels=1, height=2, width=2, levels=17)


def test_a_pair_counts_by_what_it_lacks_to_its_own_margin():
    real, fake = torch.tensor([0.5, -1.0, 2.0]).double(), torch.tensor([1.0, 3.0, 0.0]).double().requires_grad_()
    loss = discriminator(real, fake, torch.tensor([2.0, 1.0, 0.0]).double())
    assert loss.item() == pytest.approx((1.5 + 0 + 2.0) / 3)  # 2 + 0.5 - 1; 1 - 1 - 3 < 0; 0 + 2 - 0
    [slope] = torch.autograd.grad(loss, fake)
    assert slope.tolist() == pytest.approx([-1 / 3, 0, -1 / 3])


def test_the_margin_is_the_sum_of_absolute_differences_to_the_real_image_beside():
    model = LSGAN(SPEC, network="mlp", width=4, margin=0.25).double()
    real, fake = torch.rand(3, 1, 2, 2).double(), torch.rand(3, 1, 2, 2).double()
    shown = Round(real, fake, torch.zeros(3, 1))
    judged = [(model.judge(a[None]) - model.judge(b[None])).item() for a, b in zip(real, fake, strict=True)]
    margins = [0.25 * sum((a - b).abs().flatten().tolist()) for a, b in zip(real, fake, strict=True)]
    lacks = [max(0.0, margin + difference) for margin, difference in zip(margins, judged, strict=True)]
    assert model.discriminator_loss(shown).item() == pytest.approx(sum(lacks) / 3)
    torch.testing.assert_close(model.generator_loss(shown), model.judge(fake).mean())  # low is real


def test_a_negative_margin_is_refused():
    with pytest.raises(ValueError, match="margin must be at least 0"):
        LSGAN(SPEC, network="mlp", margin=-1.0)
