"""The ResNet VAE's posterior, its weights against quadrature, and maps of any size."""

from __future__ import annotations

import pytest
import torch
from torch.autograd.functional import jacobian

import harness
from harness_layers.posteriors import standard_normal_log_prob
from harness_vae.resnet_vae import ResNetVAE


def network(height=1, width=2, levels=2, *, layers=(1, 1), latents=1):
    torch.manual_seed(3)
    model = ResNetVAE(harness.ImageSpec(1, height, width, levels), layers=layers, maps=5, latents=latents).double()
    with torch.no_grad():
        for name, value in model.named_parameters():
            value.mul_(2 if "second" in name else 1)
            value.add_(0.2 * torch.randn_like(value))
    return model.eval()


def images(model, count):
    generator = torch.Generator().manual_seed(1)
    return torch.randint(0, model.spec.levels, (count, *model.spec.shape), generator=generator, dtype=torch.uint8)


def test_log_q_is_that_of_the_noise_less_the_log_determinant_of_all_layers():
    model = network(3, 3, layers=(2, 1))
    sizes = list(model.latent_sizes)
    assert sizes == [1, 4, 4]
    features, noise = model.features(images(model, 1)), torch.randn(1, 9, dtype=torch.float64)

    def latents(flat):
        return torch.cat(model.draw_at(features, flat.split(sizes, 1)).values, 1)

    drawn = model.draw_at(features, noise.split(sizes, 1))
    determinant = torch.linalg.slogdet(jacobian(latents, noise)[0, :, 0]).logabsdet
    torch.testing.assert_close(sum(drawn.log_q)[0], standard_normal_log_prob(noise)[0] - determinant)


@pytest.mark.parametrize("levels", [2, 4])
def test_weights_average_to_the_integral_over_both_layers(levels):
    model = network(levels=levels)
    x = images(model, 2)
    axis = torch.linspace(-12, 12, 241, dtype=torch.float64)
    grid = torch.cartesian_prod(axis, axis)
    with torch.no_grad():
        log_prior, means = model.given(grid)
        joint = [model.pixels.log_likelihood(model.pixels.project(image[None]), means) + log_prior for image in x]
        exact = torch.stack(joint).logsumexp(1).exp() * (axis[1] - axis[0]) ** 2
        weights = model.log_importance_weights(x, 20_000).exp()
    assert (((weights.mean(0) - exact) / weights.std(0)).abs() * 20_000**0.5 < 5).all()
    assert (weights.std(0) < 2 * exact).all()  # few draws would not hide a wrong mean


@pytest.mark.parametrize(("height", "width"), [(1, 1), (2, 5), (7, 3)])
def test_odd_sizes_are_halved_upwards_and_come_back_whole(height, width):
    model = network(height, width, layers=(1, 1, 1))
    with torch.no_grad():
        assert model.decode(model.encode(images(model, 3))).shape == (3, 1, height, width)
        assert model.sample(2).shape == (2, 1, height, width)


def test_the_evidence_of_an_image_moves_every_layer_of_its_posterior():
    model = network(4, 4, layers=(2, 1))
    x = images(model, 2)
    noise = [torch.zeros(2, size).double() for size in model.latent_sizes]
    for values in model.draw_at(model.features(x), noise).values:
        assert (values[0] - values[1]).abs().min() > 1e-6


def test_training_starts_from_the_frequencies_of_the_images():
    model = network(2, 2)
    model.start_from(torch.tensor([[[[1, 0], [1, 0]]], [[[1, 0], [0, 0]]]], dtype=torch.uint8))
    torch.testing.assert_close(model.pixel_bias.sigmoid(), torch.tensor([[[0.75, 0.25], [0.5, 0.25]]]).double())


def test_sizes_must_be_positive():
    with pytest.raises(ValueError, match="latents must be positive, not 0"):
        ResNetVAE(harness.ImageSpec(1, 2, 2, 2), latents=0)
