from __future__ import annotations

import pytest
import torch

from harness import ImageSpec, SamplingTrace, with_samplers
from harness_nade import made_incremental
from harness_nade.made import MADE

BINARY = ImageSpec(channels=1, height=4, width=5, levels=2)
GREY = ImageSpec(channels=1, height=3, width=4, levels=4)
RGB = ImageSpec(channels=3, height=2, width=3, levels=3)
SPACES = pytest.mark.parametrize("space", [BINARY, GREY, RGB], ids=["binary", "grey", "rgb"])
BLOCKS = pytest.mark.parametrize("block", [1, 7, 112])  # one entry, several and a last one that is not full, all


def drawn(model, name, noise, **options):
    return with_samplers(model).samplers()[name](len(noise.gumbel), noise=noise, **options)


@SPACES
@BLOCKS
@pytest.mark.parametrize("inputs", ["scaled", "one-hot"])
@pytest.mark.parametrize("direct", [False, True], ids=["", "direct"])
def test_images_of_a_mixture_are_those_of_raster(space, block, inputs, direct, randomised, monkeypatch):
    monkeypatch.setattr(made_incremental, "_BLOCK", block)
    model = randomised(MADE(space, hidden=(30, 25), num_masks=2, num_orderings=2, direct=direct, inputs=inputs)).eval()
    noise = model.draw_noise(30)
    assert noise.ordering.unique().tolist() == [0, 1, 2, 3]
    assert torch.equal(drawn(model, "incremental", noise), drawn(model, "raster", noise))


@SPACES
@BLOCKS
@pytest.mark.parametrize("hidden", [(3,), (40,), (4, 30, 5)])
def test_images_of_narrow_wide_and_deep_networks_are_those_of_raster(space, block, hidden, randomised, monkeypatch):
    monkeypatch.setattr(made_incremental, "_BLOCK", block)
    model = randomised(MADE(space, hidden=hidden)).eval()
    noise = model.draw_noise(30)
    assert torch.equal(drawn(model, "incremental", noise), drawn(model, "raster", noise))


@pytest.mark.parametrize("space", [ImageSpec(1, 1, 1, 2), ImageSpec(1, 1, 1, 5)], ids=["binary", "5 levels"])
def test_an_image_of_one_entry_is_that_of_raster(space, randomised):
    model = randomised(MADE(space, hidden=(3, 3))).eval()
    noise = model.draw_noise(30)
    assert torch.equal(drawn(model, "incremental", noise), drawn(model, "raster", noise))


@SPACES
@BLOCKS
@pytest.mark.parametrize("hidden", [(3,), (30, 25)])
def test_clamped_pixels_are_kept_and_seen_as_by_raster(space, block, hidden, randomised, monkeypatch):
    monkeypatch.setattr(made_incremental, "_BLOCK", block)
    model = randomised(MADE(space, hidden=hidden, num_orderings=2)).eval()
    noise = model.draw_noise(20)
    known = torch.randint(space.levels, (20, *space.shape), dtype=torch.uint8)
    mask = torch.rand(1, *space.shape) < 0.5  # one for all images
    images = drawn(model, "incremental", noise, known=known, mask=mask)
    assert torch.equal(images, drawn(model, "raster", noise, known=known, mask=mask))
    assert torch.equal(torch.where(mask, images, 0), torch.where(mask, known, 0))
    assert not torch.equal(images, drawn(model, "incremental", noise))


def test_known_pixels_without_a_mask_are_refused():
    model = MADE(BINARY, hidden=(20,))
    with pytest.raises(ValueError, match="known pixels need a mask"):
        with_samplers(model).samplers()["incremental"](1, known=torch.zeros(1, *BINARY.shape, dtype=torch.uint8))


def test_a_block_is_evaluated_at_most_once_an_entry(randomised):
    model = randomised(MADE(BINARY, hidden=(30,))).eval()
    trace = SamplingTrace()
    drawn(model, "incremental", model.draw_noise(50), trace=trace)
    assert 2 <= trace.sequential_depth <= BINARY.num_dimensions
    assert trace.network_evaluations == trace.sequential_depth


def test_blocks_of_one_entry_are_evaluated_once_an_entry(randomised, monkeypatch):
    monkeypatch.setattr(made_incremental, "_BLOCK", 1)
    model, trace = randomised(MADE(BINARY, hidden=(30,))).eval(), SamplingTrace()
    drawn(model, "incremental", model.draw_noise(5), trace=trace)
    assert trace == SamplingTrace(network_evaluations=BINARY.num_dimensions, sequential_depth=BINARY.num_dimensions)


def test_samples_can_be_used_where_gradients_are_recorded(randomised):
    model = randomised(MADE(BINARY, hidden=(30,)))
    images = with_samplers(model).sample(3)
    assert not images.is_inference()
    weights = torch.ones(3, requires_grad=True)
    (images.double().sum((1, 2, 3)) * weights).sum().backward()
    assert torch.equal(weights.grad, images.sum((1, 2, 3)).float())


def test_weights_changed_between_two_samples_are_the_ones_sampled_from(randomised):
    model = randomised(MADE(BINARY, hidden=(30,)))
    noise = model.draw_noise(50)
    drawn(model, "incremental", noise)
    with torch.no_grad():
        model.output.weight.neg_()
    assert torch.equal(drawn(model, "incremental", noise), drawn(model, "raster", noise))
