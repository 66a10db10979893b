"""kl, the reconstructions and marginal-kl on Gaussian posteriors whose divergences are known."""

import math

import pytest
import torch

from harness import Dataset, Evaluation, ImageSpec, Inference, LatentVariable, Split, Unsupported
from harness.builtin.metrics.latents import KL, MarginalKL, ReconstructionMSE, ReconstructionNats
from harness.builtin.metrics.likelihood import NegativeELBO

SPEC = ImageSpec(1, 2, 2, levels=4)


class Shifted(LatentVariable, Inference):
    """Two latents, N(0, I) a priori, N(shift, I) given any image; pixels are uniform, whatever the latents."""

    latent_sizes = (2,)

    def __init__(self, spec, *, shift):
        super().__init__(spec)
        self.double()
        self.shift = shift

    def log_prior(self, latents):
        return -0.5 * (latents.square() + math.log(2 * math.pi)).sum(1)

    def log_likelihood(self, images, latents):
        return torch.full((len(images),), -4 * math.log(4), dtype=torch.float64)

    def draw_posterior(self, images):
        latents = self.shift + torch.randn(len(images), 2, dtype=torch.float64)
        return latents, self.log_prior(latents - self.shift)

    def log_importance_weights(self, images, num_samples):
        draws = [self.draw_posterior(images) for _ in range(num_samples)]
        return torch.stack([self.log_prior(z) + self.log_likelihood(images, z) - log_q for z, log_q in draws])

    def encode(self, images):
        return torch.full((len(images), 2), self.shift, dtype=torch.float64)

    def decode(self, latents):
        return latents.mean(1).view(-1, 1, 1, 1).expand(-1, *self.spec.shape)

    def sample(self, num_samples):
        return torch.randint(4, (num_samples, *self.spec.shape), dtype=torch.uint8)

    def fit(self, data, trainer): ...


class Layered(Shifted):
    def layer_divergences(self, images):
        return torch.tensor([[3.0, 0.5]]).expand(len(images), 2) + images.flatten(1)[:, :1]


class Mute(Shifted):
    def draw_posterior(self, images):
        return LatentVariable.draw_posterior(self, images)


def evaluation(model, count=2000):
    split = Split(torch.randint(4, (count, 1, 2, 2), generator=torch.Generator().manual_seed(0)).to(torch.uint8))
    return Evaluation(model, Dataset("toy", SPEC, split, split, split))


def test_the_divergence_is_that_of_the_posterior_draws():
    score = KL().evaluate(evaluation(Shifted(SPEC, shift=1.0)))
    assert score.value == pytest.approx(1.0, abs=4 * score.standard_error)  # 2 latents, shift² / 2 each
    assert score.details == {"layer_1_nats": pytest.approx(score.value)}


def test_each_layer_is_said_the_top_first():
    it = evaluation(Layered(SPEC, shift=1.0), 40)
    score, shift = KL().evaluate(it), it.split.images[:, 0, 0, 0].double().mean().item()
    assert score.details == {"layer_1_nats": pytest.approx(3 + shift), "layer_2_nats": pytest.approx(0.5 + shift)}
    assert score.value == pytest.approx(3.5 + 2 * shift)


def test_divergence_and_reconstruction_add_up_to_the_negative_elbo():
    it = evaluation(Shifted(SPEC, shift=1.0))
    parts, whole = [KL().evaluate(it), ReconstructionNats().evaluate(it)], NegativeELBO().evaluate(it)
    error = math.hypot(*(score.standard_error for score in (*parts, whole)))
    assert sum(score.value for score in parts) == pytest.approx(whole.value, abs=4 * error)
    assert parts[1].value == pytest.approx(4 * math.log(4), abs=4 * parts[1].standard_error)


def test_the_mean_square_is_that_of_the_decoded_posterior_mean():
    it = evaluation(Shifted(SPEC, shift=1.5), 30)
    score = ReconstructionMSE().evaluate(it)
    assert score.value == pytest.approx((it.split.images.double() - 1.5).square().mean().item(), rel=1e-12)
    assert score.kind == "exact"


def test_a_shifted_posterior_is_as_far_from_the_prior_as_gaussians_are():
    score = MarginalKL().evaluate(evaluation(Shifted(SPEC, shift=1.0)))
    assert score.value == pytest.approx(1.0, abs=4 * score.standard_error)
    assert score.standard_error < 0.1
    assert score.details["accuracy"] == pytest.approx(0.76, abs=0.03)  # Phi(|shift| / 2), a distance of sqrt 2 apart


def test_a_posterior_that_is_the_prior_is_not_told_from_it():
    score = MarginalKL().evaluate(evaluation(Shifted(SPEC, shift=0.0)))
    assert abs(score.value) < 0.05
    assert score.details["accuracy"] == pytest.approx(0.5, abs=0.05)


@pytest.mark.parametrize("metric", [KL, MarginalKL, ReconstructionNats])
def test_a_model_that_does_not_say_how_its_latents_are_drawn_is_skipped(metric):
    with pytest.raises(Unsupported, match="does not say how its latents are drawn"):
        metric().evaluate(evaluation(Mute(SPEC, shift=1.0), 50))
