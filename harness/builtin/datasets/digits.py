"""The 8x8 digits that scikit-learn ships: a dataset that needs no download."""

from __future__ import annotations

import numpy as np
from sklearn.datasets import load_digits

from harness import DataFolder, Dataset, ImageSpec, Split
from harness.builtin.datasets.splits import Images, split_by_content

BINARY_THRESHOLD = 8
_NUM_VALID, _NUM_TEST, _SEED = 180, 360, 0
_PROTOCOL = (
    f"no official split: images ordered by SHA-256(seed {_SEED}, pixels), "
    f"1,257 train, then {_NUM_VALID} valid, then {_NUM_TEST} test; not stratified, writers are mixed"
)


def digits(folder: DataFolder) -> Dataset:
    """Returns the 1,797 digits of 8x8 pixels and 17 levels (Alpaydin & Kaynak 1998), with labels.

    They are the test part of the UCI set "Optical Recognition of Handwritten Digits": each pixel counts the ink in
    a 4x4 block of a 32x32 bitmap, 0 to 16.
    """
    return _dataset("digits", levels=17, threshold=None)


def digits_binary(folder: DataFolder) -> Dataset:
    """Returns ``digits`` with a pixel one where its intensity is at least 8 of 16, else zero.

    The images are split as ``digits`` are: an image is in the same split of both.
    """
    return _dataset("digits-binary", levels=2, threshold=BINARY_THRESHOLD)


def _dataset(name: str, *, levels: int, threshold: int | None) -> Dataset:
    bunch = load_digits()
    images: Images = np.asarray(bunch.images).astype(np.uint8)[:, None]  # (1797, 1, 8, 8)
    labels = np.asarray(bunch.target).astype(np.int64)
    # The grey images are split: thresholding comes after, so that both sets have the same images in each split.
    train, valid, test = split_by_content(images, labels, num_valid=_NUM_VALID, num_test=_NUM_TEST, seed=_SEED)
    protocol = _PROTOCOL
    if threshold is not None:
        train, valid, test = (Split((part.images >= threshold).byte(), part.labels) for part in (train, valid, test))
        protocol += f"; a pixel is 1 from intensity {threshold} (of 16) on"
    return Dataset(name, ImageSpec(1, 8, 8, levels, num_classes=10), train, valid, test, protocol)
