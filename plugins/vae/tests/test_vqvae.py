"""VQ-VAE's bound against the sum over all maps of codes, and where its gradients go."""

from __future__ import annotations

import itertools

import torch

import harness
from harness_vae.vqvae import VQVAE

SPEC = harness.ImageSpec(1, 5, 2, 2)  # two codes


def model_with_random_weights(**hyperparameters):
    torch.manual_seed(3)
    model = VQVAE(SPEC, codes=3, code_size=2, width=2, prior_channels=4, prior_layers=1, **hyperparameters).double()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(0, 0.5)
    return model


def images(count):
    return torch.randint(0, 2, (count, 1, 5, 2), generator=torch.Generator().manual_seed(1), dtype=torch.uint8)


@torch.no_grad()
def test_the_bound_is_the_one_term_of_the_sum_over_codes_that_the_encoder_names():
    model, x = model_with_random_weights(), images(8)
    maps = torch.tensor(list(itertools.product(range(3), repeat=2))).view(9, 2, 1)
    prior = model.prior.log_prob(maps)
    torch.testing.assert_close(prior.exp().sum().item(), 1.0)
    joint = torch.stack([model.log_likelihood(x, model.vectors_of(code.expand(8, 2, 1))) for code in maps])
    joint = joint + prior[:, None]  # (9, 8)
    own = (model.codes_of(x)[None] == maps[:, None]).all(-1).all(-1).int().argmax(0)
    torch.testing.assert_close(model.elbo(x), joint[own, torch.arange(8)])
    assert (model.elbo(x) < joint.logsumexp(0)).all()


@torch.no_grad()
def test_codes_are_the_nearest_vectors():
    model, x = model_with_random_weights(), images(8)
    vectors = model.encoded(x).permute(0, 2, 3, 1).flatten(0, 2)
    assert torch.equal(model.codes_of(x).flatten(), torch.cdist(vectors, model.codebook).argmin(1))


def test_the_encoder_learns_straight_through_and_the_codebook_from_its_distance_alone():
    model, x = model_with_random_weights(commitment=0.0), images(8)
    model.loss(x).sum().backward()
    encoded = model.encoded(x).detach()
    vectors = model.vectors_of(model.nearest(encoded)).detach().requires_grad_()
    (straight,) = torch.autograd.grad(-model.log_likelihood(x, vectors).sum(), vectors)
    weight = model.encoder[-1].weight
    (expected,) = torch.autograd.grad((model.encoded(x) * straight).sum(), weight)
    torch.testing.assert_close(weight.grad, expected)
    pull = (model.vectors_of(model.nearest(encoded)) - encoded).square().sum()
    torch.testing.assert_close(model.codebook.grad, torch.autograd.grad(pull, model.codebook)[0])


def test_codes_are_drawn_from_the_prior_that_is_scored():
    model = model_with_random_weights()
    drawn = model.prior.draw(2000, (2, 1)).flatten(1) @ torch.tensor([3, 1])
    maps = torch.tensor(list(itertools.product(range(3), repeat=2))).view(9, 2, 1)
    expected = model.prior.log_prob(maps).exp().detach()
    frequency = torch.bincount(drawn, minlength=9) / 2000
    assert ((frequency - expected).abs() < 4.5 * (expected / 2000).sqrt()).all()
