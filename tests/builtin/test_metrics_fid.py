"""FID and KID of models: samples drawn once, what a figure says of itself, and that worse samples are further away."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from harness import (
    BernoulliSplit,
    DataFolder,
    Dataset,
    Evaluation,
    FeatureNetwork,
    ImageSpec,
    Model,
    NonFiniteScore,
    Split,
    Unsupported,
)
from harness.builtin.datasets.seeded import digits, digits_binary
from harness.builtin.metrics.sample_quality import FID, KID
from harness.discovery.manager import PluginManager
from harness.interface import metric as metric_module
from harness.interface.metric import DegenerateSamples

SPEC = ImageSpec(1, 2, 2, levels=4)


class Given(Model):
    """Draws given images in their order, without their end."""

    draws_jointly = True

    def __init__(self, spec, images):
        super().__init__(spec)
        self.given, self.calls = images, 0

    def fit(self, data, trainer): ...

    def sample(self, num_samples):
        self.calls += 1
        return self.given[torch.arange(num_samples) % len(self.given)]


class Noisy(Model):
    """Draws uniform images, or what ``make`` makes of them."""

    def __init__(self, spec, make=lambda images: images):
        super().__init__(spec)
        self.make, self.asked = make, []

    def fit(self, data, trainer): ...

    def sample(self, num_samples):
        self.asked.append(num_samples)
        return self.make(torch.randint(self.spec.levels, (num_samples, *self.spec.shape), dtype=torch.uint8))


@pytest.fixture(scope="module")
def data():
    return digits(DataFolder("/nowhere", offline=True))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Where the classifier of digits is kept once it is trained."""
    return tmp_path_factory.mktemp("features")


def toy(num_images=40, seed=0):
    rng = np.random.default_rng(seed)
    split = Split(torch.from_numpy(rng.integers(4, size=(num_images, *SPEC.shape), dtype=np.uint8)))
    return Dataset("toy", SPEC, split, split, split)


def samples_of(make, num_samples=30):
    return Evaluation(Noisy(SPEC, make), toy()).samples(num_samples)


def find(name):
    entry, arguments = PluginManager().find("metric", name)
    return entry.load()(**arguments)


def distance(data, images, folder, *, metric, num_samples=None, **options):
    evaluation = Evaluation(Given(data.spec, images), data, feature_folder=folder, **options)
    return find(f"{metric}-n{num_samples or len(images)}").evaluate(evaluation)


def test_samples_are_drawn_once_for_all_metrics(data):
    model = Noisy(data.spec)
    evaluation = Evaluation(model, data)
    for metric in (FID(network="pixels", num_samples=700), KID(network="pixels", num_samples=700)):
        metric.evaluate(evaluation)
    KID(network="pixels", num_samples=300).evaluate(evaluation)
    assert model.asked == [250, 250, 250]


def test_features_are_computed_once_for_all_metrics(data, monkeypatch):
    evaluation, calls = Evaluation(Noisy(data.spec), data), []
    from harness.builtin.features.network import Pixels

    def counted(self, images, spec):
        calls.append(len(images))
        return images.flatten(1).double()

    monkeypatch.setattr(Pixels, "__call__", counted)
    for metric in (FID, KID):
        metric(network="pixels", num_samples=300).evaluate(evaluation)
    assert calls == [300, 360]


def test_fewer_samples_are_the_first_of_more():
    few_first, many_first = (Evaluation(Noisy(SPEC), toy()) for _ in range(2))
    few = few_first.samples(100)
    assert torch.equal(many_first.samples(600)[:100], few)
    assert torch.equal(few_first.samples(600), many_first.samples(600))


def test_samples_depend_on_the_runs_seed_and_on_nothing_else():
    one, again, other = (Evaluation(Noisy(SPEC), toy(), seed=seed) for seed in (1, 1, 2))
    torch.manual_seed(7)
    first = one.samples(50)
    after = torch.rand(())
    torch.manual_seed(7)
    assert torch.rand(()) == after
    assert torch.equal(first, again.samples(50))
    assert not torch.equal(first, other.samples(50))


def test_a_model_whose_draws_depend_on_one_another_is_asked_for_all_at_once():
    model = Given(SPEC, toy(600).train.images)
    assert torch.equal(Evaluation(model, toy()).samples(600), model.given)
    assert model.calls == 1


def test_samples_that_are_all_the_same_image_are_degenerate():
    with pytest.raises(DegenerateSamples, match="all 30 samples are the same image"):
        samples_of(torch.zeros_like)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_samples_that_are_not_finite_are_degenerate(value):
    with pytest.raises(DegenerateSamples, match=r"Noisy\.sample returned NaN or infinity"):
        samples_of(lambda images: images.float() * value)


@pytest.mark.parametrize(
    "make",
    [
        lambda images: torch.multinomial(torch.full((3, 2), math.nan), 1),
        lambda images: torch.bernoulli(torch.full((3, 2), math.nan)),
        lambda images: torch.distributions.Normal(torch.full((3,), math.nan), 1.0).sample(),
    ],
    ids=["multinomial", "bernoulli", "distribution"],
)
def test_a_sampler_that_stops_at_nan_is_degenerate(make):
    with pytest.raises(DegenerateSamples, match=r"Noisy\.sample cannot draw"):
        samples_of(make)


def test_another_error_of_a_sampler_is_not_called_degenerate():
    def fail(images):
        raise ValueError("wrong hyperparameter")

    with pytest.raises(ValueError, match="wrong hyperparameter") as caught:
        samples_of(fail)
    assert not isinstance(caught.value, DegenerateSamples)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda images: images.float(), r"must return \(250, 1, 2, 2\) uint8, not \(250, 1, 2, 2\) float32"),
        (lambda images: images[:, 0], r"must return \(250, 1, 2, 2\) uint8, not \(250, 2, 2\) uint8"),
        (lambda images: images[:7], r"not \(7, 1, 2, 2\) uint8"),
        (lambda images: images + 1, "drew the value 4, the spec allows 0 to 3"),
        (lambda images: images.numpy(), "must return a tensor, not ndarray"),
    ],
    ids=["type", "shape", "number", "level", "no tensor"],
)
def test_samples_that_are_no_images_of_the_spec_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        samples_of(make)


class Constant(FeatureNetwork):
    name, num_features = "constant", 2

    def __init__(self, digest, value=1.0):
        self.digest, self.value, self.calls = digest, value, 0

    def __call__(self, images, spec):
        self.calls += 1
        return torch.full((len(images), 2), self.value)


def test_features_that_are_not_finite_are_refused():
    evaluation = Evaluation(Noisy(SPEC), toy())
    with pytest.raises(NonFiniteScore, match="constant: the features of samples are not all finite"):
        evaluation.features(Constant("a", math.nan), evaluation.samples(30), "samples")


def test_only_so_many_bytes_of_features_are_kept(monkeypatch):
    monkeypatch.setattr(metric_module, "FEATURE_CACHE_BYTES", 500)
    evaluation, network = Evaluation(Noisy(SPEC), toy()), Constant("a")
    for key in ("a", "a", "b", "b", "c", "a"):  # 240 bytes each: two fit
        evaluation.features(network, evaluation.samples(30), key)
    assert network.calls == 4


@pytest.mark.parametrize(
    ("name", "network", "num_samples"),
    [
        ("fid", "lenet", 10_000),
        ("fid-n2000", "lenet", 2000),
        ("kid-pixels", "pixels", 10_000),
        ("fid-pixels-n2000", "pixels", 2000),
        ("kid-lenet", "lenet", 10_000),
        ("fid-lenet-n2000", "lenet", 2000),
        ("fid-lenet-mnist", "lenet-mnist", 10_000),
        ("kid-lenet-fashion-mnist-n500", "lenet-fashion-mnist", 500),
        ("fid-inception", "inception", 10_000),
    ],
)
def test_a_metrics_name_says_the_network_and_the_number_of_samples(name, network, num_samples):
    metric = find(name)
    assert (metric.name, metric.network, metric.num_samples) == (name, network, num_samples)


@pytest.mark.parametrize("name", ["fid-vgg", "fid-pixels-n0", "fid-n", "kid-inception-mnist", "fid-lenet-"])
def test_another_name_is_no_metric(name):
    with pytest.raises(ValueError, match=name):
        find(name)


def test_too_few_samples_are_refused_by_the_metrics_name():
    with pytest.raises(ValueError, match="fid-pixels-n5: at least 20 samples are needed, not 5"):
        find("fid-pixels-n5")


def test_too_few_images_of_a_split_are_unsupported():
    with pytest.raises(Unsupported, match="the test split has 10 images, 20 are needed"):
        find("fid-pixels-n30").evaluate(Evaluation(Noisy(SPEC), toy(10)))


def test_the_protocol_holds_what_makes_two_figures_comparable(data, folder):
    score = distance(data, data.train.images, folder, metric="kid", num_samples=500)
    digest = score.protocol["network digest"]
    assert len(digest) == 16
    assert float(score.protocol["test accuracy"].removesuffix(" %")) >= 95
    assert score.protocol == {
        "samples": "500",
        "reference": "test, 360 images",
        "features": "lenet-digits, 84 dimensions",
        "network digest": digest,
        "resize": "none",
        "test accuracy": score.protocol["test accuracy"],
        "subset size": "360",
        "subsets": "1, disjoint",
        "kernel": "degree 3 polynomial",
        "device": "cpu",
    }
    assert (score.kind, score.per_image) == ("estimate", None)


def test_the_standard_error_adds_samples_and_reference_in_quadrature(data):
    score = distance(data, data.train.images, None, metric="fid-pixels", num_samples=500)
    parts = score.details["standard_error_samples"], score.details["standard_error_reference"]
    assert score.standard_error == pytest.approx(math.hypot(*parts), rel=1e-12)
    assert min(parts) > 0
    assert score.protocol["network digest"] == "none"
    assert score.details["halves_images"] == 180
    assert score.details["halves_low"] <= score.details["halves"] <= score.details["halves_high"]


@pytest.mark.parametrize("metric", ["fid-pixels", "kid-pixels", "fid", "kid"])
def test_a_figure_does_not_change_when_it_is_taken_again(data, folder, metric):
    first, second = (distance(data, data.train.images, folder, metric=metric, num_samples=400) for _ in range(2))
    assert first == second


@pytest.mark.parametrize("metric", ["fid", "kid"])
def test_a_figure_does_not_depend_on_the_evaluations_batch_size(data, folder, metric):
    values = [
        find(f"{metric}-n400")
        .evaluate(Evaluation(Noisy(data.spec), data, feature_folder=folder, batch_size=size))
        .value
        for size in (7, 250)
    ]
    assert values[0] == pytest.approx(values[1], rel=1e-6)


@pytest.mark.parametrize("metric", ["fid", "kid", "fid-pixels", "kid-pixels"])
def test_collapse_to_one_class_is_further_away_the_more_samples_collapse(data, folder, metric):
    images, labels = data.train.images[:800], data.train.labels
    one = data.train.images[labels == 3]
    values = []
    for collapsed in (0, 200, 400, 600, 800):
        mixed = images.clone()
        mixed[:collapsed] = one[torch.arange(collapsed) % len(one)]
        values.append(distance(data, mixed, folder, metric=metric).value)
    assert values == sorted(values)
    assert values[-1] > 5 * values[0]


@pytest.mark.parametrize("metric", ["fid", "kid", "fid-pixels", "kid-pixels"])
def test_noise_takes_samples_further_away_the_more_there_is(data, folder, metric):
    noise = torch.from_numpy(np.random.default_rng(0).standard_normal((800, 1, 8, 8)))
    values = []
    for amount in (0, 2, 4, 8):
        noisy = (data.train.images[:800] + amount * noise).round().clamp(0, 16).to(torch.uint8)
        values.append(distance(data, noisy, folder, metric=metric).value)
    assert values == sorted(values)
    assert values[-1] > 5 * values[0]


@pytest.mark.parametrize("metric", ["fid-lenet-digits", "kid-lenet-digits", "fid-pixels", "kid-pixels"])
def test_one_half_of_the_test_images_lies_within_the_interval_of_halves_of_the_other(data, folder, metric):
    order = torch.from_numpy(np.random.default_rng(1).permutation(360))
    first, second = data.test.take(order[:180]), data.test.take(order[180:])
    halved = replace(data, name="halved", test=first)  # another name: the classifier is that of the whole
    found = distance(halved, second.images, folder, metric=metric, load_dataset={"digits": data}.__getitem__)
    whole = distance(data, data.train.images, folder, metric=metric, num_samples=180).details
    assert whole["halves_images"] == 180
    assert whole["halves_low"] <= found.value <= whole["halves_high"]


def test_the_validation_split_is_the_reference_where_a_choice_is_made(data):
    score = find("fid-pixels-n100").evaluate(Evaluation(Noisy(data.spec), data, split="valid"))
    assert score.protocol["reference"] == "valid, 180 images"


def test_of_random_data_the_first_draw_is_the_reference(data):
    grey = [torch.as_tensor(split.images * 15) for split in (data.train, data.valid, data.test)]
    splits = [BernoulliSplit(images, num_draws=3, seed=index) for index, images in enumerate(grey)]
    random = Dataset("random", replace(data.spec, levels=2, num_classes=None), *splits)
    score = distance(random, splits[2].draw(0).images, None, metric="fid-pixels")
    assert score.protocol["reference"] == "test, 360 images, first draw"
    assert score.value == pytest.approx(0, abs=1e-9)


def test_binary_images_are_measured_by_the_classifier_of_their_grey_originals(data, folder):
    binary = digits_binary(DataFolder("/nowhere", offline=True))
    evaluation = Evaluation(
        Given(binary.spec, binary.train.images),
        binary,
        feature_folder=folder,
        load_dataset={"digits": data}.__getitem__,
    )
    score = find("fid-lenet-digits-n1000").evaluate(evaluation)
    assert score.protocol["features"] == "lenet-digits, 84 dimensions"
    assert (
        0
        < score.value
        < distance(data, torch.randint(17, (1000, 1, 8, 8), dtype=torch.uint8), folder, metric="fid").value
    )
