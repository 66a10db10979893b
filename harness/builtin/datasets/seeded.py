"""Datasets without an official split, and how they get one: by the content of the images. Digits and Frey faces."""

import hashlib
import io
from typing import cast

import numpy as np
import numpy.typing as npt
import torch
from scipy.io import loadmat

from harness import CanonicalDigest, DataFolder, Dataset, ImageSpec, RemoteFile, Split

Images = npt.NDArray[np.uint8]
Labels = npt.NDArray[np.integer]

_THRESHOLD = 8
_HEIGHT, _WIDTH = 28, 20


def make_split(images: Images, labels: Labels | None = None) -> Split:
    """Returns a split that owns a copy of ``images`` (N, C, H, W) and of ``labels`` (N,)."""
    # np.array copies: torch warns of read-only memory, and must not share the caller's.
    pixels = torch.from_numpy(np.array(images, dtype=np.uint8, order="C"))
    return Split(pixels, None if labels is None else torch.from_numpy(np.array(labels, dtype=np.int64)))


def split_by_content(
    images: Images, labels: Labels | None = None, *, num_valid: int, num_test: int, seed: int
) -> tuple[Split, Split, Split]:
    """Returns train, valid and test splits, assigned by the images' own content, whatever their files and order.

    Images (N, C, H, W) are ordered by SHA-256(seed, pixels); the last ``num_test`` are the test split, the
    ``num_valid`` before them the validation split. A boundary between equal images moves behind them.
    """
    keys = [hashlib.sha256(f"{seed}:".encode() + image.tobytes()).digest() for image in images]
    names = [0] * len(keys) if labels is None else labels.tolist()
    order = sorted(range(len(keys)), key=lambda index: (keys[index], names[index]))

    def behind_equals(bound: int) -> int:
        while 0 < bound < len(order) and keys[order[bound]] == keys[order[bound - 1]]:
            bound += 1
        return bound

    first, second = behind_equals(len(order) - num_valid - num_test), behind_equals(len(order) - num_test)
    if not 0 < first < second <= len(order) - (num_test > 0):
        parts = f"train, {num_valid} valid and {num_test} test images: more different images are needed"
        raise ValueError(f"{len(order)} images, {len(set(keys))} of them different, cannot be split into {parts}")
    chosen = (order[:first], order[first:second], order[second:])
    train, valid, test = (make_split(images[part], None if labels is None else labels[part]) for part in chosen)
    return train, valid, test


def digits(folder: DataFolder) -> Dataset:
    """Returns the 1,797 digits of 8x8 pixels and 17 levels (Alpaydin & Kaynak 1998), with labels.

    They are the test part of the UCI set "Optical Recognition of Handwritten Digits": each pixel counts the ink in
    a 4x4 block of a 32x32 bitmap, 0 to 16.
    """
    from sklearn.datasets import load_digits

    bunch = load_digits()
    images = np.asarray(bunch.images).astype(np.uint8)[:, None]  # (1797, 1, 8, 8)
    parts = split_by_content(images, np.asarray(bunch.target), num_valid=180, num_test=360, seed=0)
    counts = "1,257 train, then 180 valid, then 360 test; not stratified, writers are mixed"
    protocol = f"no official split: images ordered by SHA-256(seed 0, pixels), {counts}"
    return Dataset("digits", ImageSpec(1, 8, 8, 17, num_classes=10), *parts, protocol)


def digits_binary(folder: DataFolder) -> Dataset:
    """Returns ``digits``, split alike, with a pixel one where its intensity is at least 8 of 16, else zero."""
    grey = digits(folder)
    splits = (grey.train, grey.valid, grey.test)
    train, valid, test = (Split((part.images >= _THRESHOLD).byte(), part.labels) for part in splits)
    protocol = f"{grey.split_protocol}; a pixel is 1 from intensity {_THRESHOLD} (of 16) on"
    return Dataset("digits-binary", ImageSpec(1, 8, 8, 2, num_classes=10), train, valid, test, protocol)


def parse_frey(content: bytes, *, name: str) -> Images:
    """Returns (N, 1, 28, 20) uint8 from a MATLAB file with the frames in the columns of ``ff`` (560, N)."""
    try:
        # The stubs know only paths; scipy takes any file object.
        frames = loadmat(cast("str", io.BytesIO(content)), variable_names=["ff"]).get("ff")
    # scipy raises whatever the damage runs into: TypeError, KeyError, zlib.error, MatReadError...
    except Exception as error:
        raise ValueError(f"{name} is not a readable MATLAB file ({type(error).__name__}): replace it") from error
    if not isinstance(frames, np.ndarray) or frames.ndim != 2 or len(frames) != _HEIGHT * _WIDTH:
        raise ValueError(f"{name} holds no variable 'ff' of {_HEIGHT * _WIDTH} rows, one column a frame: replace it")
    if frames.dtype != np.uint8:
        raise ValueError(f"{name}: 'ff' is {frames.dtype}, expected uint8: replace it")
    return np.ascontiguousarray(frames.T).reshape(-1, 1, _HEIGHT, _WIDTH)


def _sorted_frames_sha256(content: bytes) -> str:
    frames = parse_frey(content, name="the file")
    return hashlib.sha256(b"".join(sorted(frame.tobytes() for frame in frames))).hexdigest()


# A MATLAB file carries the date of its writing: only the pixels can be verified.
_PIXELS = "78b72aa05be01ac655dce28b584b1bfb38a11becc1586070ad3892a7c84e7410"
FILE = RemoteFile(
    "freyfaces/frey_rawface.mat",
    ("https://cs.nyu.edu/~roweis/data/frey_rawface.mat",),
    canonical=CanonicalDigest("its sorted frames", _sorted_frames_sha256, _PIXELS),
)


def frey_faces(folder: DataFolder) -> Dataset:
    """Returns Frey faces (Roweis, Saul & Hinton 2002): 1,965 frames, 28x20, 256 levels, no labels.

    There is no official split: figures compare only under the same ``split_protocol``. Neighbouring frames, which are
    alike, are mixed over the splits, as in most papers.
    """
    images = parse_frey(folder.read(FILE), name=FILE.path)
    parts = split_by_content(images, num_valid=196, num_test=196, seed=0)
    counts = "1,573 train, then 196 valid, then 196 test"
    protocol = f"no official split: frames ordered by SHA-256(seed 0, pixels), {counts}"
    return Dataset("frey-faces", ImageSpec(1, _HEIGHT, _WIDTH, 256), *parts, protocol)
