"""Posteriors are densities of their own draws: log q against Jacobians, IAF's order, invertible planar flows."""

from __future__ import annotations

from typing import get_args

import pytest
import torch

from harness_layers.posteriors import DiagonalGaussian, standard_normal_log_prob
from harness_vae.posteriors import PosteriorName, make_posterior
from harness_vae.posteriors.autoregressive import IAFStep
from harness_vae.posteriors.planar_radial import PlanarStep

F, D = 5, 4


@pytest.fixture(autouse=True)
def _seeded():
    torch.manual_seed(0)


def strong(module):
    """The same with weights that are far from where they start."""
    for value in module.double().parameters():
        value.data.normal_(0, 1)
    return module


def jacobian(function, at):
    return torch.autograd.functional.jacobian(function, at)


@pytest.mark.parametrize("name", get_args(PosteriorName))
@pytest.mark.parametrize("size", [1, D])
def test_log_q_is_that_of_the_noise_less_the_log_determinant_of_the_map_from_it(name, size):
    posterior = strong(make_posterior(name, F, size, steps=3, width=7))
    given = posterior.of(torch.randn(2, F, dtype=torch.float64))
    noise = torch.randn(3, 2, size, dtype=torch.float64)
    z, log_q = posterior.draw(given, noise)
    for draw, image in ((0, 0), (2, 1)):
        here = [value[image : image + 1] for value in given]
        alone = noise[draw : draw + 1, image : image + 1]
        map_of = jacobian(lambda e, h=here: posterior.draw(h, e)[0], alone).view(size, size)
        expected = standard_normal_log_prob(alone).squeeze() - torch.linalg.slogdet(map_of).logabsdet
        torch.testing.assert_close(log_q[draw, image], expected)
        torch.testing.assert_close(z[draw, image], posterior.draw(here, alone)[0].flatten())


@pytest.mark.parametrize("backwards", [False, True])
def test_an_iaf_step_moves_an_entry_by_those_before_it_alone(backwards):
    step = strong(IAFStep(F, D, 11, backwards=backwards))
    given = step.of(torch.randn(1, F, dtype=torch.float64))
    z = torch.randn(1, 1, D, dtype=torch.float64)
    for move in (0, 1):
        seen = jacobian(lambda values, m=move: step.moves(values, given)[m], z).view(D, D) != 0
        past = torch.ones(D, D, dtype=torch.bool).tril(-1)
        assert torch.equal(seen, past.T if backwards else past)


def test_an_iaf_step_is_undone_entry_by_entry():
    step = strong(IAFStep(F, D, 11))
    given = step.of(torch.randn(2, F, dtype=torch.float64))
    z = torch.randn(3, 2, D, dtype=torch.float64)
    moved, _ = step(z, given)
    found = torch.zeros_like(z)
    for _ in range(D):  # one more entry is right after each
        m, log_sigma = step.moves(found, given)
        found = m + (moved - m) * (-log_sigma).exp()
    torch.testing.assert_close(found, z)


def test_iaf_is_the_diagonal_posterior_where_its_gates_are_open():
    posterior = make_posterior("iaf", F, D, steps=2, width=7).double()
    for step in posterior.steps:
        step.last.scale.data.zero_()
        step.last.bias.data.fill_(50)
    given = posterior.of(torch.randn(2, F, dtype=torch.float64))
    noise = torch.randn(3, 2, D, dtype=torch.float64)
    diagonal = DiagonalGaussian(*given[0].chunk(2, -1))
    z, log_q = posterior.draw(given, noise)
    torch.testing.assert_close(z, diagonal.at(noise))
    torch.testing.assert_close(log_q, diagonal.log_prob_at(noise))


@pytest.mark.parametrize("name", ["diagonal", "full-covariance", "linear-iaf"])
def test_the_mean_of_a_gaussian_posterior_is_where_no_noise_leads(name):
    posterior = strong(make_posterior(name, F, D, steps=2, width=7))
    given = posterior.of(torch.randn(3, F, dtype=torch.float64))
    torch.testing.assert_close(posterior.mean(given), posterior.draw(given, torch.zeros(1, 3, D).double())[0][0])


def test_planar_steps_are_invertible_for_every_image_whatever_the_encoder_says():
    step = strong(PlanarStep(F, D))
    slope = step.of(100 * torch.randn(1000, F, dtype=torch.float64))[:, -1]
    assert slope.min() >= -1


@pytest.mark.parametrize("wrong", [{"posterior": "nonsense"}, {"flow_steps": 0}, {"flow_width": -1}])
def test_a_wrong_posterior_is_named(wrong):
    options = {"posterior": "iaf", "flow_steps": 2, "flow_width": 3, **wrong}
    with pytest.raises(ValueError, match=next(iter(wrong))):
        make_posterior(options["posterior"], F, D, steps=options["flow_steps"], width=options["flow_width"])
