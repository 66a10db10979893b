"""Flow matching, with the exact velocity of a Gaussian dataset in place of the network."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from harness import Dataset, Evaluation, ImageSpec, Split
from harness_diffusion.flow_matching import FlowMatching, euler, heun
from harness_diffusion.likelihood_estimate import LikelihoodEstimate

SPEC = ImageSpec(1, 1, 2, levels=256)
MEAN, DEVIATION = 0.2, 0.15


def _exact() -> FlowMatching:
    """Returns the model with E[f - noise | z], where f is Gaussian with MEAN and DEVIATION."""

    def velocity(z: Tensor, time: Tensor) -> Tensor:
        time = time[:, None, None, None]
        centred = z - time * MEAN
        scale = (time * DEVIATION**2 - (1 - time)) / ((1 - time) ** 2 + time**2 * DEVIATION**2)
        return MEAN + scale * centred

    model = FlowMatching(SPEC, width=4).double().eval()
    model.velocity = velocity  # type: ignore[method-assign]
    return model


def test_on_gaussian_data_the_estimate_is_the_log_likelihood_of_the_dequantized_images() -> None:
    model = _exact()
    images = torch.randint(90, 220, (50, *SPEC.shape), dtype=torch.uint8)
    torch.manual_seed(1)
    points = model.points(images)
    exact = torch.distributions.Normal(MEAN, DEVIATION).log_prob(points).flatten(1).sum(1) + 2 * math.log(2 / 256)
    errors = []
    for steps in (50, 100):
        torch.manual_seed(1)
        errors.append(float((model.estimate_log_prob(images, steps) - exact).abs().max()))
    assert errors[1] < 0.3 * errors[0]  # of second order
    assert errors[1] < 0.02


def test_samples_have_the_mean_and_the_deviation_of_the_data() -> None:
    values = 2 * (_exact().sample(4000).double() + 0.5) / 256 - 1
    assert abs(float(values.mean()) - MEAN) < 4 * DEVIATION / 8000**0.5
    assert abs(float(values.std()) / DEVIATION - 1) < 0.05


def test_the_trace_is_estimated_without_bias() -> None:
    model = FlowMatching(SPEC, width=4).double().eval()
    matrix = torch.tensor([[0.3, -0.2], [0.5, 0.1]], dtype=torch.float64)
    model.velocity = lambda z, time: (z.flatten(1) @ matrix.T).view_as(z)  # type: ignore[method-assign]
    images = torch.zeros(2000, *SPEC.shape, dtype=torch.uint8)
    torch.manual_seed(1)
    start = torch.linalg.matrix_exp(-matrix)
    latents = model.points(images).flatten(1) @ start.T
    exact = torch.distributions.Normal(0, 1).log_prob(latents).sum(1) - matrix.trace() + 2 * math.log(2 / 256)
    torch.manual_seed(1)
    errors = model.estimate_log_prob(images, 20) - exact
    assert errors.std() > 0.1  # s^T M s is not the trace
    assert abs(float(errors.mean())) < 4 * float(errors.std()) / len(errors) ** 0.5


def test_heun_is_exact_for_slopes_that_are_linear_in_time_and_euler_for_constant_ones() -> None:
    start, end = torch.tensor([0.2]), torch.tensor([0.7])
    z = torch.tensor([1.0])
    assert torch.allclose(heun(lambda z, time: 3 + 2 * time, z, start, end), z + 1.5 + 0.49 - 0.04)
    assert torch.allclose(euler(lambda z, time: torch.full_like(z, 3.0), z, start, end), z + 1.5)


def test_the_metric_is_an_estimate_in_bits_and_says_what_half_the_steps_give() -> None:
    spacing = 2 / 256
    levels = ((torch.randn(400, *SPEC.shape) * DEVIATION + MEAN + 1) / spacing).floor().clamp(0, 255).to(torch.uint8)
    split = Split(levels)
    data = Dataset("gaussian", SPEC, split, split, split)
    score = LikelihoodEstimate().evaluate(Evaluation(_exact(), data))
    entropy = (0.5 * math.log(2 * math.pi * math.e * DEVIATION**2) - math.log(spacing)) / math.log(2)
    assert score.kind == "estimate"
    assert score.standard_error is not None
    assert abs(score.value - entropy) < 4 * score.standard_error + 0.05
    assert 0 < abs(score.details["half_the_steps"] - score.value) < 0.2
