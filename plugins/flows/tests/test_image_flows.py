"""NICE, RealNVP and Glow: the whole path from an integer image to its weight, and the noise on the way."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import scipy.stats
import torch

from harness import ImageSpec, Unsupported
from harness_flows.dequantization import VariationalDequantization
from harness_flows.glow import Glow
from harness_flows.nice import NICE, Scaling
from harness_flows.realnvp import RealNVP

SQUEEZED = ImageSpec(1, 8, 8, 256)
FLOWS = {
    "nice": (NICE, {"hidden": (9, 9)}),
    "realnvp": (RealNVP, {"channels": 2}),
    "realnvp, variational": (RealNVP, {"channels": 2, "dequantization": "variational"}),
    "glow": (Glow, {"channels": 2, "depth": 2}),
}


def randomised(model, *, scale=0.1):
    with torch.no_grad():
        for value in model.parameters():
            value.add_(scale * torch.randn_like(value))
    return model.double().eval()


@pytest.mark.parametrize("name", FLOWS)
def test_a_weight_is_the_prior_and_the_jacobian_of_the_whole_path_over_the_density_of_the_noise(name):
    flow, hyperparameters = FLOWS[name]
    model = randomised(flow(SQUEEZED, **hyperparameters))
    images = torch.randint(256, (2, *SQUEEZED.shape), dtype=torch.uint8)
    torch.manual_seed(1)
    weights = model.elbo(images)
    torch.manual_seed(1)
    x, log_q = model.dequantize(images)
    path = [torch.autograd.functional.jacobian(lambda one: model.transform(one[None])[0][0], image) for image in x]
    log_det = torch.stack([torch.linalg.slogdet(matrix.flatten(1))[1] for matrix in path])
    base = scipy.stats.logistic if flow is NICE else scipy.stats.norm
    prior = torch.from_numpy(base.logpdf(model.transform(x)[0].detach().numpy()).sum(1))
    torch.testing.assert_close(weights, prior + log_det - log_q)


def test_the_log_determinant_of_nice_is_the_sum_of_its_log_scales_and_the_preprocessing():
    model = randomised(NICE(SQUEEZED, hidden=(9,)), scale=1.0)
    _, log_det = model.transform(256 * torch.rand(5, *SQUEEZED.shape, dtype=torch.float64))
    expected = model.steps[1].log_scale.sum() - 64 * math.log(256)
    torch.testing.assert_close(log_det, expected.expand(5))


def test_the_scaling_of_nice_starts_from_what_logistic_variables_have():
    scaling, z = Scaling((2,), (2,)).double(), torch.logit(torch.rand(40_000, 2, dtype=torch.float64))
    scaling.start(3 * z + 5)
    torch.testing.assert_close(scaling.log_scale, torch.full_like(scaling.log_scale, -math.log(3)), atol=0.02, rtol=0)
    torch.testing.assert_close(scaling.shift, torch.full_like(scaling.shift, 5), atol=0.1, rtol=0)


def test_realnvp_factors_half_of_the_entries_out_at_each_scale():
    sizes = [step.size for step in RealNVP(ImageSpec(1, 28, 28, 256)).steps[1:]]
    assert [size for size, _ in itertools.groupby(sizes)] == [784, 392, 196]


@pytest.mark.parametrize("flow", [RealNVP, Glow])
@pytest.mark.parametrize("shape", [(1, 1, 2), (1, 4, 1), (3, 2, 2), (1, 7, 7), (3, 32, 32)])
def test_images_of_any_size_come_back(flow, shape):
    model = randomised(flow(ImageSpec(*shape, 4), channels=2))
    x = 4 * torch.rand(2, *shape, dtype=torch.float64)
    torch.testing.assert_close(model.inverse(model.transform(x)[0]), x, atol=1e-7, rtol=0)


def test_glow_refuses_images_that_cannot_be_halved_and_have_many_entries():
    with pytest.raises(Unsupported, match="images of 1x27x27 cannot be halved, and have more than 256 entries"):
        Glow(ImageSpec(1, 27, 27, 256))


@pytest.mark.parametrize("name", FLOWS)
def test_the_noise_is_drawn_anew_for_every_image_and_call(name):
    flow, hyperparameters = FLOWS[name]
    model, images = flow(SQUEEZED, **hyperparameters), torch.zeros(2, *SQUEEZED.shape, dtype=torch.uint8)
    noise = torch.cat([model.dequantize(images)[0], model.dequantize(images)[0]]).flatten(1)
    assert len(noise.unique(dim=0)) == 4


def test_the_density_of_variational_noise_is_that_of_its_draws():
    spec = ImageSpec(1, 1, 2, 5)
    noise, levels = randomised(VariationalDequantization(spec, channels=2), scale=0.3), torch.tensor([[[[1.0, 4.0]]]])
    torch.manual_seed(3)
    u, log_q = noise(levels.double().expand(20_000, 1, 1, 2))
    inside = (u - 0.5).abs().flatten(1).amax(1) < 0.3
    area = inside / log_q.exp()
    assert area.mean().item() == pytest.approx(0.36, abs=5 * area.std().item() / math.sqrt(len(area)))


def test_variational_noise_sees_its_image():
    noise = randomised(VariationalDequantization(SQUEEZED, channels=2), scale=0.3)
    levels = torch.randint(256, (2, *SQUEEZED.shape)).double()
    torch.manual_seed(0)
    first, _ = noise(levels)
    levels[0] = 255 - levels[0]
    torch.manual_seed(0)
    second, _ = noise(levels)
    assert (first[0] != second[0]).all()
    assert torch.equal(first[1], second[1])


def test_uniform_noise_under_a_gaussian_costs_a_quarter_of_a_bit_for_each_entry():
    model = RealNVP(ImageSpec(1, 1, 2, 256), channels=1).double()
    images = torch.full((20_000, 1, 1, 2), 128, dtype=torch.uint8)
    with torch.no_grad():
        model._start(images)
        bits = -model.elbo(images).mean().item() / (2 * math.log(2))
    assert bits == pytest.approx(0.5 * np.log2(2 * np.pi * np.e / 12), abs=0.01)


@pytest.mark.parametrize(
    ("flow", "hyperparameters", "message"),
    [
        (RealNVP, {"channels": 0}, "channels must be positive, not 0"),
        (RealNVP, {"dequantization": "gaussian"}, "dequantization must be one of 'uniform', 'variational', not 'gaus"),
        (NICE, {"hidden": ()}, "hidden must be one positive number or more, not ()"),
        (Glow, {"depth": 0}, "depth must be positive, not 0"),
    ],
)
def test_a_hyperparameter_out_of_range_is_named_with_its_value(flow, hyperparameters, message):
    with pytest.raises(ValueError, match=message.replace("(", r"\(").replace(")", r"\)")):
        flow(SQUEEZED, **hyperparameters)
