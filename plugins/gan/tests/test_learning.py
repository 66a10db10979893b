"""Both objectives, with both networks, learn a known distribution: to a distance that a broken loss would miss."""

from __future__ import annotations

import pytest
import torch

from harness import Budget, Dataset, ImageSpec, Split, Trainer
from harness_gan.gan import GAN
from harness_gan.wgan_gp import WGANGP

BINARY = torch.tensor(
    [[1, 1, 1, 0, 0, 0, 0, 0, 0], [0, 0, 0, 1, 1, 1, 0, 0, 0], [1, 0, 0, 1, 0, 0, 1, 0, 0]], dtype=torch.uint8
).view(3, 1, 3, 3)
GREY = torch.full((2, 1, 8, 8), 3, dtype=torch.uint8)
GREY[0, :, :, :4] = GREY[1, :, 4:] = 13


def dataset(templates, probabilities, levels):
    """1000 images in exactly these frequencies."""
    split = Split(templates.repeat_interleave((torch.tensor(probabilities) * 1000).round().long(), 0))
    return Dataset("templates", ImageSpec(*templates.shape[1:], levels), split, split, split)


def total_variation(samples, templates, probabilities, *, tolerance):
    """The distance between distributions on templates and "none"; an image counts where its mean error is small."""
    errors = (samples.flatten(1)[:, None].float() - templates.flatten(1)[None].float()).abs().mean(2)
    found = (errors <= tolerance).float().mean(0)
    return ((found - torch.tensor(probabilities)).abs().sum() + 1 - found.sum()).item() / 2


def learn(model, data, budget):
    model.fit(data, Trainer(model, data, budget=Budget.parse(budget)))
    return model.sample(2000)


@pytest.mark.parametrize("kind", [GAN, WGANGP])
def test_an_mlp_learns_the_probabilities_of_three_binary_images(kind):
    probabilities = [0.5, 0.3, 0.2]
    data = dataset(BINARY, probabilities, 2)
    model = kind(data.spec, network="mlp", latents=4, width=32, learning_rate=4e-3)
    # without its least frequent image it would be 0.2 away
    assert total_variation(learn(model, data, "400 steps"), BINARY, probabilities, tolerance=0) < 0.1


@pytest.mark.parametrize("kind", [GAN, WGANGP])
def test_a_dcgan_learns_the_probabilities_of_two_grey_images(kind):
    probabilities = [0.7, 0.3]
    data = dataset(GREY, probabilities, 17)
    model = kind(data.spec, network="dcgan", latents=4, width=16, learning_rate=2e-3)
    # all images at one mode, the larger one, would be 0.3 away; the modes are 5 levels apart
    assert total_variation(learn(model, data, "250 steps"), GREY, probabilities, tolerance=3) < 0.25
