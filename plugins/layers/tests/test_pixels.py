from __future__ import annotations

import pytest
import torch

from harness import ImageSpec, Split
from harness_layers.chunks import in_chunks
from harness_layers.pixels import entry_log_probs, image_logits, marginal_outputs, num_outputs, scale
from harness_layers.reach import dependence_by, whole_past

SPECS = [ImageSpec(1, 2, 3, 2), ImageSpec(3, 2, 2, 2), ImageSpec(1, 2, 2, 4), ImageSpec(3, 1, 2, 5)]


@pytest.mark.parametrize("spec", SPECS, ids=str)
def test_log_probs_of_entries_are_those_of_the_normalised_logits(spec):
    outputs = torch.randn(6, spec.channels * num_outputs(spec), spec.height, spec.width, dtype=torch.float64)
    images = torch.randint(spec.levels, (6, *spec.shape), dtype=torch.uint8)
    normalised = image_logits(outputs, spec).log_softmax(1)
    expected = normalised.gather(1, images.long().unsqueeze(1)).squeeze(1)
    torch.testing.assert_close(entry_log_probs(outputs, images, spec), expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("spec", SPECS, ids=str)
def test_marginal_outputs_give_every_channel_the_frequencies_of_its_values(spec):
    images = torch.randint(spec.levels, (50, *spec.shape), dtype=torch.uint8)
    outputs = marginal_outputs(Split(images, None), spec).view(1, -1, 1, 1).expand(1, -1, spec.height, spec.width)
    probabilities = image_logits(outputs, spec).softmax(1)[0, :, :, 0, 0]  # (levels, C)
    for channel in range(spec.channels):
        counts = torch.bincount(images[:, channel].flatten().long(), minlength=spec.levels) + 1.0
        torch.testing.assert_close(probabilities[:, channel], (counts / counts.sum()).double())


def test_values_are_scaled_to_minus_one_and_one():
    images = torch.arange(5, dtype=torch.uint8).view(1, 1, 1, 5)
    assert scale(images, 5, torch.float32).flatten().tolist() == [-1, -0.5, 0, 0.5, 1]


def test_chunks_are_put_together_in_order_with_their_labels():
    images, labels = torch.arange(21.0).view(21, 1), torch.arange(21)
    with torch.no_grad():
        assert torch.equal(in_chunks(lambda x, y: x[:, 0] + 100 * y, images, labels), images[:, 0] + 100 * labels)


def test_a_network_that_sees_all_of_the_past_has_nothing_to_declare():
    spec = ImageSpec(3, 2, 2, 2)
    past = whole_past(spec).float()
    assert dependence_by(lambda x: (x.flatten(1) @ past.T).view_as(x), spec, torch.device("cpu")) is None


def test_what_a_network_does_not_see_is_declared():
    spec = ImageSpec(1, 2, 2, 2)
    seen = torch.zeros(4, 4)
    seen[3, 1] = 1
    declared = dependence_by(lambda x: (x.flatten(1) @ seen.T).view_as(x), spec, torch.device("cpu"))
    assert torch.equal(declared, seen > 0)
