"""The 8x8 digits that scikit-learn ships: a dataset that needs no download."""

from __future__ import annotations

import numpy as np
from sklearn.datasets import load_digits

from harness import DataFolder, Dataset, ImageSpec, Split
from harness.builtin.datasets.splits import split_by_content

_THRESHOLD = 8


def digits(folder: DataFolder) -> Dataset:
    """Returns the 1,797 digits of 8x8 pixels and 17 levels (Alpaydin & Kaynak 1998), with labels.

    They are the test part of the UCI set "Optical Recognition of Handwritten Digits": each pixel counts the ink in
    a 4x4 block of a 32x32 bitmap, 0 to 16.
    """
    bunch = load_digits()
    images = np.asarray(bunch.images).astype(np.uint8)[:, None]  # (1797, 1, 8, 8)
    parts = split_by_content(images, np.asarray(bunch.target), num_valid=180, num_test=360, seed=0)
    protocol = (
        "no official split: images ordered by SHA-256(seed 0, pixels), "
        "1,257 train, then 180 valid, then 360 test; not stratified, writers are mixed"
    )
    return Dataset("digits", ImageSpec(1, 8, 8, 17, num_classes=10), *parts, protocol)


def digits_binary(folder: DataFolder) -> Dataset:
    """Returns ``digits`` with a pixel one where its intensity is at least 8 of 16, else zero.

    The images are split as ``digits`` are: an image is in the same split of both.
    """
    grey = digits(folder)
    splits = (grey.train, grey.valid, grey.test)
    train, valid, test = (Split((part.images >= _THRESHOLD).byte(), part.labels) for part in splits)
    protocol = f"{grey.split_protocol}; a pixel is 1 from intensity {_THRESHOLD} (of 16) on"
    return Dataset("digits-binary", ImageSpec(1, 8, 8, 2, num_classes=10), train, valid, test, protocol)
