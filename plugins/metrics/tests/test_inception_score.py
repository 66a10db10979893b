"""The Inception score against its definition, its floor and its ceiling."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from harness import Evaluation, ImageSpec, Model
from harness.testing import MetricConformance, registered_dataset
from harness_metrics.inception_score import InceptionScore, inception_scores

SPEC = ImageSpec(1, 8, 8, levels=4, num_classes=3)


@pytest.fixture(autouse=True, scope="module")
def cache(tmp_path_factory):
    """Keeps the classifier of a conformance test's dataset out of the user's cache."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


def test_it_equals_its_definition():
    logits = np.random.default_rng(0).standard_normal((37, 4)) * 2
    p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    parts = np.array_split(p, 10)
    expected = [np.exp(np.mean([sum(x * np.log(x / part.mean(0))) for x in part])) for part in parts]
    assert inception_scores(torch.from_numpy(p).log()).tolist() == pytest.approx(expected, rel=1e-6)


def test_it_is_the_number_of_classes_of_sure_and_even_answers_and_one_of_equal_ones():
    sure = torch.eye(4, dtype=torch.float64).repeat(10, 1)
    assert inception_scores(sure.log()).tolist() == pytest.approx([4] * 10)
    assert inception_scores(torch.full((20, 4), 0.25).double().log()).tolist() == pytest.approx([1] * 10)


def test_fewer_samples_than_parts_are_refused():
    with pytest.raises(ValueError, match="9 samples do not make 10 parts"):
        inception_scores(torch.zeros(9, 2))


def test_a_network_without_classes_is_refused_before_anything_is_trained():
    metric = InceptionScore(network="pixels")
    assert metric.objection(SPEC, None) == "asks a network for classes, and pixels has none: lenet has"
    assert InceptionScore().objection(SPEC, None) is None


class Noise(Model):
    def fit(self, data, trainer): ...

    def sample(self, num_samples):
        return torch.randint(self.spec.levels, (num_samples, *self.spec.shape), dtype=torch.uint8)


def test_the_classifiers_probabilities_are_those_of_its_own_forward_pass():
    data = registered_dataset("digits")
    evaluation = Evaluation(Noise(data.spec), data)
    metric = InceptionScore(num_samples=50)
    network = metric.feature_network(evaluation)
    found = metric.sample_features(evaluation, network)
    logits = network.lenet(evaluation.samples(50).float() / (data.spec.levels - 1))
    torch.testing.assert_close(found, logits.double().log_softmax(1), rtol=0, atol=1e-5)
    assert found.dtype == torch.float64
    score = metric.evaluate(evaluation)
    assert 1 < score.value < score.details["reference"] < 10
    assert score.protocol["features"] == "lenet-digits, 84 dimensions"


class TestInceptionScore(MetricConformance):
    metric = "inception-score-n100"
