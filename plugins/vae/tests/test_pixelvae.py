"""PixelVAE's samples against the raster sampler's and its own score, its weights against an integral over latents."""

from __future__ import annotations

import itertools

import pytest
import torch
from numpy.polynomial.hermite_e import hermegauss
from torch import nn

import harness
from harness import raster_sample
from harness_layers.pixels import image_logits, scale
from harness_vae.pixelvae import PixelVAE
from harness_vae.pixelvae_hierarchical import HierarchicalPixelVAE

BINARY = harness.ImageSpec(1, 2, 2, 2)
COLOUR = harness.ImageSpec(2, 3, 5, 3)


def model_with_random_weights(spec, latents, cls=PixelVAE, **hyperparameters):
    torch.manual_seed(3)
    model = cls(spec, latents=latents, channels=4, layers=1, head=4, width=2, **hyperparameters).double()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(0, 0.4)
    return model


@pytest.mark.parametrize("conditioning", ["map", "biases"])
@torch.no_grad()
def test_images_drawn_row_by_row_are_those_of_the_raster_sampler_under_the_same_noise(conditioning):
    model = model_with_random_weights(COLOUR, 2, conditioning=conditioning)
    z, noise = torch.randn(6, 2).double(), harness.Noise.draw(6, COLOUR, dtype=torch.float64)

    def logits(images, ordering):
        told = model._condition(z)
        return image_logits(model.decoder.network(scale(images, 3, torch.float64), told), COLOUR)

    steps = torch.arange(30).view(3, 5, 2).permute(2, 0, 1)
    assert torch.equal(model.draw(z, noise), raster_sample(logits, lambda ordering: steps, COLOUR, noise))


@torch.no_grad()
def test_the_mean_weight_of_every_image_is_its_integrated_probability():
    model = model_with_random_weights(BINARY, 1)
    model.encoder[-1].bias[1] += 2  # a posterior wider than the prior: weights of finite variance
    images = torch.tensor(list(itertools.product(range(2), repeat=4)), dtype=torch.uint8).view(-1, 1, 2, 2)
    nodes, masses = (torch.from_numpy(values) for values in hermegauss(40))
    given = torch.stack([model.log_likelihood(images, node.expand(16, 1)) for node in nodes]).exp()
    exact = (masses / masses.sum()) @ given
    assert exact.sum().item() == pytest.approx(1, abs=1e-9)
    weights = model.log_importance_weights(images, 200).exp()
    assert ((weights.mean(0) - exact).abs() < 4.5 * weights.std(0) / 200**0.5).all()


@pytest.mark.parametrize("wrong", [{"conditioning": "labels"}, {"latents": 0}, {"kernel": 4}])
def test_hyperparameters_out_of_their_range_are_named(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        PixelVAE(BINARY, **wrong)


@torch.no_grad()
def test_the_map_that_is_drawn_given_the_top_has_under_teacher_forcing_the_noise_it_was_drawn_with(monkeypatch):
    model = model_with_random_weights(harness.ImageSpec(1, 9, 6, 2), 2, HierarchicalPixelVAE, maps=3, prior_channels=6)
    noise = model.draw_noise(4)
    monkeypatch.setattr(model, "upsampler", nn.Identity())
    monkeypatch.setattr(model.decoder, "draw", lambda maps, pixels: maps)
    bottom = model.draw(noise)
    mean, log_variance = model.prior(bottom, model.spread(noise.top)).unflatten(1, (3, 2)).unbind(2)
    torch.testing.assert_close((bottom - mean) * (-0.5 * log_variance).exp(), noise.bottom)


@pytest.mark.parametrize("level", ["top", "bottom", "pixels"])
def test_images_that_vary_in_one_level_share_the_noise_of_the_others(level, monkeypatch):
    model = model_with_random_weights(BINARY, 2, HierarchicalPixelVAE, maps=1)
    monkeypatch.setattr(model, "draw", lambda noise: noise)
    noise = model.vary(level, 3)
    found = {"top": noise.top, "bottom": noise.bottom, "pixels": noise.pixels.gumbel}
    assert all(len(values) == 3 for values in found.values())
    assert [name for name, values in found.items() if not torch.equal(values[0], values[1])] == [level]
