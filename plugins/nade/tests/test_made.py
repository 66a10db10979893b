from __future__ import annotations

import math

import pytest
import torch

from harness import ImageSpec, with_samplers
from harness_nade.made import MADE

NINE = ImageSpec(channels=1, height=3, width=3, levels=2)


def loops_log_prob(model: MADE, image: list[int], member: int) -> float:
    """Log p(image) of one member by loops over the paper's masks, equations 12 and 13; scaled inputs."""
    levels, size = model.spec.levels, model.spec.num_dimensions
    rank = (model.generation_steps(member).flatten() + 1).tolist()
    degrees = [getattr(model, f"degrees_{i}")[member % model.num_masks].tolist() for i in range(len(model.layers))]
    x = [value / (levels - 1) for value in image]
    hidden, below = x, rank
    for layer, above in zip(model.layers, degrees, strict=True):
        weight, bias = layer.weight.tolist(), layer.bias.tolist()
        units = []
        for k in range(len(above)):
            total = bias[k]
            for j in range(len(below)):
                if above[k] >= below[j]:
                    total += weight[k][j] * hidden[j]
            units.append(max(0.0, total))
        hidden, below = units, above
    num_out = 1 if levels == 2 else levels
    weight, bias = model.output.weight.tolist(), model.output.bias.tolist()
    direct = None if model.direct is None else model.direct.weight.tolist()
    log_prob = 0.0
    for d in range(size):
        outputs = []
        for v in range(num_out):
            total = bias[d * num_out + v]
            for k in range(len(below)):
                if rank[d] > below[k]:
                    total += weight[d * num_out + v][k] * hidden[k]
            if direct is not None:
                for j in range(size):
                    if rank[d] > rank[j]:
                        total += direct[d * num_out + v][j] * x[j]
            outputs.append(total)
        logits = [0.0, *outputs] if levels == 2 else outputs
        log_prob += logits[image[d]] - math.log(sum(math.exp(logit) for logit in logits))
    return log_prob


@pytest.mark.parametrize("spec", [NINE, ImageSpec(channels=3, height=2, width=1, levels=3)], ids=["binary", "colour"])
@pytest.mark.parametrize("direct", [False, True])
def test_log_prob_is_the_mixture_of_the_papers_masked_products(spec, direct, every_image, randomised):
    model = randomised(MADE(spec, hidden=(9, 8), num_masks=2, num_orderings=2, direct=direct, inputs="scaled"))
    images = every_image(spec)[::97]
    for image, log_prob in zip(images.flatten(1).tolist(), model.log_prob(images).tolist(), strict=True):
        members = [math.exp(loops_log_prob(model, image, member)) for member in range(4)]
        assert log_prob == pytest.approx(math.log(sum(members) / 4), abs=1e-6)


@pytest.mark.parametrize("hidden", [(8,), (8, 8), (20, 9, 13)])
@pytest.mark.parametrize("seed", range(5))
def test_layers_of_at_least_d_minus_one_units_lose_nothing_of_the_past(hidden, seed):
    model = MADE(NINE, hidden=hidden, num_masks=3, num_orderings=3, mask_seed=seed)
    assert [model.dependence(member) for member in range(9)] == [None] * 9


def test_a_narrow_layer_without_direct_connections_declares_what_it_loses():
    narrow = MADE(NINE, hidden=(3,))
    dependence = narrow.dependence()
    degrees = narrow.get_buffer("degrees_0")[0].tolist()
    for row in range(9):
        for column in range(9):
            reachable = any(column + 1 <= degree < row + 1 for degree in degrees)
            assert dependence[row, column].item() == reachable
    assert not dependence[8, 7] or 8 in degrees
    assert MADE(NINE, hidden=(3,), direct=True).dependence() is None


def test_degrees_are_shuffled_differently_for_every_mask():
    model = MADE(NINE, hidden=(16,), num_masks=3)
    first, second, third = model.get_buffer("degrees_0")
    assert not torch.equal(first, second)
    assert not torch.equal(second, third)


def test_masks_and_orderings_depend_on_constructor_arguments_alone():
    one = MADE(NINE, hidden=(9, 9), num_masks=2, num_orderings=3)
    torch.rand(7)
    other = MADE(NINE, hidden=(9, 9), num_masks=2, num_orderings=3)
    for member in range(6):
        for mask, same in zip(one.masks(member), other.masks(member), strict=True):
            assert torch.equal(mask, same)
    assert not any("degrees" in name or "ranks" in name for name in one.state_dict())


def test_the_first_ordering_is_raster_order_with_the_channels_of_a_pixel_in_turn():
    model = MADE(ImageSpec(channels=2, height=2, width=2, levels=2), num_orderings=2, hidden=(8,))
    assert model.generation_steps(0).tolist() == [[[0, 2], [4, 6]], [[1, 3], [5, 7]]]
    assert model.generation_steps(1).tolist() != model.generation_steps(0).tolist()


def test_weights_changed_between_two_samples_are_the_ones_sampled_from(randomised):
    model = randomised(MADE(NINE, hidden=(9,)))
    noise = model.draw_noise(50)
    before = with_samplers(model).samplers()["raster"](50, noise=noise)
    with torch.no_grad():
        model.output.weight.neg_()
    after = with_samplers(model).samplers()["raster"](50, noise=noise)
    assert not torch.equal(before, after)
    assert torch.equal((model.conditional_logits(after) + noise.gumbel).argmax(1).to(torch.uint8), after)


def test_no_hidden_layer_is_refused():
    with pytest.raises(ValueError, match=r"hidden must be one positive number or more, not \(\)"):
        MADE(NINE, hidden=())
