"""What every step on rows of entries promises: its inverse, its log-determinant, gradients of both."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from harness_flows.autoregressive import Inverted, MaskedAffine
from harness_flows.planar import Planar, _root
from harness_flows.radial import Radial

STEPS = {
    "masked affine": lambda size: MaskedAffine(size, (9, 5), reverse=False),
    "reversed": lambda size: MaskedAffine(size, (9,), reverse=True),
    "inverse autoregressive": lambda size: Inverted(MaskedAffine(size, (9,), reverse=True)),
    "planar": Planar,
    "radial": Radial,
}


@pytest.fixture(params=STEPS)
def make(request):
    return STEPS[request.param]


def randomised(step: nn.Module) -> nn.Module:
    """The step in float64 and evaluation mode, with random weights."""
    for weight in step.parameters():
        nn.init.normal_(weight, std=0.5 if weight.ndim == 2 else 2.0)
    return step.double().eval()


def jacobians(function, points):
    return torch.stack([torch.autograd.functional.jacobian(lambda row: function(row[None])[0], x) for x in points])


@pytest.mark.parametrize("size", [1, 2, 6])
def test_the_inverse_undoes_the_step_to_rounding(make, size):
    step = randomised(make(size))
    x = 3 * torch.randn(100, size, dtype=torch.float64)
    z, _ = step(x)
    torch.testing.assert_close(step.inverse(z), x, atol=1e-9, rtol=0)
    torch.testing.assert_close(step(step.inverse(x))[0], x, atol=1e-9, rtol=0)


@pytest.mark.parametrize("size", [1, 2, 6])
def test_the_log_determinant_is_that_of_the_jacobian(make, size):
    step = randomised(make(size))
    x = 3 * torch.randn(5, size, dtype=torch.float64)
    found = torch.linalg.slogdet(jacobians(lambda row: step(row)[0], x)).logabsdet
    torch.testing.assert_close(step(x)[1], found, atol=1e-9, rtol=0)


def test_the_inverse_has_the_gradient_of_an_inverse(make):
    step = randomised(make(3))
    x = torch.randn(5, 3, dtype=torch.float64)
    z = step(x)[0].detach()
    there, back = jacobians(lambda row: step(row)[0], x), jacobians(step.inverse, z)
    torch.testing.assert_close(back @ there, torch.eye(3).double().expand(5, 3, 3), atol=1e-8, rtol=0)


@pytest.mark.parametrize("step", [Planar(2), Radial(2)], ids=["planar", "radial"])
def test_it_stays_invertible_through_steps_that_are_far_too_long(step):
    step, x = step.double(), torch.randn(200, 2, dtype=torch.float64)
    optimizer = torch.optim.Adam(step.parameters(), lr=1.0)
    for _ in range(50):
        z, log_det = step(x * torch.tensor([4.0, 0.1]))  # a density that it cannot have
        optimizer.zero_grad()
        (0.5 * z.square().sum(1) - log_det).mean().backward()
        optimizer.step()
    found = torch.linalg.slogdet(jacobians(lambda row: step(row)[0], x[:20]))
    assert (found.sign > 0).all()
    torch.testing.assert_close(step.inverse(step(x)[0]), x, atol=1e-9, rtol=0)


@pytest.mark.parametrize("slope", [1e-3, 0.5, 1.0, 10.0, 1e3])
def test_the_root_of_a_planar_step_is_found_wherever_it_is(slope):
    slope = torch.tensor(slope, dtype=torch.float64)
    target = torch.cat([torch.zeros(1), torch.logspace(-8, 4, 1000)]).double()
    target = torch.cat([target, -target])
    v = _root(target, slope)
    scale = target.abs() + (slope - 1).abs()
    assert ((v + (slope - 1) * torch.tanh(v) - target).abs() <= 1e-15 * scale).all()


def test_a_planar_step_whose_vectors_oppose_is_corrected():
    step = Planar(2).double()
    with torch.no_grad():
        step.w.copy_(torch.tensor([3.0, 0.0]))
        step.u.copy_(torch.tensor([-5.0, 1.0]))  # w.u = -15: without the correction the slope is -14 at the plane
        step.b.zero_()
    x = torch.tensor([[0.0, 0.0], [1e-3, 0.0], [2.0, 0.0]], dtype=torch.float64)
    z = step(x)[0][:, 0]
    assert (z.diff() > 0).all()
    torch.testing.assert_close(step.inverse(step(x)[0]), x, atol=1e-9, rtol=0)
