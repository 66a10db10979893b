"""negative-elbo and iwae-K against stored weights and a linear-Gaussian model whose likelihood is known."""

import math

import numpy as np
import pytest
import torch
from scipy.special import logsumexp
from torch.distributions import MultivariateNormal, Normal

from harness import Dataset, Evaluation, ImageSpec, ImportanceWeighted, MetricEntry, NonFiniteScore, Split
from harness.builtin.metrics import register_metrics
from harness.builtin.metrics.likelihood import IWAE, BitsPerDimBound, BitsPerDimIWAE, NegativeELBO

SPEC = ImageSpec(1, 2, 2, levels=256)


class StoredWeights(ImportanceWeighted):
    """Hands out each image's stored log-weights one after another; an image's first pixel is its row."""

    def __init__(self, spec, *, weights):
        super().__init__(spec)
        self.weights, self.drawn = weights, [0] * weights.shape[1]

    def log_importance_weights(self, images, num_samples):
        columns = []
        for row in images[:, 0, 0, 0].tolist():
            columns.append(self.weights[self.drawn[row] : self.drawn[row] + num_samples, row])
            self.drawn[row] += num_samples
        return torch.stack(columns, 1)

    def fit(self, data, trainer): ...

    def sample(self, num_samples):
        raise NotImplementedError


class LinearGaussian(ImportanceWeighted):
    """z ~ N(0, I), x | z ~ N(Wz, s I): p(x) = N(0, WW' + s I). q is the posterior, moved and widened as asked."""

    def __init__(self, spec, *, shift=0.0, widen=1.0):
        super().__init__(spec)
        generator = torch.Generator().manual_seed(5)
        self.W, self.s = torch.randn(4, 2, generator=generator, dtype=torch.float64), 0.7
        precision = torch.eye(2, dtype=torch.float64) + self.W.T @ self.W / self.s
        self.covariance, self.shift, self.widen = precision.inverse(), shift, widen

    def posterior_mean(self, images):
        return images.flatten(1).double() @ self.W @ self.covariance / self.s

    def log_prob(self, images):
        covariance = self.W @ self.W.T + self.s * torch.eye(4, dtype=torch.float64)
        return MultivariateNormal(torch.zeros(4, dtype=torch.float64), covariance).log_prob(images.flatten(1).double())

    def proposal(self, images):
        return MultivariateNormal(self.posterior_mean(images) + self.shift, self.widen * self.covariance)

    def log_importance_weights(self, images, num_samples):
        x, q = images.flatten(1).double(), self.proposal(images)
        z = q.sample((num_samples,))
        prior = Normal(0.0, 1.0).log_prob(z).sum(2)
        likelihood = Normal(z @ self.W.T, math.sqrt(self.s)).log_prob(x).sum(2)
        return prior + likelihood - q.log_prob(z)

    def fit(self, data, trainer): ...

    def sample(self, num_samples):
        raise NotImplementedError


def evaluation(model, images, **options):
    one = Split(images[:1])
    return Evaluation(model, Dataset("toy", SPEC, one, one, Split(images)), **options)


def numbered(count):
    images = torch.zeros(count, 1, 2, 2, dtype=torch.uint8)
    images[:, 0, 0, 0] = torch.arange(count)
    return images


def small_images(count):
    return torch.randint(4, (count, 1, 2, 2), generator=torch.Generator().manual_seed(2)).to(torch.uint8)


@pytest.mark.parametrize("max_elements", [1, 4 * 3, 4 * 7, 4 * 50, 4 * 200, 2**21])
def test_iwae_is_the_log_mean_exp_of_the_weights_however_they_are_chunked(max_elements):
    weights = torch.randn(50, 9, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) * 30 - 900
    model = StoredWeights(SPEC, weights=weights)
    score = IWAE(num_samples=50, max_elements=max_elements).evaluate(evaluation(model, numbered(9), batch_size=4))
    expected = math.log(50) - logsumexp(weights.numpy(), axis=0)
    np.testing.assert_allclose(score.per_image.numpy(), expected, rtol=1e-14)
    assert score.kind == "upper bound"


@pytest.mark.parametrize("max_elements", [1, 4 * 5, 2**21])
def test_exactly_k_weights_an_image_are_drawn_and_k_is_recorded(max_elements):
    model = StoredWeights(SPEC, weights=torch.zeros(100, 5, dtype=torch.float64))
    score = IWAE(num_samples="17", max_elements=max_elements).evaluate(evaluation(model, numbered(5), batch_size=2))
    assert model.drawn == [17] * 5
    assert score.protocol["K"] == "17"


def test_no_call_asks_for_more_than_the_memory_bound():
    asked = []

    class Watched(StoredWeights):
        def log_importance_weights(self, images, num_samples):
            asked.append(num_samples * len(images) * self.spec.num_dimensions)
            return super().log_importance_weights(images, num_samples)

    model = Watched(SPEC, weights=torch.zeros(60, 9, dtype=torch.float64))
    for num_samples in (1, 7, 50):
        IWAE(num_samples=num_samples, max_elements=40).evaluate(evaluation(model, numbered(9)))
        model.drawn = [0] * 9
    assert max(asked) == 40


def test_float32_weights_are_accumulated_in_float64():
    weights = torch.full((20_000, 1), -0.1)
    model = StoredWeights(SPEC, weights=weights)
    score = IWAE(num_samples=20_000, max_elements=4 * 100).evaluate(evaluation(model, numbered(1)))
    assert score.value == pytest.approx(-weights[0, 0].item(), abs=1e-11)


def test_with_the_exact_posterior_one_weight_is_the_likelihood():
    model, images = LinearGaussian(SPEC), small_images(12)
    score = IWAE(num_samples=1).evaluate(evaluation(model, images, batch_size=5))
    torch.testing.assert_close(score.per_image, -model.log_prob(images), rtol=1e-10, atol=0)


def test_with_another_proposal_iwae_falls_to_the_negative_log_likelihood_as_k_grows():
    model, images = LinearGaussian(SPEC, shift=0.5, widen=2.0), small_images(40)
    exact = -model.log_prob(images).mean().item()
    scores = [IWAE(num_samples=k).evaluate(evaluation(model, images)) for k in (1, 10, 100, 5000)]
    gaps = [score.value - exact for score in scores]
    assert gaps[0] > 2 * gaps[1] > 4 * gaps[2] > 0
    error = math.sqrt(1 / scores[-1].details["effective_sample_size"] / 40)
    assert abs(gaps[-1]) < 4 * error
    assert error < 0.01


def test_the_negative_elbo_exceeds_the_nll_by_the_divergence_from_the_posterior():
    model, images = LinearGaussian(SPEC, shift=0.5, widen=2.0), small_images(1).expand(4000, -1, -1, -1).contiguous()
    posterior = MultivariateNormal(model.posterior_mean(images[:1]), model.covariance)
    divergence = torch.distributions.kl_divergence(model.proposal(images[:1]), posterior).item()
    score = NegativeELBO().evaluate(evaluation(model, images))
    # one image 4000 times: the standard error is that of the draws alone
    assert score.value + model.log_prob(images[:1]).item() == pytest.approx(divergence, abs=4 * score.standard_error)
    assert score.standard_error < 0.05
    assert score.kind == "upper bound"


def test_the_bound_in_bits_is_the_negative_elbo_over_d_ln_2():
    model, images = LinearGaussian(SPEC, shift=0.5), small_images(12)
    nats = NegativeELBO().evaluate(evaluation(model, images))
    bits = BitsPerDimBound().evaluate(evaluation(model, images))
    torch.testing.assert_close(bits.per_image, nats.per_image / (4 * math.log(2)), rtol=1e-14, atol=0)


def test_the_importance_weighted_bound_in_bits_is_that_in_nats_over_d_ln_2():
    weights = torch.randn(20, 9, dtype=torch.float64, generator=torch.Generator().manual_seed(1)) * 3 - 90
    nats, bits = (
        metric(num_samples=20).evaluate(evaluation(StoredWeights(SPEC, weights=weights), numbered(9)))
        for metric in (IWAE, BitsPerDimIWAE)
    )
    torch.testing.assert_close(bits.per_image, nats.per_image / (4 * math.log(2)), rtol=1e-14, atol=0)
    assert (bits.value, bits.standard_error) == pytest.approx(
        (nats.value / (4 * math.log(2)), nats.standard_error / (4 * math.log(2)))
    )


def test_the_effective_sample_size_is_k_for_equal_weights_and_one_for_a_single_dominant_weight():
    equal = StoredWeights(SPEC, weights=torch.full((20, 3), -5.0).double())
    assert IWAE(num_samples=20).evaluate(evaluation(equal, numbered(3))).details[
        "effective_sample_size"
    ] == pytest.approx(20)
    weights = torch.full((20, 3), -500.0).double()
    weights[4] = 0
    single = StoredWeights(SPEC, weights=weights)
    score = IWAE(num_samples=20).evaluate(evaluation(single, numbered(3)))
    assert score.details["effective_sample_size"] == pytest.approx(1)


def test_weights_of_zero_count_as_zero():
    weights = torch.full((4, 2), -math.inf).double()
    weights[1] = -3.0
    score = IWAE(num_samples=4, max_elements=4).evaluate(evaluation(StoredWeights(SPEC, weights=weights), numbered(2)))
    assert score.value == pytest.approx(3 + math.log(4), rel=1e-14)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_weight_that_is_not_a_number_is_an_error(bad):
    weights = torch.zeros(4, 3).double()
    weights[2, 1] = bad
    with pytest.raises(NonFiniteScore, match="log_importance_weights"):
        IWAE(num_samples=4).evaluate(evaluation(StoredWeights(SPEC, weights=weights), numbered(3)))


def test_an_image_without_any_weight_is_an_error():
    weights = torch.zeros(4, 3).double()
    weights[:, 1] = -math.inf
    with pytest.raises(NonFiniteScore, match="the first is image 1"):
        IWAE(num_samples=4).evaluate(evaluation(StoredWeights(SPEC, weights=weights), numbered(3)))


def test_a_model_that_returns_fewer_weights_than_asked_is_an_error():
    model = StoredWeights(SPEC, weights=torch.zeros(3, 2).double())
    with pytest.raises(ValueError, match=r"must return \(4, 2\) float32 or float64, not \(3, 2\)"):
        IWAE(num_samples=4).evaluate(evaluation(model, numbered(2)))


def entry() -> MetricEntry:
    return next(entry for entry in register_metrics() if entry.name == "iwae")


def test_the_name_carries_k():
    metric = entry().load()(**entry().match("iwae-5000"))
    assert (metric.name, metric.num_samples) == ("iwae-5000", 5000)


@pytest.mark.parametrize("name", ["iwae", "iwae-0", "iwae-05", "iwae--1", "iwae-5k"])
def test_a_name_without_a_whole_k_is_not_of_the_family(name):
    assert entry().match(name) is None


@pytest.mark.parametrize("metric", [NegativeELBO(), BitsPerDimBound(), IWAE(num_samples=3)])
def test_a_bound_that_is_above_zero_on_average_is_impossible(metric):
    with pytest.raises(ValueError, match="on average: no bound on a log-probability is above 0"):
        metric.evaluate(evaluation(StoredWeights(SPEC, weights=torch.full((9, 5), 5.0)), numbered(5)))


def test_single_weights_above_zero_are_no_proof_of_anything():
    weights = torch.full((9, 5), -3.0)
    weights[0, 0] = 5.0
    score = NegativeELBO().evaluate(evaluation(StoredWeights(SPEC, weights=weights), numbered(5)))
    assert score.value == pytest.approx(1.4)
