"""From numpy arrays to splits: in the file's order, or by the content of the images."""

from __future__ import annotations

import hashlib

import numpy as np
import numpy.typing as npt
import torch

from harness import Split

Images = npt.NDArray[np.uint8]
Labels = npt.NDArray[np.integer]


def make_split(images: Images, labels: Labels | None = None) -> Split:
    """Returns a split that owns a copy of ``images`` (N, C, H, W) and of ``labels`` (N,)."""
    # np.array copies: torch warns of read-only memory, and must not share the caller's.
    pixels = torch.from_numpy(np.array(images, dtype=np.uint8, order="C"))
    return Split(pixels, None if labels is None else torch.from_numpy(np.array(labels, dtype=np.int64)))


def split_by_content(
    images: Images, labels: Labels | None = None, *, num_valid: int, num_test: int, seed: int
) -> tuple[Split, Split, Split]:
    """Returns train, valid and test splits, assigned by the images' own content.

    Images (N, C, H, W) are ordered by SHA-256(seed, pixels); the last ``num_test`` are the test split, the
    ``num_valid`` before them the validation split. So the split depends on neither the order nor the names of the
    files, nor on any library's random numbers, and equal images are never apart: a boundary inside a group of them
    moves behind it.

    Raises:
        ValueError: a split would be empty.
    """
    keys = [hashlib.sha256(f"{seed}:".encode() + image.tobytes()).digest() for image in images]
    names = [0] * len(keys) if labels is None else labels.tolist()
    order = sorted(range(len(keys)), key=lambda index: (keys[index], names[index]))

    def behind_equals(bound: int) -> int:
        while 0 < bound < len(order) and keys[order[bound]] == keys[order[bound - 1]]:
            bound += 1
        return bound

    first, second = behind_equals(len(order) - num_valid - num_test), behind_equals(len(order) - num_test)
    if not 0 < first < second < len(order):
        raise ValueError(
            f"{len(order)} images, {len(set(keys))} of them different, cannot be split into train, "
            f"{num_valid} valid and {num_test} test images: more different images are needed"
        )
    parts = (order[:first], order[first:second], order[second:])
    train, valid, test = (make_split(images[part], None if labels is None else labels[part]) for part in parts)
    return train, valid, test
