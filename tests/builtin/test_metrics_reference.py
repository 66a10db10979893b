"""FID against mean and covariance that somebody else computed."""

import numpy as np
import pytest
import torch

from harness import Dataset, Evaluation, ImageSpec, Model, Split
from harness.builtin.metrics.sample_quality import FID, read_statistics
from harness.discovery.manager import PluginManager

SPEC = ImageSpec(1, 2, 2, levels=4)


class Given(Model):
    """Draws given images."""

    draws_jointly = True

    def __init__(self, spec, images):
        super().__init__(spec)
        self.given = images

    def fit(self, data, trainer): ...

    def sample(self, num_samples):
        return self.given[:num_samples]


def toy(num_images, seed=0):
    images = np.random.default_rng(seed).integers(4, size=(num_images, 1, 2, 2), dtype=np.uint8)
    split = Split(torch.from_numpy(images))
    return Dataset("toy", SPEC, split, split, split)


def write(path, features, **more):
    np.savez(path, mu=features.mean(0), sigma=np.cov(features.T), **more)


def pixels(images):
    return images.flatten(1).double().numpy() / 3


@pytest.fixture
def data():
    return toy(200)


@pytest.fixture
def measure(tmp_path, data):
    def run(name, images):
        entry, arguments = PluginManager().at(tmp_path).find("metric", f"fid-pixels-n{len(images)}-to-{name}")
        return entry.load()(**arguments).evaluate(Evaluation(Given(data.spec, images), data))

    return run


def test_training_images_are_at_no_distance_from_their_own_statistics(tmp_path, data, measure):
    write(tmp_path / "own.npz", pixels(data.train.images))
    assert measure("own", data.train.images).value == pytest.approx(0, abs=1e-9)


def test_it_is_the_distance_from_the_images_that_the_statistics_are_of(tmp_path, data, measure):
    write(tmp_path / "test.npz", pixels(data.test.images))
    samples = toy(150, seed=1).train.images
    plain = FID(network="pixels", num_samples=150).evaluate(Evaluation(Given(data.spec, samples), data))
    found = measure("test", samples)
    assert found.value == pytest.approx(plain.value, rel=1e-9)
    assert found.standard_error == pytest.approx(plain.details["standard_error_samples"], rel=1e-6)
    assert "halves" not in found.details


def test_a_shifted_gaussian_is_as_far_as_it_is_shifted(tmp_path, data, measure):
    write(tmp_path / "far.npz", pixels(data.train.images) + np.array([0.5, 0, -2, 0]))
    assert measure("far", data.train.images).value == pytest.approx(0.25 + 4)


def test_a_covariance_without_full_rank_will_do(tmp_path, data, measure):
    np.savez(tmp_path / "point.npz", mu=np.zeros(4), sigma=np.zeros((4, 4)))
    features = torch.from_numpy(pixels(data.train.images))
    expected = features.mean(0).square().sum() + features.var(0).sum()
    assert measure("point", data.train.images).value == pytest.approx(float(expected))


def test_the_protocol_names_the_file_the_images_and_the_content(tmp_path, data, measure):
    write(tmp_path / "own.npz", pixels(data.train.images), n=200)
    write(tmp_path / "bare.npz", pixels(data.train.images))
    said = measure("own", data.train.images).protocol
    _, words, digest = read_statistics(tmp_path / "bare.npz")
    assert said["reference"] == f"own, 200 images, SHA-256 {digest[:16]}"
    assert said["features"] == "pixels, 4 dimensions"
    assert words == f"bare, SHA-256 {digest[:16]}"


def test_other_statistics_in_the_same_file_are_another_version(tmp_path, data):
    versions = set()
    for scale in (1, 2):
        write(tmp_path / "own.npz", scale * pixels(data.train.images))
        versions.add(FID(path=str(tmp_path / "own")).version)
    assert len(versions) == 2


def test_statistics_of_another_number_of_features_are_refused_before_a_training(tmp_path, data):
    write(tmp_path / "own.npz", pixels(data.train.images))
    for network, size in (("pixels", 9), ("lenet", 84), ("lenet-mnist", 84), ("inception", 2048)):
        said = FID(network=network, path=str(tmp_path / "own")).objection(ImageSpec(1, 3, 3, 4), None)
        assert said.startswith(f"has {size} features of {network}, own, SHA-256")
        assert said.endswith("has 4")


COVARIANCE = np.diag([1.0, 2.0])


@pytest.mark.parametrize(
    ("arrays", "says"),
    [
        ({"mu": np.zeros(2)}, r"'sigma' \(0, 0\) float64, expected \(D,\) and \(D, D\)"),
        ({"mu": np.zeros(3), "sigma": COVARIANCE}, r"'mu' is \(3,\) float64, 'sigma' \(2, 2\)"),
        ({"mu": np.zeros((2, 2)), "sigma": COVARIANCE}, r"'mu' is \(2, 2\)"),
        ({"mu": np.zeros(2, int), "sigma": COVARIANCE}, "int64"),
        ({"mu": np.array([0, np.nan]), "sigma": COVARIANCE}, "finite"),
        ({"mu": np.zeros(2), "sigma": np.full((2, 2), np.inf)}, "finite"),
        ({"mu": np.zeros(2), "sigma": np.array([[1.0, 1], [0, 2]])}, "not symmetric"),
        ({"mu": np.zeros(2), "sigma": -COVARIANCE}, "an eigenvalue below 0"),
        ({"mu": np.zeros(2, object), "sigma": COVARIANCE}, "Python objects"),
    ],
)
def test_what_is_no_mean_and_covariance_is_refused(tmp_path, arrays, says):
    np.savez(tmp_path / "x.npz", **arrays)
    with pytest.raises(ValueError, match=says):
        read_statistics(tmp_path / "x.npz")


@pytest.mark.parametrize("number", ["many", np.nan, -3, 0.5])
def test_what_is_no_number_of_images_is_left_unsaid(tmp_path, data, number):
    write(tmp_path / "own.npz", pixels(data.train.images), n=number)
    assert read_statistics(tmp_path / "own.npz")[1].startswith("own, SHA-256 ")


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("fid-lenet-to-own", {"network": "lenet", "path": "own"}),
        ("fid-lenet-n60-to-own", {"network": "lenet", "num_samples": "60", "path": "own"}),
        ("fid-lenet-mnist-n60-to-own", {"network": "lenet-mnist", "num_samples": "60", "path": "own"}),
        ("fid-lenet-mnist-to-n60", {"network": "lenet-mnist", "path": "n60"}),
    ],
)
def test_a_reference_may_follow_any_name(tmp_path, name, expected):
    arguments = PluginManager().at(tmp_path).find("metric", name)[1]
    assert {**arguments, "path": arguments["path"].removeprefix(f"{tmp_path}/")} == expected
