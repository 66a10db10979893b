"""Real images as references: they are drawn without replacement, kept in checkpoints, and nearer than any baseline."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import load_file

import harness
from harness import load_weights, save_weights
from harness.testing import registered_dataset, registered_metric
from harness_baselines.gaussian import Gaussian
from harness_baselines.real_images import TestImages, TrainingImages
from harness_baselines.uniform import Uniform


@pytest.fixture(scope="module")
def data():
    return registered_dataset("digits")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Where the classifier of digits is kept once it is trained."""
    return tmp_path_factory.mktemp("features")


def fitted(model_class, data):
    torch.manual_seed(0)
    model = model_class(data.spec)
    model.fit(data, harness.Trainer(model, data, budget=harness.Budget.parse("1 epoch")))
    return model


def sorted_rows(images):
    return sorted(bytes(image.flatten().tolist()) for image in images)


@pytest.mark.parametrize(("model_class", "split"), [(TrainingImages, "train"), (TestImages, "test")])
def test_every_image_of_the_split_is_drawn_once_before_any_is_drawn_again(data, model_class, split):
    images = getattr(data, split).images
    torch.manual_seed(1)
    drawn = fitted(model_class, data).sample(2 * len(images) + 5)
    assert sorted_rows(drawn[: len(images)]) == sorted_rows(images)
    assert sorted_rows(drawn[len(images) : 2 * len(images)]) == sorted_rows(images)


def test_the_order_depends_on_the_seed_alone(data):
    model, drawn = fitted(TestImages, data), []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        drawn.append(model.sample(50))
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])


def test_the_images_are_in_the_checkpoint_as_bytes(data, tmp_path):
    model = fitted(TrainingImages, data)
    save_weights(tmp_path / "weights.safetensors", model)
    assert load_file(tmp_path / "weights.safetensors")["images"].dtype == torch.uint8
    loaded = TrainingImages(data.spec)
    load_weights(tmp_path / "weights.safetensors", loaded)
    assert torch.equal(loaded.images, data.train.images)


def test_images_are_not_converted_with_the_precision(data):
    assert fitted(TrainingImages, data).double().sample(3).dtype == torch.uint8


def test_without_images_there_is_nothing_to_draw(data):
    with pytest.raises(ValueError, match="TestImages holds no images: fit it"):
        TestImages(data.spec).sample(1)


def test_random_data_are_kept_as_their_first_draw():
    grey = torch.randint(256, (6, 1, 3, 3), dtype=torch.uint8)
    splits = [harness.BernoulliSplit(grey, num_draws=2, seed=seed) for seed in range(3)]
    data = harness.Dataset("random", harness.ImageSpec(1, 3, 3, 2), *splits)
    assert torch.equal(fitted(TestImages, data).images, splits[2].draw(0).images)


def test_the_test_images_have_no_frechet_distance_to_themselves(data):
    score = registered_metric("fid-pixels-n360").evaluate(harness.Evaluation(fitted(TestImages, data), data))
    assert score.value == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize("metric", ["fid-lenet-digits-n1200", "kid-lenet-digits-n1200"])
def test_training_images_are_nearer_than_a_gaussian_and_a_gaussian_nearer_than_uniform_pixels(data, metric, folder):
    values = [
        registered_metric(metric).evaluate(harness.Evaluation(fitted(model, data), data, feature_folder=folder)).value
        for model in (TrainingImages, Gaussian, Uniform)
    ]
    assert 5 * values[0] < values[1]
    assert 1.5 * values[1] < values[2]
