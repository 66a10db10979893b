"""PixelCNN and Gated PixelCNN: what a pixel sees, references written entry by entry, samplers."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn import functional as F

from harness import ImageSpec, Noise, SamplingTrace, Split, Unsupported, with_samplers
from harness_pixelcnn.gated_pixelcnn import ConditionalGatedPixelCNN, GatedPixelCNN
from harness_pixelcnn.pixelcnn import PixelCNN

BINARY, COLOUR = ImageSpec(1, 3, 3, 2, num_classes=3), ImageSpec(3, 2, 2, 2, num_classes=3)
CLASSES = [PixelCNN, GatedPixelCNN, ConditionalGatedPixelCNN]


def small(cls, spec, layers=2, kernel=3):
    return cls(spec, channels=7, layers=layers, kernel=kernel, head=5)


def test_a_gated_pixelcnn_that_is_deep_enough_has_no_blind_spot(randomised, seen, past):
    spec = ImageSpec(1, 9, 9, 2)
    model = randomised(small(GatedPixelCNN, spec, layers=8))
    assert model.dependence() is None
    assert torch.equal(seen(model), past(spec))


def test_a_pixelcnn_has_the_blind_spot_however_deep_it_is(past):
    spec = ImageSpec(1, 9, 9, 2)
    blind = {depth: past(spec) & ~small(PixelCNN, spec, layers=depth).dependence() for depth in (8, 20)}
    assert torch.equal(blind[8], blind[20])
    # the pixel at row 4, column 4: what lies in row 3, further right than the kernels reach in one step, is not seen
    row = blind[20][4 * 9 + 4].view(9, 9)
    assert row[3, 8]
    assert not row[3, :8].any()


@pytest.mark.parametrize("spec", [BINARY, COLOUR], ids=["binary", "colour"])
def test_the_gated_network_is_the_one_of_the_paper_written_with_square_masked_kernels(spec, randomised):
    model = randomised(small(GatedPixelCNN, spec, layers=2, kernel=3))
    images = torch.randint(spec.levels, (4, *spec.shape), dtype=torch.uint8)
    x = images.double() * 2 / (spec.levels - 1) - 1
    vertical = horizontal = x
    for layer in model.network.layers:
        weight = layer.vertical.weight
        rows, wide = weight.shape[2:]
        square = weight.new_zeros(*weight.shape[:2], 2 * rows + 3, wide)  # rows above the middle alone are not zero
        middle = rows + 1
        below = layer.vertical.shift
        square[:, :, middle - below - rows + 1 : middle - below + 1] = weight
        above = F.conv2d(vertical, square, layer.vertical.bias, padding=(middle, wide // 2))
        own = layer.horizontal.masked_weight()
        right = 2 * layer.horizontal.reach + 1 - own.shape[3]
        across = F.conv2d(horizontal, F.pad(own, (0, right)), padding=(0, layer.horizontal.reach))
        pre = across + layer.link(above)
        half = pre.shape[1] // 2
        out = layer.output(pre[:, :half].tanh() * pre[:, half:].sigmoid())
        vertical = above[:, :half].tanh() * above[:, half:].sigmoid()
        horizontal = out if layer.first else horizontal + out
    expected = model.network.output(model.network.hidden(horizontal.relu()).relu())
    torch.testing.assert_close(model.outputs(images), expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("cls", CLASSES)
@pytest.mark.parametrize("kernel", [1, 3, 5])
@pytest.mark.parametrize("name", ["cached", "fixed-point", "fixed-point-rows"])
@pytest.mark.parametrize(
    "spec", [ImageSpec(1, 5, 6, 2, 3), ImageSpec(3, 3, 4, 4, 3), ImageSpec(1, 1, 4, 3, 3), ImageSpec(1, 4, 1, 2, 3)],
    ids=["binary", "colour", "a row", "a column"],
)  # fmt: skip
def test_a_sampler_draws_the_images_of_the_raster_sampler(cls, kernel, name, spec, randomised):
    model = randomised(small(cls, spec, kernel=kernel))
    noise = model.draw_noise(8)
    known = torch.randint(spec.levels, (8, *spec.shape), dtype=torch.uint8)
    mask = torch.rand(1, 1, *spec.shape[1:]) < 0.4
    samplers = with_samplers(model).samplers()
    assert torch.equal(samplers[name](8, noise=noise), samplers["raster"](8, noise=noise))
    clamped = samplers[name](8, noise=noise, known=known, mask=mask)
    assert torch.equal(clamped, samplers["raster"](8, noise=noise, known=known, mask=mask))
    assert torch.equal(clamped[mask.expand_as(known)], known[mask.expand_as(known)])


@pytest.mark.parametrize("cls", [PixelCNN, GatedPixelCNN])
def test_a_network_of_its_first_layer_alone_is_sampled_as_well(cls, randomised):
    spec = ImageSpec(3, 3, 3, 2)
    model = randomised(small(cls, spec, layers=0))
    noise = model.draw_noise(6)
    images = {name: sampler(6, noise=noise) for name, sampler in with_samplers(model).samplers().items()}
    assert all(torch.equal(drawn, images["raster"]) for drawn in images.values())


@pytest.mark.parametrize("cls", [PixelCNN, GatedPixelCNN])
def test_the_fixed_point_needs_fewer_steps_than_there_are_entries_and_counts_them(cls):
    spec = ImageSpec(1, 12, 12, 2)
    model = small(cls, spec)
    for name in ("fixed-point", "fixed-point-rows"):
        trace = SamplingTrace()
        with_samplers(model).samplers()[name](4, trace=trace)
        assert 1 < trace.sequential_depth < 144
        assert trace.network_evaluations == trace.sequential_depth


def test_the_compiled_sampler_draws_the_images_of_the_cached_one_or_falls_back_to_it():
    spec = ImageSpec(3, 5, 4, 3, num_classes=3)
    model = small(ConditionalGatedPixelCNN, spec)
    noise = model.draw_noise(20)
    drawn = {name: with_samplers(model).samplers()[name](20, noise=noise) for name in ("cached", "compiled")}
    with torch.no_grad():
        logits = model.condition_on(noise.ordering).conditional_logits(drawn["compiled"])
    best = (logits + noise.gumbel).topk(2, dim=1)
    assert (
        torch.equal(best.indices[:, 0].to(torch.uint8), drawn["compiled"])
        or (best.values[:, 0] - best.values[:, 1])[best.indices[:, 0] != drawn["compiled"]].max() < 1e-5
    )
    different = (drawn["cached"] != drawn["compiled"]).flatten(1).any(1)
    assert different.sum() <= 1  # rounding


def test_samples_can_be_changed_in_place_and_take_part_in_a_gradient():
    spec = ImageSpec(1, 4, 4, 2)
    model = small(GatedPixelCNN, spec)
    images = with_samplers(model).sample(3)
    images += 0
    model.log_prob(images).sum().backward()
    assert model.network.output.weight.grad is not None


def test_without_a_label_the_class_conditional_model_is_the_equal_mixture_of_its_classes(every_image, randomised):
    spec = BINARY
    model = randomised(small(ConditionalGatedPixelCNN, spec))
    images = every_image(spec)[::7]
    with torch.no_grad():
        given = torch.stack(
            [model.condition_on(torch.full((len(images),), label)).log_prob(images) for label in range(3)]
        )
        torch.testing.assert_close(model.log_prob(images), given.logsumexp(0) - math.log(3), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", ["cached", "fixed-point", "fixed-point-rows", "raster"])
def test_samples_given_labels_are_those_of_the_mixture_under_the_same_noise(name, randomised):
    spec = ImageSpec(1, 4, 4, 2, num_classes=3)
    model = randomised(small(ConditionalGatedPixelCNN, spec))
    noise = model.draw_noise(12)
    view = model.condition_on(noise.ordering)
    given = Noise(noise.gumbel, torch.zeros_like(noise.ordering))
    assert torch.equal(
        with_samplers(view).samplers()[name](12, noise=given),
        with_samplers(model).samplers()["raster"](12, noise=noise),
    )


def test_labels_that_are_not_classes_are_refused_by_value():
    model = small(ConditionalGatedPixelCNN, BINARY)
    with pytest.raises(ValueError, match="labels must be below 3, not 7"):
        model.condition_on(torch.tensor([1, 7]))


def test_a_view_for_two_labels_draws_two_images():
    view = small(ConditionalGatedPixelCNN, BINARY).condition_on(torch.tensor([0, 1]))
    with pytest.raises(ValueError, match="2 labels draws as many images, not 5"):
        with_samplers(view).sample(5)


def test_a_class_conditional_model_needs_classes():
    with pytest.raises(Unsupported, match="labels"):
        ConditionalGatedPixelCNN(ImageSpec(1, 3, 3, 2))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"channels": 0}, "channels must be positive, not 0"),
        ({"layers": -1}, "layers must be at least 0, not -1"),
        ({"kernel": 4}, "kernel must be an odd number, not 4"),
        ({"learning_rate": 0.0}, "learning_rate must be positive"),
    ],
)
@pytest.mark.parametrize("cls", [PixelCNN, GatedPixelCNN])
def test_a_wrong_hyperparameter_is_named(cls, given, message):
    with pytest.raises(ValueError, match=message):
        cls(ImageSpec(1, 3, 3, 2), **given)


def test_a_split_without_labels_cannot_train_a_class_conditional_model():
    model = small(ConditionalGatedPixelCNN, BINARY)
    with pytest.raises(Unsupported, match="labels"):
        model.training_labels(Split(torch.zeros(2, 1, 3, 3, dtype=torch.uint8), None))
