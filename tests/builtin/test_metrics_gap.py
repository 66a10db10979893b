"""The gap to the entropy: the Kullback-Leibler divergence where it can be enumerated, and never where nobody knows."""

import json
import math
from pathlib import Path

import pytest
import torch

from harness import (
    Dataset,
    Evaluation,
    ExactLikelihood,
    ImageSpec,
    ImportanceWeighted,
    Model,
    Unsupported,
    VariationalBound,
)
from harness.auditing.subject import all_images, index_of
from harness.builtin.datasets.known import Ising, KnownDataset
from harness.builtin.metrics.likelihood import EntropyGap

TRUTH = Ising(ImageSpec(1, 3, 3, 2), coupling=0.4, field=0.1)
DATA = KnownDataset.draw("small", TRUTH, sizes=(10, 10, 20_000), seed=0)


class Table(ExactLikelihood):
    """The Ising model of another coupling, by enumeration."""

    def __init__(self, coupling, *, optimism=0.0):
        super().__init__(TRUTH.spec)
        other = Ising(TRUTH.spec, coupling=coupling, field=0.1)
        self.register_buffer("log_probs", other.log_prob(all_images(TRUTH.spec)) + optimism)

    def log_prob(self, images):
        return self.log_probs[index_of(images, self.spec)]

    def fit(self, data, trainer):
        raise NotImplementedError

    def sample(self, num_samples):
        raise NotImplementedError


class Weighted(ImportanceWeighted):
    """Weights of the true probability times log-normal noise of mean one."""

    def __init__(self, sigma):
        super().__init__(TRUTH.spec)
        self.sigma = sigma

    def log_importance_weights(self, images, num_samples):
        noise = self.sigma * torch.randn(num_samples, len(images), dtype=torch.float64) - self.sigma**2 / 2
        return TRUTH.log_prob(images) + noise

    fit, sample = Table.fit, Table.sample


class Bounded(VariationalBound):
    """A bound that lies half a nat below the truth."""

    def __init__(self):
        super().__init__(TRUTH.spec)

    def elbo(self, images):
        return TRUTH.log_prob(images) - 0.5

    fit, sample = Table.fit, Table.sample


class Implicit(Model):
    def __init__(self):
        super().__init__(TRUTH.spec)

    fit, sample = Table.fit, Table.sample


def gap(model, data=DATA):
    return EntropyGap().evaluate(Evaluation(model, data))


@pytest.mark.parametrize("coupling", [0.0, 0.3, 0.8])
def test_it_is_the_kullback_leibler_divergence_within_its_error(coupling):
    model = Table(coupling)
    truth = TRUTH.log_prob(all_images(TRUTH.spec))
    divergence = (truth.exp() * (truth - model.log_probs)).sum().item()
    score = gap(model)
    assert score.kind == "exact"
    assert abs(score.value - divergence) < 4 * score.standard_error
    assert score.details["z"] == pytest.approx(score.value / score.standard_error)


def test_the_truth_itself_has_no_gap_for_any_image():
    score = gap(Table(0.4))
    assert score.value == pytest.approx(0, abs=1e-12)
    assert score.per_image.abs().max().item() < 1e-12


def test_a_likelihood_that_promises_too_much_is_far_below_zero():
    assert gap(Table(0.41, optimism=0.05)).details["z"] < -4


def test_the_details_tell_the_entropy_and_what_the_truth_scores():
    details = gap(Table(0.0)).details
    assert details["entropy"] == pytest.approx(TRUTH.entropy)
    assert details["true_nll"] == pytest.approx(-TRUTH.log_prob(DATA.test.images).mean().item())


def test_importance_weights_give_an_upper_bound_by_500_of_them():
    score = gap(Weighted(1.0), KnownDataset.draw("small", TRUTH, sizes=(1, 1, 2_000), seed=1))
    assert score.kind == "upper bound"
    assert score.protocol["likelihood"] == "iwae-500"
    assert score.protocol["K"] == "500"
    bias = (math.e - 1) / (2 * 500)  # of the logarithm of a mean, to first order
    assert abs(score.value - bias) < 4 * score.standard_error


def test_a_bound_without_weights_gives_the_gap_of_the_elbo():
    score = gap(Bounded())
    assert score.kind == "upper bound"
    assert score.protocol["likelihood"] == "negative-elbo"
    assert score.value == pytest.approx(0.5)


def test_data_from_nowhere_and_models_without_a_likelihood_are_unsupported():
    plain = Dataset("plain", DATA.spec, DATA.train, DATA.valid, DATA.test)
    with pytest.raises(Unsupported, match="the entropy of plain is not known"):
        gap(Table(0.0), plain)
    with pytest.raises(Unsupported, match="Implicit has no likelihood"):
        gap(Implicit())


def test_no_exact_gap_of_the_committed_board_is_below_zero_and_each_is_its_nll_above_the_truth():
    file = Path(__file__).parents[2] / "leaderboards" / "known-entropy" / "records.jsonl"
    exact = 0
    for line in file.read_text(encoding="utf-8").splitlines():
        scores = json.loads(line)["scores"]
        gap = scores["entropy-gap"]
        if gap["kind"] == "exact":
            exact += 1
            assert gap["value"] > -4 * gap["standard_error"]
            assert gap["value"] == pytest.approx(scores["nll"]["value"] - gap["details"]["true_nll"], abs=1e-6)
    assert exact >= 90
