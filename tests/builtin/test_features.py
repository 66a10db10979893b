"""Feature networks: what they compute, how they are kept, and what they refuse."""

from __future__ import annotations

import hashlib
import threading
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from harness import DataCorrupt, DataFolder, Dataset, DataUnavailable, Evaluation, ImageSpec, Model, Split, Unsupported
from harness.builtin.datasets.seeded import digits
from harness.builtin.features import inception, lenet
from harness.builtin.features.inception import Inception, InceptionFeatures, load_inception, preprocess
from harness.builtin.features.lenet import LeNetFeatures, lenet_file, new_lenet, stored_lenet, train_lenet
from harness.builtin.features.network import Pixels, load_network, weights_digest
from harness.support.checkpoint import CheckpointError

BOARDS = Path(__file__).parents[2] / "leaderboards"
CPU = torch.device("cpu")


class Nothing(Model):
    def fit(self, data, trainer): ...

    def sample(self, num_samples):
        raise AssertionError("nothing is drawn here")


def tiny(name="tiny", *, shape=(1, 8, 8), levels=2, labels=True, seed=0):
    rng = np.random.default_rng(seed)
    images = torch.from_numpy(rng.integers(levels, size=(30, *shape), dtype=np.uint8))
    split = Split(images, torch.arange(30) % 3 if labels else None)
    return Dataset(name, ImageSpec(*shape, levels, 3 if labels else None), split, split, split)


def evaluation_of(data, **options):
    return Evaluation(Nothing(data.spec), data, **options)


@pytest.fixture(scope="module")
def data():
    return digits(DataFolder("/nowhere", offline=True))


@pytest.fixture(scope="module")
def trained(data):
    return train_lenet(data)


@pytest.fixture
def untrained(monkeypatch):
    """Puts random weights in the place of training; returns the names of the datasets that were trained on."""
    names = []

    def make(data):
        names.append(data.name)
        time.sleep(0.05)
        net = new_lenet(data).eval()
        net.test_accuracy = 0.5
        return net

    monkeypatch.setattr(lenet, "train_lenet", make)
    return names


def test_pixels_are_the_values_as_fractions_of_the_highest():
    spec = ImageSpec(1, 1, 2, levels=17)
    features = Pixels(spec)(torch.tensor([[[[0, 16]]], [[[4, 8]]]], dtype=torch.uint8), spec)
    assert features.tolist() == [[0.0, 1.0], [0.25, 0.5]]


def test_the_classifier_of_digits_names_95_percent_of_the_test_images(data, trained):
    logits = trained(data.test.images.float() / 16)
    accuracy = (logits.argmax(1) == data.test.labels).double().mean().item()
    assert accuracy == trained.test_accuracy >= 0.95


def test_the_covariance_of_the_classifiers_features_has_full_rank(data, trained):
    features = LeNetFeatures("digits", trained, CPU)(data.test.images, data.spec).double()
    eigenvalues = torch.linalg.eigvalsh(features.T.cov())
    assert eigenvalues[0] > 1e-5 * eigenvalues[-1]


def test_training_a_classifier_leaves_the_random_numbers_and_threads_of_the_run_alone(data):
    few = replace(data, train=data.train.take(torch.arange(64)))
    torch.manual_seed(5)
    before, threads = torch.get_rng_state(), torch.get_num_threads()
    first = train_lenet(few).state_dict()
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.get_num_threads() == threads
    torch.manual_seed(6)
    second = train_lenet(few).state_dict()
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_images_of_other_levels_are_scaled_to_the_same_range(data, trained):
    network = LeNetFeatures("digits", trained, CPU)
    binary = (data.test.images > 7).to(torch.uint8)
    as_digits = network(binary * 16, data.spec)
    assert torch.equal(network(binary, replace(data.spec, levels=2)), as_digits)


def test_features_do_not_depend_on_how_many_images_go_through_at_once(data, trained):
    network = LeNetFeatures("digits", trained, CPU)
    together = network(data.test.images[:40], data.spec)
    alone = torch.cat([network(image[None], data.spec) for image in data.test.images[:40]])
    torch.testing.assert_close(alone, together, rtol=1e-5, atol=1e-5)


def test_the_classifier_of_digits_comes_with_the_package_and_is_never_trained(tmp_path, data, untrained):
    network = load_network("lenet", evaluation_of(data, feature_folder=tmp_path))
    assert untrained == []
    assert list(tmp_path.iterdir()) == []
    assert network.digest.startswith("95ccbe7050772d21")  # as the committed boards say


@pytest.mark.parametrize("file", sorted(lenet.SHIPPED.iterdir()), ids=lambda file: file.stem)
def test_a_shipped_classifier_is_one_that_a_committed_board_names(file):
    digest = weights_digest(load_file(file))
    boards = (BOARDS / name / "sample-quality.md" for name in ("digits", "mnist"))
    assert any(f"network digest={digest[:16]}" in board.read_text(encoding="utf-8") for board in boards)


def test_training_by_the_recipe_gives_the_shipped_classifier_but_for_rounding(data, trained):
    shipped = stored_lenet(data, lenet.SHIPPED)
    assert trained.test_accuracy == pytest.approx(shipped.test_accuracy, abs=0.01)
    images = data.test.images.float() / 16
    torch.testing.assert_close(trained(images), shipped(images), rtol=0.05, atol=0.5)


def test_a_stored_classifier_is_trained_once_and_gives_the_same_features(tmp_path, untrained):
    data = tiny()
    first, second = (LeNetFeatures("tiny", stored_lenet(data, tmp_path), CPU) for _ in range(2))
    assert untrained == ["tiny"]
    assert first.digest == second.digest
    assert torch.equal(first(data.test.images, data.spec), second(data.test.images, data.spec))
    assert (
        first.protocol()
        == second.protocol()
        == {
            "features": "lenet-tiny, 84 dimensions",
            "network digest": first.digest[:16],
            "resize": "none",
            "test accuracy": "50.00 %",
        }
    )


def test_a_stored_classifier_says_what_made_it(tmp_path, untrained):
    data = tiny()
    stored_lenet(data, tmp_path)
    with safe_open(lenet_file(data, tmp_path), framework="pt") as file:
        assert file.metadata() == {
            "recipe": lenet.RECIPE,
            "dataset": "tiny",
            "dataset_digest": data.digest(),
            "test_accuracy": "0.5",
        }


def test_two_that_want_the_same_classifier_train_it_once(tmp_path, untrained):
    data = tiny()
    threads = [threading.Thread(target=stored_lenet, args=(data, tmp_path)) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert untrained == ["tiny"]


def test_a_damaged_file_is_trained_again(tmp_path, untrained, caplog):
    data = tiny()
    stored_lenet(data, tmp_path)
    file = lenet_file(data, tmp_path)
    file.write_bytes(file.read_bytes()[:1000])
    stored_lenet(data, tmp_path)
    assert untrained == ["tiny", "tiny"]
    assert f"{file}: not a readable safetensors file" in caplog.text
    stored_lenet(data, tmp_path)
    assert untrained == ["tiny", "tiny"]


def test_a_file_of_another_recipe_or_of_other_data_is_not_used(tmp_path, untrained, caplog):
    data = tiny()
    stored_lenet(data, tmp_path)
    file = lenet_file(data, tmp_path)
    metadata = {"recipe": "0", "dataset": "tiny", "dataset_digest": data.digest(), "test_accuracy": "0.5"}
    save_file(load_file(file), file, metadata=metadata)
    stored_lenet(data, tmp_path)
    assert untrained == ["tiny", "tiny"]
    assert f"its recipe is '0', expected '{lenet.RECIPE}'" in caplog.text
    assert lenet_file(tiny(seed=1), tmp_path) != file


def test_a_network_without_a_folder_is_kept_in_the_users_cache(tmp_path, untrained, monkeypatch):
    monkeypatch.setattr(lenet, "default_feature_folder", lambda: tmp_path / "cache")
    load_network("lenet", evaluation_of(tiny()))
    assert lenet_file(tiny(), tmp_path / "cache").is_file()


def test_a_network_of_another_dataset_loads_that_dataset(tmp_path, untrained):
    asked = []

    def load(name):
        asked.append(name)
        return tiny(name, levels=256)

    evaluation = evaluation_of(tiny("binary", labels=False), feature_folder=tmp_path, load_dataset=load)
    assert load_network("lenet-grey", evaluation) is load_network("lenet-grey", evaluation)
    assert asked == untrained == ["grey"]


def test_a_dataset_without_labels_has_no_classifier(tmp_path):
    with pytest.raises(Unsupported, match="lenet-tiny: dataset 'tiny' has no labels to train a classifier on"):
        load_network("lenet", evaluation_of(tiny(labels=False), feature_folder=tmp_path))


def test_a_classifier_of_images_of_another_shape_is_refused_and_both_are_named(tmp_path, untrained):
    colour = evaluation_of(
        tiny("colour", shape=(3, 9, 8)), feature_folder=tmp_path, load_dataset=lambda name: tiny(name)
    )
    expected = "lenet-tiny is for images of 8x8 and 1 channel, these are of 9x8 and 3 channels"
    with pytest.raises(Unsupported, match=expected):
        load_network("lenet-tiny", colour)
    assert untrained == []


def test_a_classifier_is_for_images_of_8_to_32_pixels(tmp_path):
    with pytest.raises(Unsupported, match="8x8 to 32x32, these are of 7x40"):
        load_network("lenet", evaluation_of(tiny(shape=(1, 7, 40)), feature_folder=tmp_path))


def test_an_unknown_network_is_refused_by_its_name():
    with pytest.raises(ValueError, match=r"'vgg' is none of pixels, lenet\[-DATASET\], inception"):
        load_network("vgg", evaluation_of(tiny()))


@pytest.fixture(scope="module")
def stand_in(tmp_path_factory):
    """A safetensors file of random weights of the right names and shapes, without the counters of batches."""
    torch.manual_seed(0)
    state = {name: value for name, value in Inception().state_dict().items() if "num_batches" not in name}
    path = tmp_path_factory.mktemp("inception") / "stand-in.safetensors"
    save_file(state, path)
    return path


def test_the_inception_network_has_the_shapes_of_the_published_weights():
    # the published file: 1008 classes, 23.9 million numbers
    sizes = {name: tuple(value.shape) for name, value in Inception().state_dict().items()}
    assert sizes["fc.weight"] == (1008, 2048)
    assert sizes["Conv2d_1a_3x3.conv.weight"] == (32, 3, 3, 3)
    assert sizes["Mixed_5b.branch_pool.conv.weight"] == (32, 192, 1, 1)
    assert sizes["Mixed_6e.branch7x7dbl_5.conv.weight"] == (192, 192, 1, 7)
    assert sizes["Mixed_7c.branch3x3dbl_3b.bn.running_var"] == (384,)


def test_average_pools_leave_padding_out_and_the_last_pool_is_a_maximum():
    net = Inception()
    ones = torch.ones(1, 2, 5, 5)
    assert torch.equal(inception._average(ones), ones)
    assert torch.equal(net.Mixed_7b.pool(ones), ones)
    ramp = torch.arange(25.0).view(1, 1, 5, 5)
    assert net.Mixed_7c.pool(ramp)[0, 0, 0].tolist() == [6, 7, 8, 9, 9]


def test_images_are_resized_between_pixel_centres_and_scaled_to_minus_one_to_one():
    spec = ImageSpec(1, 1, 2, levels=256)
    resized = preprocess(torch.tensor([[[[0, 255]]]], dtype=torch.uint8), spec)  # (1, 3, 299, 299)
    centres = (np.arange(299) + 0.5) * 2 / 299 - 0.5
    expected = 2 * np.clip(centres, 0, 1) - 1
    assert resized.shape == (1, 3, 299, 299)
    np.testing.assert_allclose(resized.numpy(), np.broadcast_to(expected, resized.shape), atol=1e-6)


def test_inception_features_come_from_a_file_that_is_named(stand_in, monkeypatch):
    monkeypatch.setenv("HARNESS_INCEPTION", str(stand_in))
    data = tiny(levels=2)
    network = load_network("inception", evaluation_of(data))
    features = network(data.test.images[:3], data.spec)
    assert features.shape == (3, 2048)
    assert network.protocol() == {
        "features": "inception, 2048 dimensions",
        "network digest": network.digest[:16],
        "resize": "bilinear to 299x299, half-pixel centres, no antialias",
    }
    colour = data.test.images[:1].repeat(1, 3, 1, 1)
    torch.testing.assert_close(network(colour, replace(data.spec, channels=3)), features[:1], rtol=1e-4, atol=1e-5)


def test_inception_takes_one_channel_or_three(stand_in):
    spec = ImageSpec(2, 4, 4, 2)
    with pytest.raises(Unsupported, match="1 or 3 channels, these have 2"):
        InceptionFeatures(Inception(), CPU)(torch.zeros(1, 2, 4, 4, dtype=torch.uint8), spec)


def test_weights_of_another_network_are_refused(tmp_path, monkeypatch):
    save_file({"weight": torch.zeros(2)}, tmp_path / "other.safetensors")
    monkeypatch.setenv("HARNESS_INCEPTION", str(tmp_path / "other.safetensors"))
    with pytest.raises(CheckpointError, match=r"other\.safetensors: does not fit Inception: missing"):
        load_inception(None)


def test_a_pickle_that_is_not_the_official_file_is_never_looked_into(tmp_path, monkeypatch):
    def refuse(*args, **kwargs):
        raise AssertionError("unpickled")

    monkeypatch.setattr(torch, "load", refuse)
    for name, environment in [("given.pth", True), (inception.OFFICIAL.path, False)]:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.save({"fc.bias": torch.zeros(2)}, path)
        monkeypatch.setenv("HARNESS_INCEPTION", str(path) if environment else "")
        with pytest.raises(DataCorrupt, match="6726825d0af5f729"):
            load_inception(DataFolder(tmp_path, offline=True, fallback=tmp_path))


def test_official_weights_are_read_by_the_unpickler_of_tensors_alone(tmp_path, monkeypatch):
    torch.save({"x": DataFolder(tmp_path)}, tmp_path / "given.pth")  # an object, not tensors
    monkeypatch.setenv("HARNESS_INCEPTION", str(tmp_path / "given.pth"))
    digest = hashlib.sha256((tmp_path / "given.pth").read_bytes()).hexdigest()
    monkeypatch.setattr(inception, "OFFICIAL", replace(inception.OFFICIAL, sha256=digest))
    with pytest.raises(Exception, match="Weights only load failed"):
        load_inception(None)


def test_without_weights_the_message_says_where_to_put_them(tmp_path, monkeypatch):
    monkeypatch.delenv("HARNESS_INCEPTION", raising=False)
    with pytest.raises(DataUnavailable, match=r"put inception/pt_inception-2015-12-05-6726825d\.pth .*into"):
        load_inception(DataFolder(tmp_path, offline=True, fallback=tmp_path))


def test_a_file_that_is_named_but_not_there_is_an_error(monkeypatch):
    monkeypatch.setenv("HARNESS_INCEPTION", "/nowhere/weights.bin")
    with pytest.raises(ValueError, match=r"HARNESS_INCEPTION is '/nowhere/weights\.bin'"):
        load_inception(None)
