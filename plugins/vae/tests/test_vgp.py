"""The variational Gaussian process: its warp at the data, its means, and its weights against an integral."""

from __future__ import annotations

import itertools
import math

import numpy as np
import torch
from numpy.polynomial.hermite_e import hermegauss

import harness
from harness_vae import vgp
from harness_vae.vgp import VGP, Warp

BINARY = harness.ImageSpec(1, 2, 2, 2)


def warp(points=4, inputs=1):
    torch.manual_seed(0)
    return Warp(points, inputs, jitter=1e-8).double()


def test_at_the_variational_data_the_warp_gives_their_outputs_without_variance():
    process, outputs = warp(inputs=3), torch.randn(4, 2).double()
    weights, log_variance = process(process.places)
    torch.testing.assert_close(weights @ outputs, outputs, atol=1e-5, rtol=0)
    assert (log_variance < 2 * process.log_amplitude + math.log(1e-7)).all()


def test_far_from_the_variational_data_the_warp_is_its_prior():
    process = warp()
    weights, log_variance = process(torch.full((1, 1), 50.0).double())
    torch.testing.assert_close(weights, torch.zeros_like(weights))
    torch.testing.assert_close(log_variance[0], 2 * process.log_amplitude.detach())


def test_mean_weights_are_the_integral_of_the_weights_over_the_noise():
    process = warp()
    nodes, masses = (torch.from_numpy(np.asarray(values)) for values in hermegauss(80))
    integral = masses @ process(nodes[:, None])[0] / masses.sum()
    torch.testing.assert_close(process.mean_weights(), integral, atol=1e-6, rtol=1e-6)


@torch.no_grad()
def test_the_mean_weight_of_an_image_is_its_probability_whatever_undoes_the_warp(monkeypatch):
    torch.manual_seed(2)
    model = VGP(BINARY, latents=1, hidden=(5,), points=3, inputs=1, reverse=(4,)).double()
    for name, parameter in model.named_parameters():
        parameter.normal_(0, 0.2 if "reverse" in name else 0.5)
    model.gaussian.bias[1] += 1  # wider than the prior: weights that a sum over few points can average
    images = torch.tensor(list(itertools.product(range(2), repeat=4)), dtype=torch.uint8).view(-1, 1, 2, 2)
    nodes, masses = (torch.from_numpy(np.asarray(values)) for values in hermegauss(60))
    masses = (masses / masses.sum()).log()
    exact = torch.stack([
        (model.log_likelihood(image.expand(60, 1, 2, 2), nodes[:, None]) + masses).logsumexp(0) for image in images
    ])  # fmt: skip
    noise = iter(torch.cartesian_prod(nodes, nodes).T)  # of xi, and of z
    monkeypatch.setattr(vgp, "standard_noise", lambda shape, like: next(noise)[:, None, None].expand(shape))
    weights = model.terms(images, model.features(images), 3600).log_weights()
    found = (weights + (masses[:, None] + masses).flatten()[:, None]).logsumexp(0)
    torch.testing.assert_close(found, exact, atol=1e-3, rtol=0)
