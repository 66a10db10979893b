"""BS-GAN, for continuous and for binary images."""

from __future__ import annotations

import pytest
import torch

from harness import DegenerateSamples, ImageSpec, Split, Unsupported
from harness_zoo.bs_gan import boundary_seeking
from harness_zoo.bs_gan_discrete import BSGANDiscrete
from harness_zoo.bs_gan_discrete import boundary_seeking as weighted

BINARY = ImageSpec(channels=1, height=2, width=2, levels=2)


def test_the_boundary_is_sought_from_both_sides():
    fake = torch.tensor([2.0, -1.0, 0.0]).double().requires_grad_()
    share = fake.sigmoid()
    loss = boundary_seeking(fake[:0], fake)
    assert loss.item() == pytest.approx(((share.log() - (1 - share).log()) ** 2).mean().item() / 2)
    [slopes] = torch.autograd.grad(loss, fake)
    assert slopes.tolist() == pytest.approx([2 / 3, -1 / 3, 0.0])  # down where D is too sure that it is real, too


def test_draws_are_weighed_by_the_discriminators_odds():
    scores, log_probs = torch.randn(2, 3, 4, dtype=torch.float64)
    odds = scores.sigmoid() / (1 - scores.sigmoid())
    expected = -(odds / odds.sum(0) * log_probs).sum(0).mean()
    assert weighted(scores, log_probs).item() == pytest.approx(expected.item())
    shifted = weighted(scores + 700, log_probs)  # odds that overflow
    assert shifted.item() == pytest.approx(expected.item())


def test_the_policy_gradient_is_that_of_the_weighted_likelihood():
    """Of one pixel, with draws in just their proportions, the slope of the logit is p - sum_k w_k x_k."""
    logit = torch.tensor(3.0).double().log().requires_grad_()  # probability 3/4
    draws = torch.tensor([1.0, 1.0, 1.0, 0.0]).double()
    scores = torch.where(draws > 0, -1.0, 0.5).double().requires_grad_()
    log_probs = torch.distributions.Bernoulli(logits=logit).log_prob(draws)
    loss = weighted(scores[:, None], log_probs[:, None])
    slope, of_scores = torch.autograd.grad(loss, [logit, scores], allow_unused=True)
    odds = scores.detach().exp()
    target = 0.75 * odds[0] / (0.75 * odds[0] + 0.25 * odds[3])  # g e^s, normalised: what the data are near z
    assert slope.item() == pytest.approx(0.75 - target.item())
    assert of_scores is None


def test_a_generated_image_is_a_draw_of_the_pixels_probabilities():
    model = BSGANDiscrete(BINARY, network="mlp", latents=2, width=3).double()
    with torch.no_grad():
        layers = list(model.generator)
        layers[-2].weight.zero_()
        layers[-2].bias.copy_(torch.tensor([-50.0, 0.0, 1.0, 50.0]))
        images = model.generate(model.generator, model.draw_latents(4000), None)
    assert set(images.unique().tolist()) == {-1.0, 1.0}
    means = ((images + 1) / 2).flatten(1).mean(0)
    assert means.tolist() == pytest.approx([0, 0.5, torch.tensor(1.0).sigmoid().item(), 1], abs=0.04)


def test_the_log_probabilities_are_those_of_the_draws():
    model = BSGANDiscrete(BINARY, network="mlp", latents=2, width=3, draws=400).double()
    shown = model.show(_binary_batch())
    with torch.no_grad():
        model.discriminator[-1].weight.zero_()  # equal weights: the loss is the entropy of the draws
        p = model.generator(shown.latents).sigmoid()
        entropy = -(p * p.log() + (1 - p) * (1 - p).log()).sum((1, 2, 3)).mean()
        assert model.generator_loss(shown).item() == pytest.approx(entropy.item(), abs=0.05)


def test_more_levels_are_unsupported_and_a_broken_generator_is_degenerate():
    with pytest.raises(Unsupported, match="binary images, not ones of 3 levels"):
        BSGANDiscrete(ImageSpec(channels=1, height=2, width=2, levels=3), network="mlp")
    model = BSGANDiscrete(BINARY, network="mlp", latents=2, width=3)
    for weight in model.average.parameters():
        weight.fill_(torch.nan)
    with pytest.raises(DegenerateSamples):
        model.sample(3)


def _binary_batch():
    return Split(torch.randint(0, 2, (8, 1, 2, 2), dtype=torch.uint8), None)
