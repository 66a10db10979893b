"""Couplings and what stands between them: who is moved by whom, and log-determinants against autograd's Jacobians."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from harness_flows.couplings import Coupling, DenseNetwork, alternate, channel_halves, checkerboard, network_for
from harness_flows.permutations import ActNorm, Invertible1x1, Part, Squeeze
from harness_flows.preprocessing import Linear, Logit


def randomised(module):
    for value in module.parameters():
        nn.init.normal_(value, std=0.3)
    return module.double()


def jacobian(function, x):
    """(D, D) of a map of one image or row."""
    return torch.autograd.functional.jacobian(lambda entry: function(entry[None])[0].flatten(), x).flatten(1)


def steps():
    shape, size = (4, 4, 2), (6,)
    dense = DenseNetwork(size, 12, hidden=(8,))
    convolved = network_for((2, 8, 8), 4, channels=3, blocks=1)
    yield "row", size, Coupling(alternate(size, parity=1), dense)
    yield "image", (2, 8, 8), Coupling(checkerboard((2, 8, 8), parity=0), convolved)
    yield "few pixels", shape, Coupling(channel_halves(shape, parity=1), network_for(shape, 8, channels=2, blocks=0))
    yield "part of a row", (11,), Part((2, 2, 2), Invertible1x1(2))
    yield "actnorm of channels", shape, ActNorm(shape, (4, 1, 1))
    yield "actnorm of entries", shape, ActNorm(shape, shape)
    yield "1x1 convolution", shape, Invertible1x1(4)
    yield "squeeze", shape, Squeeze(shape)


@pytest.mark.parametrize(("shape", "step"), [pytest.param(*rest, id=name) for name, *rest in steps()])
def test_a_step_is_invertible_and_its_log_determinant_is_that_of_the_jacobian(shape, step):
    step, x = randomised(step), torch.randn(3, *shape, dtype=torch.float64)
    values, log_det = step(x)
    torch.testing.assert_close(step.inverse(values), x)
    found = torch.stack([torch.linalg.slogdet(jacobian(lambda one: step(one)[0], image))[1] for image in x])
    torch.testing.assert_close(log_det, found)


@pytest.mark.parametrize("stays", [checkerboard((1, 4, 4), parity=1), channel_halves((3, 4, 4), parity=0)])
def test_entries_that_stay_stay_and_the_others_depend_on_those_and_themselves_alone(stays):
    network = network_for(stays.shape, 2 * len(stays), channels=4, blocks=1)
    coupling, kept = randomised(Coupling(stays, network)), stays.flatten()
    found = jacobian(lambda x: coupling(x)[0], torch.randn(stays.shape, dtype=torch.float64)) != 0
    itself = torch.eye(len(kept), dtype=torch.bool)
    assert torch.equal(found[kept], itself[kept])
    assert torch.equal(found[~kept][:, ~kept], itself[~kept][:, ~kept])
    assert found[~kept][:, kept].any()


def test_two_masks_of_other_parity_move_every_entry_once():
    for mask, shape in ((checkerboard, (3, 3, 5)), (channel_halves, (5, 2, 2)), (alternate, (7,))):
        assert torch.equal(mask(shape, parity=0), ~mask(shape, parity=1))


@pytest.mark.parametrize("network", [DenseNetwork((4,), 8, hidden=(5,)), DenseNetwork((4,), 4, hidden=(5,))])
def test_a_coupling_starts_as_the_identity(network):
    coupling, x = Coupling(alternate((4,), parity=0), network, additive=network.shape == (4,)), torch.randn(3, 4)
    values, log_det = coupling(x)
    assert torch.equal(values, x)
    assert not log_det.any()


@pytest.mark.parametrize("each", [(3, 1, 1), (3, 2, 2)])
def test_an_actnorm_starts_with_mean_zero_and_deviation_one(each):
    actnorm, x = ActNorm((3, 2, 2), each).double(), 5 + 3 * torch.randn(400, 3, 2, 2, dtype=torch.float64)
    actnorm.start(x)
    values, _ = actnorm(x)
    over = (0, 2, 3) if each == (3, 1, 1) else 0
    torch.testing.assert_close(values.mean(over), torch.zeros_like(values.mean(over)), atol=1e-12, rtol=0)
    torch.testing.assert_close(values.std(over, correction=0), torch.ones_like(values.mean(over)))


def test_an_entry_that_does_not_vary_in_the_first_images_is_not_blown_up():
    actnorm, x = ActNorm((2,), (2,)).double(), torch.randn(400, 2, dtype=torch.float64)
    x[:, 1] = 7.0
    actnorm.start(x)
    assert actnorm(torch.full((1, 2), 8.0, dtype=torch.float64))[0].abs().max() < 100


def test_a_1x1_convolution_starts_as_a_rotation():
    mixing = Invertible1x1(5).double()
    weight = jacobian(lambda x: mixing(x)[0], torch.zeros(5, 1, 1, dtype=torch.float64))
    torch.testing.assert_close(weight @ weight.T, torch.eye(5, dtype=torch.float64), atol=1e-5, rtol=0)


@pytest.mark.parametrize("alpha", [1e-6, 0.05])
def test_the_logit_is_of_levels_over_256_and_carries_its_whole_log_determinant(alpha):
    logit, x = Logit(256, alpha=alpha), torch.tensor([[0.0, 100.25, 256.0]], dtype=torch.float64)
    share = alpha + (1 - 2 * alpha) * x / 256
    values, log_det = logit(x)
    torch.testing.assert_close(values, torch.logit(share))
    by_hand = (math.log((1 - 2 * alpha) / 256) - share.log() - (1 - share).log()).sum(1)
    torch.testing.assert_close(log_det, by_hand)
    torch.testing.assert_close(logit.inverse(values), x, atol=1e-9, rtol=0)


def test_scaled_levels_end_at_one_and_cost_a_log_scale_each():
    values, log_det = Linear(256)(torch.tensor([[0.0, 256.0]], dtype=torch.float64))
    assert values.tolist() == [[-1.0, 1.0]]
    assert log_det.item() == pytest.approx(2 * math.log(2 / 256))


@pytest.mark.parametrize("alpha", [0.0, 0.5])
def test_an_alpha_out_of_range_is_named(alpha):
    with pytest.raises(ValueError, match=f"alpha must be above 0 and below 0.5, not {alpha}"):
        Logit(256, alpha=alpha)
