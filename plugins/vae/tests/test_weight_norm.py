"""Weight normalisation: scales apart from directions, and what they start from."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from harness_vae.weight_norm import NormedConv, NormedLinear, NormedTransposedConv, WeightNorm, standardise

LAYERS = [
    (lambda: NormedLinear(3, 4), (50, 3)),
    (lambda: NormedLinear(3, 4, mask=torch.ones(4, 3).tril()), (50, 3)),
    (lambda: NormedConv(2, 3, stride=2, deviation=0.5), (20, 2, 5, 4)),
    (lambda: NormedTransposedConv(2, 3, (5, 4)), (20, 2, 3, 2)),
]


@pytest.fixture(autouse=True)
def _seeded():
    torch.manual_seed(0)


@pytest.mark.parametrize(("make", "shape"), LAYERS)
def test_outputs_start_with_mean_zero_and_the_deviation_that_was_asked_for(make, shape):
    layer, data = make().double(), 3 + torch.randn(shape, dtype=torch.float64)
    standardise(layer, lambda: layer(data))
    outputs = layer(data).movedim(layer.channel_at, 0).flatten(1)
    torch.testing.assert_close(outputs.mean(1), torch.zeros(len(outputs)).double())
    torch.testing.assert_close(outputs.std(1, correction=0), torch.full((len(outputs),), layer.deviation).double())


@pytest.mark.parametrize(("make", "shape"), LAYERS)
def test_the_length_of_a_direction_changes_nothing(make, shape):
    layer, data = make().double(), torch.randn(shape, dtype=torch.float64)
    before = layer(data)
    layer.weight.data.mul_(7)
    torch.testing.assert_close(layer(data), before)


def test_each_layer_is_set_on_what_the_layers_below_return_once_they_are_set():
    network = nn.Sequential(NormedLinear(3, 4), nn.ELU(), NormedLinear(4, 5)).double()
    data = torch.randn(50, 3, dtype=torch.float64)
    found = []
    standardise(network, lambda: found.append(network(data)))
    torch.testing.assert_close(network(data), found[0])
    torch.testing.assert_close(found[0].std(0, correction=0), torch.ones(5).double())
    assert all(not layer._forward_hooks for layer in network if isinstance(layer, WeightNorm))


def test_an_output_that_does_not_vary_keeps_its_scale_and_no_masked_weight_is_used():
    layer = NormedLinear(3, 2, mask=torch.tensor([[0, 0, 0], [1, 0, 1]])).double()
    scale = layer.scale[0].item()
    data = torch.randn(9, 3, dtype=torch.float64)
    standardise(layer, lambda: layer(data))
    assert layer.scale[0].item() == scale
    assert layer(data)[:, 0].abs().max() < 1e-12
    assert torch.equal(layer.normed() != 0, layer.mask != 0)
