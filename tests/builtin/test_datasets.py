"""The built-in datasets as they are registered, and on the real files where HARNESS_DATA names them."""

import os
import subprocess
import sys
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

from harness import BernoulliSplit, DataFolder, Dataset
from harness.builtin.datasets import register_datasets
from harness.builtin.datasets.mnist import NUM_DRAWS

ENTRIES = {entry.name: entry for entry in register_datasets()}
SIZES = {
    "digits": (1257, 180, 360),
    "digits-binary": (1257, 180, 360),
    "mnist": (50_000, 10_000, 10_000),
    "mnist-static": (50_000, 10_000, 10_000),
    "mnist-dynamic": (50_000, 10_000, 10_000),
    "fashion-mnist": (50_000, 10_000, 10_000),
    "frey-faces": (1573, 196, 196),
}
NEEDS = {
    "digits": None,
    "digits-binary": None,
    "mnist": "mnist",
    "mnist-dynamic": "mnist",
    "mnist-static": "binarized-mnist",
    "fashion-mnist": "fashion-mnist",
    "frey-faces": "freyfaces",
}


@cache
def _load(name: str) -> Dataset:
    return ENTRIES[name].load()(DataFolder(Path(os.environ.get("HARNESS_DATA", "nowhere")), offline=True))


def load(name: str) -> Dataset:
    subfolder = NEEDS[name]
    if subfolder is not None:
        root = os.environ.get("HARNESS_DATA")
        if not root or not (Path(root) / subfolder).is_dir():
            pytest.skip(f"needs the folder {subfolder} in HARNESS_DATA")
    return _load(name)


def splits(data):
    return (data.train, data.valid, data.test)


def test_neither_listing_the_datasets_nor_the_data_folder_imports_torch_or_scikit_learn():
    code = (
        "import sys, harness.builtin.datasets as d, harness.interface.data_folder; d.register_datasets(); "
        "print({'torch', 'sklearn'} & {*sys.modules})"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


@pytest.mark.parametrize("name", ENTRIES)
def test_every_entry_names_a_target_that_exists(name):
    assert callable(ENTRIES[name].load())


def test_a_path_with_colons_and_spaces_reaches_the_images_target_whole():
    assert ENTRIES["images"].match("images:/a b/c:d.npz") == {"path": "/a b/c:d.npz"}


@pytest.mark.parametrize("name", SIZES)
def test_the_dataset_has_its_own_name_and_the_documented_sizes(name):
    data = load(name)
    assert (data.name, *(len(split) for split in splits(data))) == (name, *SIZES[name])


@pytest.mark.parametrize("name", SIZES)
def test_images_own_contiguous_memory_of_bytes(name):
    for split in splits(load(name)):
        assert split.images.is_contiguous()
        assert split.images.untyped_storage().nbytes() == split.images.numel()


@pytest.mark.parametrize("name", ["digits", "mnist", "mnist-static", "frey-faces"])
def test_no_image_is_in_two_splits(name):
    train, valid, test = (set(split.image_digests().tolist()) for split in splits(load(name)))
    assert train.isdisjoint(valid | test)
    assert valid.isdisjoint(test)


@pytest.mark.parametrize("name", ["digits", "digits-binary", "frey-faces", "mnist-static", "mnist-dynamic"])
def test_two_calls_give_the_same_dataset(name):
    first = load(name)
    again = ENTRIES[name].load()(DataFolder(Path(os.environ.get("HARNESS_DATA", "nowhere")), offline=True))
    assert again.digest() == first.digest()


def test_the_seeded_split_of_digits_has_not_moved_since_it_was_chosen():
    assert load("digits").digest() == "3291108fb1b473ef98bf1dc9967aa7828a7a77e92ceb2a3b234b4ce44f287b66"


def test_the_seeded_split_of_frey_faces_has_not_moved_since_it_was_chosen():
    assert load("frey-faces").digest() == "1120b8f2cf4e4602084d31b5885022f537b97db2b24889a6c4b4a6dd00acad81"


def test_digits_are_all_of_scikit_learns_with_their_own_labels():
    bunch = load_digits()
    expected = sorted((row.astype(np.uint8).tobytes(), int(label)) for row, label in zip(bunch.data, bunch.target))  # noqa: B905
    found = sorted(
        (image.numpy().tobytes(), int(label))
        for split in splits(load("digits"))
        for image, label in zip(split.images, split.labels, strict=True)
    )
    assert found == expected


def test_binary_digits_are_the_grey_ones_thresholded_at_eight_in_the_same_places():
    for grey, binary in zip(splits(load("digits")), splits(load("digits-binary")), strict=True):
        assert torch.equal(binary.images, (grey.images > 7).to(torch.uint8))
        assert torch.equal(binary.labels, grey.labels)


def test_the_split_of_digits_leaves_every_class_in_every_split():
    for split in splits(load("digits")):
        assert torch.bincount(split.labels, minlength=10).min() > 0.05 * len(split)


def test_mnist_has_the_published_number_of_each_digit():
    data = load("mnist")
    train = torch.bincount(torch.cat([data.train.labels, data.valid.labels]))
    assert train.tolist() == [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
    assert torch.bincount(data.test.labels).tolist() == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]


def test_mnist_has_the_published_mean_and_standard_deviation():
    data = load("mnist")
    pixels = torch.cat([data.train.images, data.valid.images]).float()
    assert round(float(pixels.mean()) / 255, 4) == 0.1307
    assert round(float(pixels.std()) / 255, 4) == 0.3081


def test_mnist_starts_with_the_five_that_it_is_known_for():
    data = load("mnist")
    assert data.train.labels[:8].tolist() == [5, 0, 4, 1, 9, 2, 1, 3]
    assert data.test.labels[:8].tolist() == [7, 2, 1, 0, 4, 1, 4, 9]


def test_fashion_mnist_is_balanced_and_has_the_published_mean():
    data = load("fashion-mnist")
    labels = torch.cat([data.train.labels, data.valid.labels])
    assert torch.bincount(labels).tolist() == [6000] * 10
    assert torch.bincount(data.test.labels).tolist() == [1000] * 10
    pixels = torch.cat([data.train.images, data.valid.images])
    assert round(int(pixels.sum()) / pixels.numel() / 255, 4) == 0.2860


def test_static_mnist_is_binary_without_labels_and_about_as_dark_as_mnist():
    data, grey = load("mnist-static"), load("mnist")
    assert data.test.images.unique().tolist() == [0, 1]
    assert data.spec.num_classes is None
    # A binarization of 10,000 images: its mean scatters around the intensities' by sqrt(E[p(1-p)] / 7,840,000).
    intensity = grey.test.images.double() / 255
    deviation = float((intensity * (1 - intensity)).mean() / intensity.numel()) ** 0.5
    assert abs(float(data.test.images.double().mean()) - float(intensity.mean())) < 5 * deviation


def test_the_static_test_images_are_binarizations_of_mnists_ordered_by_class():
    static, grey = load("mnist-static").test.images.bool(), load("mnist").test
    ordered = grey.images[torch.argsort(grey.labels, stable=True)]
    # A pixel of intensity 0 is never one, a pixel of intensity 255 always.
    assert not bool((static & (ordered == 0)).any())
    assert not bool((~static & (ordered == 255)).any())


def test_dynamic_mnist_holds_the_intensities_of_mnist():
    dynamic, grey = load("mnist-dynamic"), load("mnist")
    for drawn, fixed in zip(splits(dynamic), splits(grey), strict=True):
        assert torch.equal(drawn.images, fixed.images)


def test_dynamic_mnist_is_scored_on_five_draws_and_trained_on_fresh_ones():
    data = load("mnist-dynamic")
    assert all(isinstance(split, BernoulliSplit) for split in splits(data))
    assert (data.valid.num_draws, data.test.num_draws) == (NUM_DRAWS, NUM_DRAWS) == (5, 5)
    assert len({split.seed for split in splits(data)}) == 3


def test_draws_of_dynamic_mnist_differ_from_one_another_and_repeat_themselves():
    test = load("mnist-dynamic").test
    draws = [test.draw(index).images for index in range(2)]
    assert torch.equal(test.draw(1).images, draws[1])
    intensity = test.images.double() / 255
    # Two independent draws differ in a pixel with probability 2 p (1 - p).
    expected = float((2 * intensity * (1 - intensity)).mean())
    assert abs(float((draws[0] != draws[1]).double().mean()) - expected) < 0.01 * expected


def test_frey_faces_are_upright_and_unsheared():
    images = load("frey-faces").train.images.double()
    # A wrong reshape (20x28, or frames in rows) breaks the likeness of vertical neighbours.
    vertical = (images[:, :, 1:] - images[:, :, :-1]).abs().mean()
    sheared = images.reshape(-1, 1, 20, 28)
    assert vertical < 0.5 * (sheared[:, :, 1:] - sheared[:, :, :-1]).abs().mean()
    assert (int(images.min()), int(images.max())) >= (8, 200)
