"""Single layers of latents: what their weights average, and where their training starts."""

from __future__ import annotations

import math

import pytest
import torch

import harness
from harness_vae.conv_vae import ConvVAE
from harness_vae.dense_vae import DenseVAE

BINARY = harness.ImageSpec(1, 2, 2, 2)


def of_kind(kind, posterior="diagonal", spec=BINARY):
    torch.manual_seed(0)
    sizes = {"maps": (2, 3), "hidden": 5} if kind is ConvVAE else {"width": 5}
    model = kind(spec, latents=2, posterior=posterior, flow_steps=2, flow_width=5, **sizes).double()
    for name, value in model.named_parameters():
        value.data.normal_(0, 0.7 if name.startswith("decoder") else 0.2)
    model.posterior.gaussian.bias.data[2:] += 1.5  # wider than the prior, so that weights have a variance
    model.block_rows = 10**5  # all at once
    return model.eval().requires_grad_(False)


@pytest.mark.parametrize("posterior", ["diagonal", "iaf", "planar"])
def test_weights_average_to_the_probability_of_the_image(posterior, every_image, log_prob_by_quadrature):
    model = of_kind(DenseVAE, posterior)
    exact = log_prob_by_quadrature(model, every_image)
    assert abs(exact.logsumexp(0)) < 1e-3
    weights = model.log_importance_weights(every_image, 1000)
    ratios = (weights - exact).exp()
    errors = ratios.std(0) / math.sqrt(1000)
    assert ((ratios.mean(0) - 1).abs() < 5 * errors + 1e-3).all()
    assert (weights.mean(0) < exact).all()


@pytest.mark.parametrize("kind", [ConvVAE, DenseVAE])
@pytest.mark.parametrize("shape", [(1, 3, 3, 2), (3, 2, 2, 2), (1, 1, 2, 256), (1, 5, 4, 4)])
def test_any_sample_space_has_its_decoder(kind, shape):
    model = of_kind(kind, spec=harness.ImageSpec(*shape))
    samples = model.sample(3)
    assert samples.shape == (3, *shape[:3])
    assert model.decode(model.encode(samples)).shape == samples.shape
    assert model.log_importance_weights(samples, 2).isfinite().all()


@pytest.mark.parametrize("kind", [ConvVAE, DenseVAE])
def test_training_starts_near_the_frequencies_of_the_pixels(kind):
    spec = harness.ImageSpec(1, 6, 6, 2)
    model = of_kind(kind, spec=spec)
    rate = torch.linspace(0.05, 0.95, 36).view(1, 6, 6)
    images = (torch.rand(500, 1, 6, 6) < rate).to(torch.uint8)
    model.start_from(images)
    decoded = model.decode(torch.randn(200, 2, dtype=torch.float64))
    assert (decoded.mean(0) - rate).abs().max() < 0.1


def test_a_dense_vae_has_as_many_layers_on_either_side_as_are_asked_for():
    model = DenseVAE(BINARY, width=3, encoder_layers=1, decoder_layers=4)
    assert (len(model.encoder.layers), len(model.decoder.layers.layers)) == (1, 4)


@pytest.mark.parametrize("wrong", [{"latents": 0}, {"posterior": "nonsense"}, {"flow_steps": 0}, {"free_bits": -1.0}])
def test_a_wrong_hyperparameter_is_named(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        ConvVAE(BINARY, **wrong)
