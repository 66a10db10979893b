"""The multiscale model: order, reach, a reference written pixel by pixel, padding, samplers and their cost."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from torch.nn import functional as F

from harness import ImageSpec, SamplingTrace, with_samplers
from harness_multiscale.multiscale import Multiscale

WIDE = {
    "binary": ImageSpec(1, 4, 8, 2),
    "padded": ImageSpec(1, 7, 5, 2),
    "colour": ImageSpec(3, 4, 3, 4),
    "wide": ImageSpec(1, 1, 9, 3),
    "a pixel": ImageSpec(3, 1, 1, 4),
}


def small(spec, base=2, blocks=1):
    """A model in float64, every weight random and in play; without gradients, and yet not computed in small chunks."""
    model = Multiscale(spec, base=base, channels=6, blocks=blocks, head=12, base_channels=6, base_layers=1).double()
    for parameter in model.requires_grad_(False).parameters():
        parameter.copy_(0.5 * torch.randn_like(parameter))
    return model


def random_images(spec, count):
    return torch.randint(spec.levels, (count, *spec.shape), dtype=torch.uint8)


def seen(model):
    """(D, D) bool: row i is true at the entries j that change the logits of entry i, in any of 12 random images."""
    spec = model.spec
    size = spec.num_dimensions
    images = random_images(spec, 12)
    change = torch.eye(size, dtype=torch.uint8).view(size, 1, *spec.shape)
    changed = (images + change) % spec.levels  # (D, 12, C, H, W)
    before = model.conditional_logits(images).flatten(2)
    after = model.conditional_logits(changed.flatten(0, 1)).reshape(size, 12, spec.levels, size)
    return ((after - before).abs() > 1e-14).any(1).any(1).T


def seen_by_any(spec, blocks=1):
    """What any of four random models sees: a relu of one of them may be dead, or a gate shut."""
    return torch.stack([seen(small(spec, blocks=blocks)) for _ in range(4)]).any(0)


def earlier(model):
    steps = model.generation_steps().flatten()
    return steps[:, None] > steps[None, :]


@pytest.mark.parametrize("spec", WIDE.values(), ids=WIDE)
@pytest.mark.parametrize("blocks", [0, 2])
def test_a_conditional_sees_exactly_what_is_declared_which_is_of_earlier_steps_alone(spec, blocks):
    model = small(spec, blocks=blocks)
    declared = model.dependence()
    measured = seen_by_any(spec, blocks)
    assert not (measured & ~earlier(model)).any()
    assert torch.equal(measured, earlier(model) if declared is None else declared)


def test_shallow_networks_do_not_see_all_and_deep_ones_do():
    assert small(ImageSpec(1, 12, 12, 2), base=3, blocks=0).dependence() is not None
    assert Multiscale(ImageSpec(1, 12, 12, 2), base=3, blocks=2).dependence() is None


def test_pixels_of_one_group_are_independent_of_one_another_in_all_their_channels():
    model = small(ImageSpec(3, 4, 4, 2))
    saw = seen(model).view(3, 4, 4, 3, 4, 4)
    for row, column in itertools.product(range(4), repeat=2):
        if row % 2 or column % 2:  # not of the base
            same = torch.zeros(4, 4, dtype=torch.bool)
            same[row % 2 :: 2, column % 2 :: 2] = True
            same[row, column] = False
            assert not saw[:, row, column][:, :, same].any()


@pytest.mark.parametrize("spec", [WIDE["padded"], WIDE["colour"]], ids=["padded", "colour"])
def test_channels_of_a_pixel_are_drawn_one_after_another_and_see_the_earlier_ones(spec):
    model = small(spec)
    steps, saw = model.generation_steps(), seen_by_any(spec).view(*spec.shape, *spec.shape)
    for channel, before in itertools.combinations(reversed(range(spec.channels)), 2):
        assert (steps[channel] > steps[before]).all()
        rows, columns = torch.meshgrid(torch.arange(spec.height), torch.arange(spec.width), indexing="ij")
        assert saw[channel, rows, columns, before, rows, columns].all()
        assert not saw[before, rows, columns, channel, rows, columns].any()


def test_the_base_comes_in_raster_order_then_each_doubling_draws_columns_and_rows():
    steps = small(ImageSpec(1, 4, 4, 2), base=2).generation_steps()[0]
    assert steps.tolist() == [[0, 4, 1, 4], [5, 6, 5, 6], [2, 4, 3, 4], [5, 6, 5, 6]]
    # 3 x 3 of base 2: a padded row and a padded column
    assert small(ImageSpec(1, 3, 3, 2), base=2).generation_steps()[0].tolist() == [[0, 4, 1], [5, 6, 5], [2, 4, 3]]


@pytest.mark.parametrize("spec", [ImageSpec(1, 7, 6, 3), ImageSpec(3, 5, 4, 2)], ids=["levels", "colour"])
def test_conditionals_are_those_of_a_reference_on_an_image_padded_with_zeros(spec):
    model = small(spec, base=2)
    channels, height, width = spec.shape
    outputs = 1 if spec.levels == 2 else spec.levels
    doublings = model.pyramid.doublings
    unit = 2**doublings
    images = random_images(spec, 3)
    x = images.double() * 2 / (spec.levels - 1) - 1
    whole = x.new_zeros(3, channels, -(-height // unit) * unit, -(-width // unit) * unit)
    whole[:, :, :height, :width] = x
    expected = x.new_full((3, channels * outputs, *whole.shape[2:]), math.nan)
    expected[:, :, ::unit, ::unit] = model.base(whole[:, :, ::unit, ::unit])
    networks = iter(model.networks)
    for doubling in reversed(range(doublings)):
        stride, known = 2 ** (doubling + 1), [(0, 0)]
        for down, right in ((0, 1), (1, 0), (1, 1)):
            network, half = next(networks), stride // 2
            where = [whole[:, :, a * half :: stride, b * half :: stride] for a, b in known]
            features = network.stem(torch.cat(where, dim=1))
            for block in network.blocks:
                features = features + block.second(F.relu(block.first(F.relu(features))))
            hidden = network.hidden(F.relu(features))
            if channels > 1:
                mask = torch.tensor([[float(unit // 4 > b) for b in range(3)] for unit in range(12)])[..., None, None]
                hidden = hidden + F.conv2d(
                    whole[:, :, down * half :: stride, right * half :: stride], network.own.weight * mask
                )
            wide = hidden.shape[1] // channels
            sees = torch.zeros(channels * outputs, hidden.shape[1], 1, 1)
            for channel in range(channels):
                sees[channel * outputs : (channel + 1) * outputs, : (channel + 1) * wide] = 1
            out = F.conv2d(F.relu(hidden), network.output.weight * sees, network.output.bias)
            expected[:, :, down * half :: stride, right * half :: stride] = out
            known.append((down, right))
    expected = expected[:, :, :height, :width]
    log_probs = model.conditional_log_probs(images)
    if spec.levels == 2:
        reference = torch.where(images > 0, F.logsigmoid(expected), F.logsigmoid(-expected))
    else:
        by_level = expected.view(3, channels, spec.levels, height, width).log_softmax(2)
        reference = by_level.gather(2, images.long().unsqueeze(2)).squeeze(2)
    torch.testing.assert_close(log_probs, reference, rtol=1e-10, atol=1e-12)
    chosen = model.conditional_logits(images).log_softmax(1).gather(1, images.long().unsqueeze(1)).squeeze(1)
    torch.testing.assert_close(chosen, reference, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("base", [4, 7])
def test_a_size_that_fits_is_not_padded_and_one_that_does_not_is_padded_below_one_unit(base):
    for height, width in itertools.product((1, 3, 7, 8, 28, 33), repeat=2):
        pyramid = Multiscale(ImageSpec(1, height, width, 2), base=base, channels=1, blocks=0, head=1,
                             base_channels=1, base_layers=0).pyramid  # fmt: skip
        unit = 2**pyramid.doublings
        tall, wide = pyramid.padded
        assert max(tall, wide) <= base * unit  # the base is at most so large
        assert unit == 1 or max(height, width) > base * unit // 2  # by no more doublings than that takes
        assert 0 <= tall - height < unit
        assert 0 <= wide - width < unit
    assert Multiscale(ImageSpec(1, 28, 28, 2), base=7).pyramid.padded == (28, 28)
    assert Multiscale(ImageSpec(1, 28, 28, 2), base=4).pyramid.padded == (32, 32)


def test_padding_has_no_entry_and_costs_no_nats():
    model = small(ImageSpec(1, 5, 5, 2), base=2)  # two doublings: 8 x 8
    images = random_images(model.spec, 4)
    entries = model.conditional_log_probs(images)
    assert entries.shape == images.shape
    torch.testing.assert_close(model.log_prob(images), entries.flatten(1).sum(1), rtol=1e-12, atol=1e-12)
    for parameter in model.parameters():
        parameter.zero_()
    nats = torch.full((4,), -25 * math.log(2), dtype=torch.float64)  # of 25 pixels, not of 64
    torch.testing.assert_close(model.log_prob(images), nats, rtol=1e-12, atol=0)


@pytest.mark.parametrize("spec", WIDE.values(), ids=WIDE)
@pytest.mark.parametrize("base", [1, 2, 9])
def test_the_parallel_sampler_draws_the_images_of_the_raster_sampler(spec, base):
    model = small(spec, base)
    noise = model.draw_noise(8)
    known = random_images(spec, 8)
    mask = torch.rand(1, 1, *spec.shape[1:]) < 0.4
    samplers = with_samplers(model).samplers()
    assert list(samplers) == ["parallel", "raster"]
    assert torch.equal(samplers["parallel"](8, noise=noise), samplers["raster"](8, noise=noise))
    clamped = samplers["parallel"](8, noise=noise, known=known, mask=mask)
    assert torch.equal(clamped, samplers["raster"](8, noise=noise, known=known, mask=mask))
    assert torch.equal(clamped[mask.expand_as(known)], known[mask.expand_as(known)])


def test_one_forward_pass_maps_a_sample_to_itself():
    model = small(ImageSpec(3, 6, 7, 4))
    noise = model.draw_noise(8)
    images = with_samplers(model).samplers()["parallel"](8, noise=noise)
    assert torch.equal((model.conditional_logits(images) + noise.gumbel).argmax(1).to(torch.uint8), images)


def test_given_the_smaller_image_samples_follow_the_conditional_of_what_is_missing():
    spec = ImageSpec(1, 2, 2, 2)
    model = small(spec, base=1)
    every = torch.tensor(list(itertools.product(range(2), repeat=3)), dtype=torch.uint8)
    images = torch.cat([torch.ones(8, 1, dtype=torch.uint8), every], dim=1).view(8, *spec.shape)
    exact = model.log_prob(images).softmax(0)
    mask = torch.tensor([[True, False], [False, False]])
    known = torch.ones(20000, *spec.shape, dtype=torch.uint8)
    drawn = with_samplers(model).samplers()["parallel"](20000, known=known, mask=mask).flatten(1).long()
    counts = torch.bincount(drawn[:, 1] * 4 + drawn[:, 2] * 2 + drawn[:, 3], minlength=8)
    chi_squared = ((counts - 20000 * exact) ** 2 / (20000 * exact)).sum().item()
    assert chi_squared < 24.3  # 7 degrees of freedom, p = 0.001


@pytest.mark.parametrize("channels", [1, 3])
def test_evaluations_grow_by_three_times_the_channels_a_doubling(channels):
    for doublings in range(4):
        model = Multiscale(ImageSpec(channels, 2 * 2**doublings, 2 * 2**doublings, 2), base=2, channels=3, blocks=0,
                           head=3, base_channels=3, base_layers=0)  # fmt: skip
        trace = SamplingTrace()
        with_samplers(model).samplers()["parallel"](1, trace=trace)
        assert trace.network_evaluations == trace.sequential_depth == channels * (2 * 2 + 3 * doublings)
        assert int(model.generation_steps().max()) + 1 == trace.sequential_depth


def test_a_group_that_lies_in_the_padding_is_not_evaluated():
    model = small(ImageSpec(1, 1, 8, 2), base=2)
    trace = SamplingTrace()
    with_samplers(model).samplers()["parallel"](1, trace=trace)
    assert trace.sequential_depth == 2 + 2 * 1  # a row has no pixels below: two doublings of one group each
    assert len(model.networks) == 2


def test_a_network_of_a_group_is_evaluated_once_an_image_and_not_for_the_others():
    model = small(ImageSpec(3, 8, 8, 2), base=2)
    calls = []
    for index, network in enumerate(model.networks):
        network.stem.register_forward_hook(lambda *_, index=index: calls.append(index))
    with_samplers(model).sample(4)
    assert calls == list(range(6))


def test_a_single_mask_without_known_pixels_is_refused():
    with pytest.raises(ValueError, match="known pixels"):
        with_samplers(small(ImageSpec(1, 4, 4, 2))).samplers()["parallel"](1, mask=torch.ones(4, 4, dtype=torch.bool))


def test_every_parameter_takes_part_in_the_likelihood():
    model = small(ImageSpec(3, 7, 5, 2)).requires_grad_(True)
    model.log_prob(random_images(model.spec, 32)).sum().backward()
    assert all(parameter.grad is not None and parameter.grad.any() for parameter in model.parameters())


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"base": 0}, "base must be positive, not 0"),
        ({"blocks": -1}, "blocks must be at least 0, not -1"),
        ({"channels": 0}, "channels must be positive, not 0"),
        ({"learning_rate": 0.0}, "learning_rate must be positive"),
        ({"head": 2}, "2 features cannot be split into 3 groups"),
    ],
)
def test_a_wrong_hyperparameter_is_named(given, message):
    with pytest.raises(ValueError, match=message):
        Multiscale(ImageSpec(3, 4, 4, 2), **given)
