"""Images with the latents that they were drawn from: the images of ``sample``, and latents that they follow."""

from __future__ import annotations

import pytest
import torch

import harness
from harness_vae.draw import DRAW
from harness_vae.lvae import LVAE
from harness_vae.pixelvae import PixelVAE
from harness_vae.resnet_vae import ResNetVAE

SPEC = harness.ImageSpec(1, 4, 4, 2)
MODELS = {
    "ladder": lambda: LVAE(SPEC, latents=(3, 2), hidden=(5, 4)),
    "resnet": lambda: ResNetVAE(SPEC, layers=(1, 1), maps=4, latents=1),
    "draw": lambda: DRAW(SPEC, glimpses=2, latents=3, units=4, read_size=2, write_size=2),
    "pixelvae": lambda: PixelVAE(SPEC, latents=2, channels=4, layers=1, head=8, width=4),
}


@pytest.mark.parametrize("make", MODELS.values(), ids=MODELS)
def test_images_are_those_of_sample_and_come_with_all_of_their_latents(make):
    torch.manual_seed(0)
    model = make().eval()
    torch.manual_seed(1)
    images = model.sample(5)
    torch.manual_seed(1)
    again, latents = model.draw_joint(5)
    assert torch.equal(images, again)
    assert latents.shape == (5, sum(model.latent_sizes))
    assert model.log_prior(latents).isfinite().all()


@pytest.mark.parametrize("make", MODELS.values(), ids=MODELS)
def test_images_are_likelier_given_their_own_latents_than_given_others(make):
    torch.manual_seed(0)
    model = make().double().eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.7 * torch.randn_like(parameter))
        images, latents = model.draw_joint(400)
        right = model.log_likelihood(images, latents).mean()
        wrong = torch.stack([model.log_likelihood(images, latents.roll(shift, 0)).mean() for shift in range(1, 4)])
    assert right > wrong.max()
