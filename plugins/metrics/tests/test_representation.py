"""1-NN and linear-probe accuracy: the classifiers against their definitions, and encoders whose accuracy is known."""

import math

import pytest
import torch

from harness import BernoulliSplit, Dataset, Evaluation, ImageSpec, Inference, NonFiniteScore, Split, Unsupported
from harness.testing import MetricConformance
from harness_metrics.representation import LinearProbeAccuracy, NearestNeighbourAccuracy, logistic_regression

METRICS = [NearestNeighbourAccuracy, LinearProbeAccuracy]


class TestLinearProbe(MetricConformance):
    metric = "linear-probe-accuracy"


class Encoder(Inference):
    """Encodes by a given function of (N, C, H, W) uint8."""

    def __init__(self, spec, function):
        super().__init__(spec)
        self.function = function

    def encode(self, images):
        return self.function(images)

    def decode(self, latents): ...

    def fit(self, data, trainer): ...

    def sample(self, num_samples): ...


def split(num_images, seed, *, kind=Split, **options):
    """Labels are the first pixel, the three others say nothing."""
    random = torch.Generator().manual_seed(seed)
    images = torch.randint(3, (num_images, 1, 2, 2), generator=random, dtype=torch.uint8)
    return kind(images, images[:, 0, 0, 0].long(), **options)


def score(metric, function, *, train=None, test=None):
    train, test = train or split(60, 0), test or split(40, 1)
    data = Dataset("toy", ImageSpec(1, 2, 2, levels=3, num_classes=3), train, test, test)
    return metric().evaluate(Evaluation(Encoder(data.spec, function), data, batch_size=7))


def flat(images):
    return images.flatten(1).double()


@pytest.mark.parametrize("metric", METRICS)
def test_an_encoder_that_keeps_the_class_alone_names_all_images_rightly(metric):
    found = score(metric, lambda images: flat(images)[:, :1])
    assert (found.value, found.standard_error, found.details["units"]) == (100, 0, 1)


@pytest.mark.parametrize("metric", METRICS)
def test_a_constant_encoder_names_one_class(metric):
    found = score(metric, lambda images: torch.zeros(len(images), 5, dtype=torch.float64))
    shares = [100 * float((split(40, 1).labels == label).double().mean()) for label in range(3)]
    assert any(found.value == pytest.approx(share) for share in shares)
    share = found.value / 100
    assert found.standard_error == pytest.approx(100 * math.sqrt(share * (1 - share) / 39))


@pytest.mark.parametrize("metric", METRICS)
def test_the_pixels_themselves_are_the_floor_in_the_details(metric):
    found = score(metric, flat)
    assert found.value == pytest.approx(found.details["pixels"])


def test_the_label_is_that_of_the_nearest_by_the_definition():
    random = torch.Generator().manual_seed(0)
    train, images = (torch.randn(size, 4, generator=random, dtype=torch.float64) for size in (50, 30))
    labels = torch.arange(50)
    expected = [min(range(50), key=lambda i: float((x - train[i]).norm())) for x in images]
    assert NearestNeighbourAccuracy.predict(train, labels, images).tolist() == expected


def test_of_equal_latents_the_first_training_image_counts():
    train = torch.tensor([[1.0], [0.0], [0.0]], dtype=torch.float64)
    assert NearestNeighbourAccuracy.predict(train, torch.tensor([2, 1, 0]), train[1:]).tolist() == [1, 1]


def test_logistic_regression_is_at_the_minimum_of_its_definition():
    inputs, labels = torch.randn(80, 3, generator=torch.Generator().manual_seed(0)).double(), split(80, 4).labels
    weights, bias = (part.clone().requires_grad_() for part in logistic_regression(inputs, labels))
    log_probs = [
        (x @ weights + bias)[y] - (x @ weights + bias).exp().sum().log() for x, y in zip(inputs, labels, strict=True)
    ]
    loss = weights.square().sum() / 2 - torch.stack(log_probs).sum()
    for gradient in torch.autograd.grad(loss, (weights, bias)):
        assert gradient.abs().max() < 1e-3  # of a sum over 80 images, strictly convex but for a shift of all biases


def test_logistic_regression_of_classes_that_a_plane_separates_is_finite():
    inputs = torch.linspace(-1, 1, 20, dtype=torch.float64)[:, None]
    weights, bias = logistic_regression(inputs, (inputs[:, 0] > 0).long())
    assert bool(torch.isfinite(weights).all() and torch.isfinite(bias).all())
    assert float(weights.abs().max()) < 20


def test_a_probe_does_not_depend_on_the_units_scales():
    scales = torch.tensor([1e-4, 1.0, 1e3, 0.0], dtype=torch.float64)
    found = score(LinearProbeAccuracy, lambda images: flat(images) * scales)
    assert found.value == score(LinearProbeAccuracy, lambda images: flat(images) * (scales > 0)).value


def test_images_without_labels_and_latents_without_a_number_are_refused():
    bare = Split(split(40, 1).images)
    with pytest.raises(Unsupported, match="dataset 'toy' has no labels"):
        score(NearestNeighbourAccuracy, flat, test=bare)
    with pytest.raises(NonFiniteScore, match="not finite"):
        score(NearestNeighbourAccuracy, lambda images: flat(images) / 0)
    with pytest.raises(ValueError, match="encode must return"):
        score(NearestNeighbourAccuracy, lambda images: images)


def test_of_random_data_the_first_draw_is_scored():
    random = split(40, 1, kind=BernoulliSplit, num_draws=3)
    found = score(NearestNeighbourAccuracy, flat, test=random)
    assert found.per_image.shape == (40,)
    assert found.protocol["draws"] == "1"
