"""Games with an encoder: mode regularised GAN, and VAE-GAN."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn.functional import softplus

from harness import ImageSpec, Split
from harness_layers.posteriors import DiagonalGaussian
from harness_zoo.encoder import apply_aside
from harness_zoo.mdgan import MDGAN
from harness_zoo.vae_gan import VAEGAN, divergence

SPEC = ImageSpec(channels=1, height=8, width=8, levels=17)


def small(model, **changes):
    return model(SPEC, **{"network": "mlp", "latents": 3, "width": 8, **changes}).double().train()


def shown_by(model, num_images=6):
    images = torch.randint(0, 17, (num_images, 1, 8, 8), dtype=torch.uint8)
    return model.show(Split(images, None))


def gradients(loss, network):
    found = torch.autograd.grad(loss, list(network.parameters()), retain_graph=True, allow_unused=True)
    return [gradient for gradient in found if gradient is not None]


def same(found, expected):
    return len(found) == len(expected) and all(map(torch.allclose, found, expected))


def test_a_network_applied_aside_keeps_its_statistics_and_gives_the_same():
    generator = small(MDGAN).generator
    before = {name: value.clone() for name, value in generator.state_dict().items()}
    codes = torch.randn(5, 3, dtype=torch.float64)
    outputs = apply_aside(generator, codes)
    assert all(torch.equal(value, before[name]) for name, value in generator.state_dict().items())
    torch.testing.assert_close(outputs, generator(codes))


def test_a_frozen_network_has_a_gradient_in_its_inputs_alone():
    generator, codes = small(MDGAN).generator, torch.randn(5, 3, dtype=torch.float64, requires_grad=True)
    loss = apply_aside(generator, codes, frozen=True).square().sum()
    assert gradients(loss, generator) == []
    assert torch.autograd.grad(loss, codes)[0].abs().max() > 0


def test_mode_regularisation_rewards_reconstructions_that_look_real():
    model = small(MDGAN, reconstruction=0.5, realism=0.25)
    shown = shown_by(model)
    again = model.generator(model.encoder(shown.real))
    errors = sum((x - y).square().sum().item() for x, y in zip(shown.real, again, strict=True)) / 6
    real_looking = sum(math.log1p(math.exp(-s)) for s in model.judge(again).tolist()) / 6
    alone = softplus(-model.judge(shown.fake)).mean().item()
    assert model.generator_loss(shown).item() == pytest.approx(alone + 0.5 * errors + 0.25 * real_looking)
    assert real_looking > 0  # -log D: minimised by looking real


def test_the_mode_regularised_discriminator_plays_the_first_game():
    model = small(MDGAN)
    shown = shown_by(model)
    real, fake = model.judge(shown.real).sigmoid(), model.judge(shown.fake).sigmoid()
    expected = -real.log().mean() - (1 - fake).log().mean()
    torch.testing.assert_close(model.discriminator_loss(shown.detached()), expected)


def test_the_divergence_to_the_prior_is_torchs():
    mean, log_variance = torch.randn(4, 3).double(), torch.randn(4, 3).double()
    normal = torch.distributions.Normal
    expected = torch.distributions.kl_divergence(normal(mean, (log_variance / 2).exp()), normal(0.0, 1.0)).sum(1)
    torch.testing.assert_close(divergence(DiagonalGaussian(mean, log_variance)), expected)


def test_vae_gans_discriminator_is_shown_samples_and_reconstructions():
    model = small(VAEGAN)
    shown = shown_by(model)
    samples, again = shown.fake[:6], shown.fake[6:]
    torch.testing.assert_close(again, apply_aside(model.generator, shown.latents[6:]))
    expected = sum(softplus(sign * model.judge(x)).mean() for sign, x in ((-1, shown.real), (1, samples), (1, again)))
    torch.testing.assert_close(model.discriminator_loss(shown.detached()), expected)


def test_vae_gans_encoder_minimises_divergence_and_feature_errors_alone():
    model = small(VAEGAN, gamma=0.1)
    shown = shown_by(model)
    again = model.generator(shown.latents[6:])
    features = [model.discriminator.features(x) for x in (shown.real, again)]
    errors = (features[0] - features[1]).square().sum() / 12
    expected = gradients(errors + divergence(shown.posterior).mean(), model.encoder)
    assert same(gradients(model.generator_loss(shown), model.encoder), expected)


def test_vae_gans_generator_minds_feature_errors_by_gamma_and_fools_the_discriminator_twice():
    model = small(VAEGAN, gamma=0.1)
    shown = shown_by(model)
    samples, again = model.generator(shown.latents[:6]), model.generator(shown.latents[6:].detach())
    features = [model.discriminator.features(x) for x in (shown.real, again)]
    loss = 0.1 * (features[0] - features[1]).square().sum() / 12
    loss = loss + softplus(-model.judge(samples)).mean() + softplus(-model.judge(again)).mean()
    assert same(gradients(model.generator_loss(shown), model.generator), gradients(loss, model.generator))


def test_vae_gan_encodes_and_decodes():
    model = small(VAEGAN).eval()
    images = torch.randint(0, 17, (4, 1, 8, 8), dtype=torch.uint8)
    assert model.latent_sizes == (3,)
    codes = model.encode(images)
    assert codes.shape == (4, 3)
    decoded = model.decode(codes)
    assert decoded.shape == (4, 1, 8, 8)
    torch.testing.assert_close(decoded, (model.average(codes) + 1) * 8)


@pytest.mark.parametrize(
    ("model", "wrong"), [(MDGAN, {"reconstruction": -1.0}), (MDGAN, {"realism": -1.0}), (VAEGAN, {"gamma": -1.0})]
)
def test_hyperparameters_out_of_range_are_refused(model, wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        model(SPEC, **wrong)
