"""Frey faces: the frames of one short film of one face."""

from __future__ import annotations

import hashlib
import io
from typing import cast

import numpy as np
from scipy.io import loadmat

from harness import CanonicalDigest, DataFolder, Dataset, ImageSpec, RemoteFile
from harness.builtin.datasets.splits import Images, split_by_content

_HEIGHT, _WIDTH = 28, 20


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

    There is no official split, and papers differ: figures compare only under the same ``split_protocol``. Neighbouring
    frames are alike and are mixed over the splits, as in most papers.
    """
    images = parse_frey(folder.read(FILE), name=FILE.path)
    parts = split_by_content(images, num_valid=196, num_test=196, seed=0)
    protocol = (
        "no official split: frames ordered by SHA-256(seed 0, pixels), 1,573 train, then 196 valid, then 196 test"
    )
    return Dataset("frey-faces", ImageSpec(1, _HEIGHT, _WIDTH, 256), *parts, protocol)
