from __future__ import annotations

import math

import pytest
import torch

from harness import ImageSpec
from harness_layers.pixels import (
    by_entry,
    draw_levels,
    entry_log_probs,
    image_logits,
    level_counts,
    level_log_probs,
    level_logits,
    num_outputs,
    outputs_of,
    quantize,
    scale,
    smoothed_outputs,
)

SPECS = [ImageSpec(1, 2, 3, 2), ImageSpec(3, 2, 2, 2), ImageSpec(1, 2, 2, 4), ImageSpec(3, 1, 2, 5)]


@pytest.mark.parametrize("spec", SPECS, ids=str)
def test_log_probs_of_entries_are_those_of_the_normalised_logits(spec):
    outputs = torch.randn(6, spec.channels * num_outputs(spec), spec.height, spec.width, dtype=torch.float64)
    images = torch.randint(spec.levels, (6, *spec.shape), dtype=torch.uint8)
    normalised = image_logits(outputs, spec).log_softmax(1)
    expected = normalised.gather(1, images.long().unsqueeze(1)).squeeze(1)
    torch.testing.assert_close(entry_log_probs(outputs, images, spec), expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("spec", SPECS, ids=str)
def test_the_outputs_of_a_channel_lie_together(spec):
    outputs = torch.arange(spec.channels * num_outputs(spec)).view(1, -1, 1, 1)
    assert by_entry(outputs, spec)[0, :, 0, 0, 0].tolist() == [c * num_outputs(spec) for c in range(spec.channels)]


@pytest.mark.parametrize("levels", [2, 5])
def test_probabilities_of_all_levels_sum_to_one(levels):
    outputs = torch.randn(7, num_outputs(ImageSpec(1, 1, 1, levels)), dtype=torch.float64)
    values = torch.arange(levels, dtype=torch.uint8)
    total = sum(level_log_probs(outputs, value.expand(7)).exp() for value in values)
    torch.testing.assert_close(total, torch.ones(7, dtype=torch.float64))


@pytest.mark.parametrize("levels", [2, 3])
def test_outputs_of_probabilities_give_just_these_probabilities(levels):
    probabilities = torch.rand(4, levels, 6, dtype=torch.float64).softmax(1)
    torch.testing.assert_close(level_logits(outputs_of(probabilities, dim=1), dim=1).softmax(1), probabilities)


@pytest.mark.parametrize("levels", [2, 4])
def test_levels_are_drawn_with_their_probabilities(levels):
    probabilities = torch.tensor([[0.7, 0.3], [0.1, 0.9]] if levels == 2 else [[0.5, 0.2, 0.2, 0.1]])
    drawn = draw_levels(outputs_of(probabilities).expand(20_000, -1, -1))
    for entry, expected in enumerate(probabilities):
        frequencies = drawn[:, entry].long().bincount(minlength=levels) / 20_000
        assert ((frequencies - expected).abs() < 5 * (expected * (1 - expected) / 20_000).sqrt()).all()


@pytest.mark.parametrize("spec", SPECS, ids=str)
def test_every_level_is_counted_at_every_entry(spec):
    images = torch.randint(spec.levels, (1500, *spec.shape), dtype=torch.uint8)  # more than are counted at a time
    expected = torch.stack([(images == level).sum(0) for level in range(spec.levels)])
    assert torch.equal(level_counts(images, spec.levels), expected)


def test_smoothed_outputs_count_every_level_once_more_than_it_occurs():
    assert smoothed_outputs(torch.tensor([[2, 6]])).item() == pytest.approx(math.log(7 / 3))
    expected = torch.tensor([1, 3, 6], dtype=torch.float64).div(10).log()
    torch.testing.assert_close(smoothed_outputs(torch.tensor([0, 2, 5])), expected, rtol=1e-6, atol=0)


def test_values_are_scaled_to_minus_one_and_one():
    images = torch.arange(5, dtype=torch.uint8).view(1, 1, 1, 5)
    assert scale(images, 5, torch.float32).flatten().tolist() == [-1, -0.5, 0, 0.5, 1]


@pytest.mark.parametrize("levels", [2, 3, 17, 256])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_every_level_is_its_own_after_scaling_and_quantizing(levels, dtype):
    values = torch.arange(levels).to(torch.uint8)
    assert torch.equal(quantize(scale(values, levels, dtype), levels), values)


def test_a_value_becomes_its_nearest_level_and_of_two_levels_its_sign():
    values = torch.tensor([-1.0, -0.26, -0.24, 0.0, 0.24, 0.26, 1.0])
    assert quantize(values, 5).tolist() == [0, 1, 2, 2, 2, 3, 4]
    assert quantize(torch.tensor([-0.9, -0.1, 0.1, 0.9]), 2).tolist() == [0, 0, 1, 1]
