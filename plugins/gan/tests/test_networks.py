"""Networks of both kinds, at every size that they promise to do."""

from __future__ import annotations

from typing import get_args

import pytest
import torch
from torch import nn

from harness import ImageSpec, Unsupported
from harness_gan.dcgan import halvings, maps
from harness_gan.networks import Network, build_discriminator, build_generator
from harness_gan.penalties import gradient_penalty
from harness_gan.scores import Normalization

SIZES = {
    (8, 8): 2, (12, 12): 2, (14, 14): 1, (16, 16): 2, (20, 20): 2, (28, 28): 2, (32, 32): 3, (28, 20): 2, (64, 64): 4,
}  # fmt: skip


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_a_dcgan_is_halved_down_to_four_pixels_and_at_least_twice_where_sides_allow_it(size):
    assert halvings(ImageSpec(1, *size, 2)) == SIZES[size]


@pytest.mark.parametrize("size", [(3, 3), (4, 4), (6, 8), (9, 9), (8, 9), (8, 7)], ids=str)
def test_a_dcgan_refuses_other_sizes_by_name(size):
    with pytest.raises(
        Unsupported, match=rf"even sides of at least 8 pixels, not {size[0]}x{size[1]}; network = 'mlp'"
    ):
        build_generator("dcgan", ImageSpec(1, *size, 2), latents=4, width=8)
    with pytest.raises(Unsupported):
        build_discriminator("dcgan", ImageSpec(1, *size, 2), width=8, normalization="batch", dropout=0.0)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("size", list(SIZES)[:-1], ids=str)
def test_every_latent_reaches_every_pixel_and_every_pixel_the_score_at_every_size(size, channels):
    spec = ImageSpec(channels, *size, 256)
    generator = build_generator("dcgan", spec, latents=3, width=8).double().eval()
    latents = torch.randn(20, 3, dtype=torch.float64)  # of one image alone, all units of a pixel may be off
    images = generator(latents)
    assert images.shape == (20, *spec.shape)
    for number in range(3):
        moved = latents.clone()
        moved[:, number] += 1
        assert (generator(moved) != images).any(0).all()
    critic = build_discriminator("dcgan", spec, width=8, normalization="none", dropout=0.0).double()
    batch = torch.randn(8, *spec.shape, dtype=torch.float64, requires_grad=True)
    [gradient] = torch.autograd.grad(critic(batch).sum(), batch)
    assert (gradient != 0).any(0).all()


def test_generated_images_depend_on_their_own_latents_alone_in_evaluation_and_on_the_batchs_in_training():
    for network in ("mlp", "dcgan"):
        generator = build_generator(network, ImageSpec(1, 8, 8, 2), latents=4, width=8).double()
        generator(torch.randn(64, 4, dtype=torch.float64))  # running statistics that differ from those at the start
        latents = torch.randn(6, 4, dtype=torch.float64)
        others = torch.cat([latents[:1], torch.randn(5, 4, dtype=torch.float64)])
        assert not torch.allclose(generator(latents)[0], generator(others)[0], rtol=0, atol=1e-9)
        generator.eval()
        torch.testing.assert_close(generator(latents)[0], generator(others)[0], rtol=0, atol=1e-14)


def test_dcgans_batch_norm_is_everywhere_but_at_the_images():
    spec = ImageSpec(3, 32, 32, 256)
    generator = build_generator("dcgan", spec, latents=4, width=32)
    discriminator = build_discriminator("dcgan", spec, width=32, normalization="batch", dropout=0.0)
    normed = [module.num_features for module in generator.modules() if isinstance(module, nn.BatchNorm2d)]
    assert normed == maps(32, 3) == [32, 16, 8]
    normed = [module.num_features for module in discriminator.modules() if isinstance(module, nn.BatchNorm2d)]
    assert normed == [16, 32]


def test_a_discriminator_has_no_buffers_that_judging_could_change():
    for network in ("mlp", "dcgan"):
        for name in ("none", "batch", "layer"):
            built = build_discriminator(network, ImageSpec(1, 8, 8, 2), width=8, normalization=name, dropout=0.1)
            assert list(built.buffers()) == []


@pytest.mark.parametrize("network", ["mlp", "dcgan"])
def test_spectral_norm_keeps_the_largest_singular_value_of_every_layer_at_one(network):
    built = build_discriminator(network, ImageSpec(1, 8, 8, 2), width=8, normalization="spectral", dropout=0.0).double()
    for _ in range(200):  # a power iteration each
        built(torch.randn(3, 1, 8, 8, dtype=torch.float64))
    layers = [module for module in built if isinstance(module, nn.Linear | nn.Conv2d)]
    assert len(layers) == 3
    for layer in layers:
        largest = torch.linalg.matrix_norm(layer.weight.flatten(1), ord=2)
        torch.testing.assert_close(largest.item(), 1.0, rtol=1e-6, atol=0)


def test_layer_norm_is_of_one_image():
    spec = ImageSpec(1, 8, 8, 2)
    built = build_discriminator("dcgan", spec, width=8, normalization="layer", dropout=0.0).double()
    images = torch.randn(6, 1, 8, 8, dtype=torch.float64)
    torch.testing.assert_close(built(images)[:2], built(images[:2]))
    assert [type(layer).__name__ for layer in built].count("GroupNorm") == 1


def test_features_are_what_the_last_layer_takes():
    for network in ("mlp", "dcgan"):
        built = build_discriminator(network, ImageSpec(1, 8, 8, 2), width=8, normalization="none", dropout=0.0)
        images = torch.randn(5, 1, 8, 8)
        features = built.features(images)
        assert features.shape == (5, built.num_features)
        torch.testing.assert_close(built.score(features), built(images))


def test_a_critic_without_batch_norm_keeps_the_size_of_its_signal_at_initialisation():
    spec = ImageSpec(3, 32, 32, 256)
    scores = build_discriminator("dcgan", spec, width=64, normalization="none", dropout=0.0)(
        torch.randn(200, *spec.shape)
    )
    assert 0.2 < scores.std().item() < 5


def test_an_unknown_network_is_named():
    spec = ImageSpec(1, 8, 8, 2)
    with pytest.raises(ValueError, match=r"network must be one of 'mlp', 'dcgan', .*, not 'cnn'"):
        build_generator("cnn", spec, latents=4, width=8)
    with pytest.raises(ValueError, match=r"network must be one of 'mlp', 'dcgan', .*, not 'cnn'"):
        build_discriminator("cnn", spec, width=8, normalization="batch", dropout=0.0)


NETWORKS = get_args(Network)
HARD = [name for name in NETWORKS if name not in ("mlp", "dcgan")]


@pytest.mark.parametrize("name", HARD)
@pytest.mark.parametrize("spec", [ImageSpec(1, 8, 8, 17), ImageSpec(3, 16, 8, 256)], ids=["1x8x8", "3x16x8"])
def test_every_network_makes_images_and_judges_them(name, spec):
    generator = build_generator(name, spec, latents=5, width=8)
    images = generator(torch.randn(6, 5))
    assert images.shape == (6, *spec.shape)
    assert images.abs().max() <= 1
    for normalization in get_args(Normalization):
        scores = build_discriminator(name, spec, width=8, normalization=normalization, dropout=0.0)
        outputs = scores(images)
        assert outputs.shape == (6,)
        slopes = torch.autograd.grad(outputs.sum(), generator.parameters(), retain_graph=True)
        assert all(slope.abs().max() > 0 for slope in slopes[:2])  # it reaches the first layer


@pytest.mark.parametrize("name", HARD)
def test_the_slope_of_every_network_can_be_penalised(name):
    spec = ImageSpec(1, 8, 8, 17)
    scores = build_discriminator(name, spec, width=8, normalization="layer", dropout=0.0).double()
    images = torch.randn(3, 1, 8, 8, dtype=torch.float64)
    penalty = gradient_penalty(scores, images, images.flip(0))
    gradients = torch.autograd.grad(penalty, list(scores.parameters()), allow_unused=True)
    assert any(gradient is not None and gradient.abs().max() > 0 for gradient in gradients)


def test_what_makes_a_network_hard_is_what_it_says():
    spec = ImageSpec(3, 32, 32, 256)
    kinds, made = {}, {}
    for name in NETWORKS:
        modules = list(build_generator(name, spec, latents=4, width=16).modules())
        kinds[name] = {type(module).__name__ for module in modules}
        made[name] = [module.in_channels for module in modules if isinstance(module, nn.ConvTranspose2d)]
    norm = {name: any(kind.startswith("BatchNorm") for kind in found) for name, found in kinds.items()}
    assert [name for name in NETWORKS if not norm[name]] == ["dcgan-constant", "dcgan-mlp", "dcgan-plain"]
    assert made["dcgan"] == made["dcgan-plain"] == made["dcgan-gated"] == [16, 8, 4]
    assert made["dcgan-constant"] == [16, 16, 16]
    assert "ReLU" not in kinds["dcgan-tanh"] | kinds["dcgan-gated"]
    assert "Gate" in kinds["dcgan-gated"]
    dense = [
        module for module in build_generator("dcgan-mlp", spec, latents=4, width=16) if isinstance(module, nn.Linear)
    ]
    assert [layer.out_features for layer in dense] == [128] * 4 + [3 * 32 * 32]
    discriminator = build_discriminator("dcgan-tanh", spec, width=16, normalization="batch", dropout=0.0)
    assert not any(isinstance(module, nn.LeakyReLU) for module in discriminator)
    deep = build_generator("deep-resnet", ImageSpec(1, 28, 28, 256), latents=4, width=8)
    weights = [one for one in deep.modules() if isinstance(one, nn.Linear | nn.Conv2d) and one.weight.shape[-1] != 1]
    assert len(weights) == 18


@pytest.mark.parametrize("name", ["dcgan-constant", "dcgan-plain", "dcgan-mlp"])
def test_generators_without_batch_norm_keep_the_size_of_their_signal_at_initialisation(name):
    layers = list(build_generator(name, ImageSpec(3, 32, 32, 256), latents=64, width=32))[:-1]
    signal, sizes = torch.randn(100, 64), []
    for layer in layers:
        signal = layer(signal)
        if isinstance(layer, nn.Linear | nn.ConvTranspose2d):
            sizes.append(signal.std().item())
    assert all(0.7 < size < 2.1 for size in sizes)


def test_the_network_of_info_gan_wants_sides_of_multiples_of_four():
    with pytest.raises(Unsupported, match="multiples of 4, not 10x10"):
        build_generator("info", ImageSpec(1, 10, 10, 2), latents=4, width=8)
