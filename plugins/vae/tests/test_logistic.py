"""The discretized logistic against the logistic distribution's own cumulative function."""

from __future__ import annotations

import pytest
import scipy.stats
import torch
import torch.nn.functional as F

import harness
from harness_vae.logistic import LogisticPixels


def pixels(levels, log_scale=None):
    layer = LogisticPixels(harness.ImageSpec(1, 1, 1, levels)).double()
    if log_scale is not None:
        layer.log_scale.data.fill_(log_scale)
    return layer


def log_probs(layer, mean):
    """Nats of every level, for one mean."""
    images = torch.arange(layer.levels, dtype=torch.uint8).view(-1, 1, 1, 1)
    return layer.log_probs(layer.project(images), torch.full((1, 1, 1), mean).double()).flatten()


@pytest.mark.parametrize("levels", [2, 3, 256])
@pytest.mark.parametrize("mean", [-30.0, -1.0, 0.01, 5.0])
def test_the_mass_of_all_levels_is_one_wherever_the_mean_is(levels, mean):
    for log_scale in (-6.0, 0.0, 3.0) if levels > 2 else (None,):
        assert log_probs(pixels(levels, log_scale), mean).exp().sum().item() == pytest.approx(1, abs=1e-12)


def test_a_bin_has_the_mass_between_its_borders_and_an_edge_that_of_its_tail():
    found, logistic = log_probs(pixels(5, -1.0), 0.2).exp(), scipy.stats.logistic(0.2, torch.tensor(-1.0).exp().item())
    assert found[3].item() == pytest.approx(logistic.cdf(0.75) - logistic.cdf(0.25))
    assert found[0].item() == pytest.approx(logistic.cdf(-0.75))
    assert found[4].item() == pytest.approx(logistic.sf(0.75))


def test_a_level_far_from_a_sharp_mean_has_a_finite_score_and_gradient():
    layer, mean = pixels(256, -7.0).float(), torch.full((1, 1, 1), 40.0, requires_grad=True)
    score = layer.log_probs(layer.project(torch.full((1, 1, 1, 1), 7, dtype=torch.uint8)), mean).sum()
    score.backward()
    assert score.isfinite()
    assert mean.grad.isfinite().all()
    assert layer.log_scale.grad.isfinite().all()


def test_two_levels_are_a_bernoulli_whose_logit_is_the_mean():
    expected = F.logsigmoid(torch.tensor([-0.7, 0.7]).double())
    torch.testing.assert_close(log_probs(pixels(2), 0.7), expected)
    assert not list(pixels(2).parameters())


def test_draws_have_the_frequencies_of_their_probabilities_and_the_mean_that_is_expected():
    torch.manual_seed(0)
    layer, means = pixels(4, -0.5), torch.full((20_000, 1, 1, 1), 0.3).double()
    drawn, chances = layer.draw(means), log_probs(layer, 0.3).exp()
    counts = torch.bincount(drawn.flatten(), minlength=4).numpy()
    assert scipy.stats.chisquare(counts, 20_000 * chances.detach().numpy()).pvalue > 1e-4
    expected = (torch.arange(4) * chances).sum()
    torch.testing.assert_close(layer.expected(means[0])[0, 0, 0], expected)
