"""The ladder's posterior, its weights against quadrature, and what batch norm must not do."""

from __future__ import annotations

import pytest
import torch
from torch.autograd.functional import jacobian

import harness
from harness_layers.posteriors import DiagonalGaussian, standard_normal_log_prob
from harness_vae.lvae import LVAE, precision_weighted

BINARY = harness.ImageSpec(1, 2, 2, 2)


def ladder(latents=(1, 1), **hyperparameters):
    torch.manual_seed(3)
    model = LVAE(BINARY, latents=latents, hidden=(6,) * len(latents), **hyperparameters).double()
    with torch.no_grad():
        for _ in range(30):  # running statistics that are none of a fresh model's
            x = images(64)
            model.terms(x, model.features(x), 2)
        for gaussian in model.evidence:
            gaussian.linear.weight.mul_(0.5)  # posteriors stay wide enough for weights of finite variance
    return model.eval()


def images(count):
    return torch.randint(0, 2, (count, 1, 2, 2), generator=torch.Generator().manual_seed(1), dtype=torch.uint8)


def test_the_precision_weighted_gaussian_is_the_normalised_product_of_both():
    torch.manual_seed(0)
    one, other = (DiagonalGaussian(torch.randn(3).double(), 3 * torch.randn(3).double()) for _ in range(2))
    both, z = precision_weighted(one, other), torch.randn(9, 3).double()
    rest = one.log_prob(z) + other.log_prob(z) - both.log_prob(z)
    torch.testing.assert_close(rest, rest[:1].expand(9))
    torch.testing.assert_close((-both.log_variance).exp(), (-one.log_variance).exp() + (-other.log_variance).exp())


def test_log_q_is_that_of_the_noise_less_the_log_determinant_of_the_ladder():
    model, sizes = ladder(latents=(3, 2, 1)), [1, 2, 3]
    features, noise = model.features(images(1)), torch.randn(1, 6, dtype=torch.float64)

    def latents(flat):
        return torch.cat(model.draw_at(features, flat.split(sizes, 1)).values, 1)

    drawn = model.draw_at(features, noise.split(sizes, 1))
    determinant = torch.linalg.slogdet(jacobian(latents, noise)[0, :, 0]).logabsdet
    torch.testing.assert_close(sum(drawn.log_q)[0], standard_normal_log_prob(noise)[0] - determinant)


def test_weights_average_to_the_integral_over_both_layers():
    model, x = ladder(), images(3)
    axis = torch.linspace(-9, 9, 301, dtype=torch.float64)
    grid = torch.cartesian_prod(axis, axis)
    with torch.no_grad():
        log_prior = model.log_prior(grid)
        exact = [(log_prior + model.log_likelihood(image.expand(len(grid), 1, 2, 2), grid)).logsumexp(0) for image in x]
        exact = torch.stack(exact).exp() * (axis[1] - axis[0]) ** 2
        weights = model.log_importance_weights(x, 20_000).exp()
    assert (((weights.mean(0) - exact) / weights.std(0)).abs() * 20_000**0.5 < 5).all()
    assert (weights.std(0) < 2 * exact).all()  # few draws would not hide a wrong mean


def test_a_layer_of_which_the_image_says_nothing_has_its_prior_as_its_posterior():
    model, x = ladder(), images(4)
    with torch.no_grad():
        model.evidence[0].linear.weight.zero_()
        model.evidence[0].linear.bias.copy_(torch.tensor([0.3, 1e9]))
        drawn = model.draw_at(model.features(x), [torch.randn(4, 1).double()] * 2)
    torch.testing.assert_close(drawn.log_q[1], drawn.log_p[1])
    assert (drawn.log_q[0] - drawn.log_p[0]).abs().min() > 1e-3


def test_batch_norm_scores_an_image_alike_beside_any_other_and_learns_nothing_from_scoring():
    model, x = ladder(), images(5)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    scores = []
    for neighbours in (x, torch.zeros_like(x)):
        noise = [torch.ones(5, 1).double()] * 2
        drawn = model.draw_at(model.features(torch.cat([x[:1], neighbours[1:]])), noise)
        scores.append(torch.stack(drawn.log_q)[:, 0])
    torch.testing.assert_close(scores[0], scores[1], rtol=1e-12, atol=0)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_a_last_batch_of_one_image_can_be_trained_on():
    model, x = ladder().train(), images(1)
    assert model.terms(x, model.features(x), 1).log_weights().isfinite().all()


def test_each_layer_of_latents_needs_a_width():
    with pytest.raises(ValueError, match=r"hidden=\(6, 6\) needs one width for each of latents=\(2,\)"):
        LVAE(BINARY, latents=(2,), hidden=(6, 6))
