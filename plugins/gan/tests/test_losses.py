"""The losses, against the distances and gradients that the papers say they are."""

from __future__ import annotations

import math

import pytest
import torch

from harness import ImageSpec
from harness_gan.gan import GAN
from harness_gan.objectives import OBJECTIVES
from harness_gan.wgan_gp import WGANGP

SPEC = ImageSpec(1, 1, 1, 2)
NON_SATURATING, WASSERSTEIN = (kind(SPEC, network="mlp", latents=1, width=1).objective for kind in (GAN, WGANGP))
P = torch.tensor([0.5, 0.3, 0.2, 0.0], dtype=torch.float64)
Q = torch.tensor([0.1, 0.1, 0.2, 0.6], dtype=torch.float64)
COUNTS = torch.tensor(10)  # every probability above is a whole number of tenths


def outcomes(probabilities):
    """Ten outcomes with exactly these frequencies, (10,) int64."""
    return torch.arange(4).repeat_interleave((probabilities * COUNTS).round().long())


def kl(p, q):
    return torch.xlogy(p, p / q).sum()


def jensen_shannon_with_halves(p, q):
    return (kl(p, (p + q) / 2) + kl(q, (p + q) / 2)) / 2


def test_discriminator_loss_at_the_optimum_is_2_log_2_minus_twice_the_divergence_with_halves():
    # log p - log q is the logit of p / (p + q); a probability of zero gives a logit of plus or minus infinity
    logits = P.log() - Q.log()
    loss = NON_SATURATING.discriminator(logits[outcomes(P)], logits[outcomes(Q)])
    expected = 2 * math.log(2) - 2 * jensen_shannon_with_halves(P, Q)
    torch.testing.assert_close(loss, expected, rtol=1e-12, atol=0)


def test_discriminator_loss_of_disjoint_distributions_is_zero_and_of_equal_ones_2_log_2_at_the_optimum():
    sure = torch.full((3,), torch.inf, dtype=torch.float64)
    assert NON_SATURATING.discriminator(sure, -sure).item() == 0.0
    unsure = torch.zeros(3, dtype=torch.float64)
    assert NON_SATURATING.discriminator(unsure, unsure).item() == pytest.approx(2 * math.log(2), rel=1e-15)


def test_no_other_discriminator_has_a_lower_loss_than_the_optimal_one():
    p, q = (P + 0.1) / 1.4, (Q + 0.1) / 1.4  # all outcomes possible, so that the optimum is finite
    logits = torch.zeros(4, dtype=torch.float64, requires_grad=True)
    weighted = (p * torch.nn.functional.softplus(-logits) + q * torch.nn.functional.softplus(logits)).sum()
    [gradient] = torch.autograd.grad(weighted, logits)
    torch.testing.assert_close(gradient, (q - p) / 2)  # the gradient of the population loss at D = 1/2
    optimum = p.log() - q.log()
    every = torch.arange(4)

    def population_loss(values):
        return sum(
            (p[i] * NON_SATURATING.discriminator(values[i : i + 1], torch.full((1,), -torch.inf).double()))
            + (q[i] * NON_SATURATING.discriminator(torch.full((1,), torch.inf).double(), values[i : i + 1]))
            for i in every.tolist()
        )

    best = population_loss(optimum)
    for _ in range(20):
        assert population_loss(optimum + torch.randn(4, dtype=torch.float64)) > best


@pytest.mark.parametrize("logit", [-40.0, -3.0, 0.0, 2.0])
def test_generator_gradient_is_that_of_minus_log_d_and_does_not_vanish_where_the_discriminator_is_sure(logit):
    scores = torch.tensor([logit, logit], dtype=torch.float64, requires_grad=True)
    [gradient] = torch.autograd.grad(NON_SATURATING.generator(scores[:0], scores), scores)
    assert gradient.tolist() == pytest.approx([-1 / (1 + math.exp(logit)) / 2] * 2, rel=1e-12)


def test_generator_loss_is_minus_log_d():
    scores = torch.tensor([-2.0, 0.5], dtype=torch.float64)
    expected = -(math.log(1 / (1 + math.exp(2.0))) + math.log(1 / (1 + math.exp(-0.5)))) / 2
    assert NON_SATURATING.generator(scores[:0], scores).item() == pytest.approx(expected, rel=1e-12)


def test_critic_loss_at_the_best_lipschitz_function_is_minus_the_wasserstein_distance():
    # on the line, W1 is the integral of |F - G| over the cumulative distributions, and the best f has slope sign(G - F)
    gaps = (P.cumsum(0) - Q.cumsum(0))[:-1]
    best = torch.cat([torch.zeros(1, dtype=torch.float64), -gaps.sign()]).cumsum(0)
    loss = WASSERSTEIN.discriminator(best[outcomes(P)], best[outcomes(Q)])
    torch.testing.assert_close(-loss, gaps.abs().sum(), rtol=1e-12, atol=0)


def test_wasserstein_players_want_the_opposite_of_the_generated_scores():
    fake = torch.randn(5, dtype=torch.float64, requires_grad=True)
    [critic] = torch.autograd.grad(WASSERSTEIN.discriminator(torch.randn(3).double(), fake), fake)
    [generator] = torch.autograd.grad(WASSERSTEIN.generator(fake[:0], fake), fake)
    torch.testing.assert_close(critic, torch.full((5,), 0.2, dtype=torch.float64))
    assert torch.equal(generator, -critic)


# Table 6 of Nowozin et al. 2016, arXiv 1606.00709: f, for D_f(P, Q) = sum q f(p / q)
DIVERGENCES = {
    "kl": lambda u: torch.xlogy(u, u),
    "reverse-kl": lambda u: -u.log(),
    "pearson": lambda u: (u - 1).square(),
    "neyman": lambda u: (1 - u).square() / u,
    "squared-hellinger": lambda u: (u.sqrt() - 1).square(),
    "jensen-shannon": lambda u: torch.xlogy(u, u) - (u + 1) * ((1 + u) / 2).log(),
    "total-variation": lambda u: (u - 1).abs() / 2,
}


@pytest.mark.parametrize("name", DIVERGENCES)
def test_the_best_outputs_of_an_f_gan_give_its_divergence_and_no_others_more(name):
    p, q = (torch.tensor(values, dtype=torch.float64) for values in ([0.5, 0.3, 0.2], [0.2, 0.3, 0.5]))
    exact = (q * DIVERGENCES[name](p / q)).sum()
    outputs = torch.zeros(3, dtype=torch.float64, requires_grad=True)
    index = [outcomes3(p), outcomes3(q)]
    optimizer = torch.optim.LBFGS([outputs], max_iter=200, line_search_fn="strong_wolfe", tolerance_grad=1e-10)

    def bound():
        return -OBJECTIVES[name].discriminator(outputs[index[0]], outputs[index[1]])

    def closure():
        optimizer.zero_grad()
        loss = -bound()
        loss.backward()
        return loss

    optimizer.step(closure)
    torch.testing.assert_close(bound().detach(), exact, rtol=1e-6, atol=1e-8)
    for _ in range(20):
        other = outputs.detach() + torch.randn(3, dtype=torch.float64)
        assert -OBJECTIVES[name].discriminator(other[index[0]], other[index[1]]) < exact
    # the generator's loss is the part of the bound that depends on it
    real, fake = torch.randn(4, dtype=torch.float64), torch.randn(5, dtype=torch.float64, requires_grad=True)
    [own] = torch.autograd.grad(OBJECTIVES[name].generator(real, fake), fake)
    [others] = torch.autograd.grad(OBJECTIVES[name].discriminator(real, fake), fake)
    torch.testing.assert_close(own, -others)


def outcomes3(probabilities):
    return torch.arange(3).repeat_interleave((probabilities * 10).round().long())


def test_least_squares_outputs_are_driven_to_one_and_to_zero():
    real, fake = torch.tensor([1.0, 3.0]).double(), torch.tensor([0.5, -1.5]).double()
    game = OBJECTIVES["least-squares"]
    assert game.discriminator(real, fake).item() == pytest.approx((0 + 4) / 4 + (0.25 + 2.25) / 4)
    assert game.generator(real, fake).item() == pytest.approx((0.25 + 6.25) / 4)


def test_the_hinge_asks_no_more_of_what_is_beyond_it():
    real, fake = torch.tensor([0.0, 5.0]).double(), torch.tensor([-0.25, -7.0]).double()
    assert OBJECTIVES["hinge"].discriminator(real, fake).item() == pytest.approx(1 / 2 + 0.75 / 2)
    assert OBJECTIVES["hinge"].generator(real, fake).item() == pytest.approx(7.25 / 2)


def test_a_saturating_generator_hardly_learns_where_the_discriminator_is_sure():
    fake = torch.tensor([-20.0], dtype=torch.float64, requires_grad=True)
    slopes = {
        name: torch.autograd.grad(OBJECTIVES[name].generator(fake[:0], fake), fake)[0].item()
        for name in ("saturating", "non-saturating")
    }
    assert slopes["saturating"] == pytest.approx(-math.exp(-20), rel=1e-6)
    assert slopes["non-saturating"] == pytest.approx(-1, rel=1e-6)


@pytest.mark.parametrize("name", ["relativistic", "relativistic-average"])
def test_a_relativistic_game_depends_on_differences_alone_and_its_players_swap_roles(name):
    real, fake = torch.randn(4, dtype=torch.float64), torch.randn(4, dtype=torch.float64)
    game = OBJECTIVES[name]
    assert game.compares
    torch.testing.assert_close(game.discriminator(real + 3, fake + 3), game.discriminator(real, fake))
    torch.testing.assert_close(game.generator(real, fake), game.discriminator(fake, real))


def test_a_relativistic_average_game_by_hand():
    real, fake = torch.tensor([1.0, 2.0]).double(), torch.tensor([0.0, -1.0]).double()
    terms = [math.log1p(math.exp(-0.5 - value)) for value in (1, 2)]  # -log sigmoid(s(x) - mean of the fakes)
    terms += [math.log1p(math.exp(value - 1.5)) for value in (0, -1)]
    assert OBJECTIVES["relativistic-average"].discriminator(real, fake).item() == pytest.approx(sum(terms) / 2)
