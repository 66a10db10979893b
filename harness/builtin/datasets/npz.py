"""Reading images, labels and levels from an ``.npz`` archive; nothing in it is unpickled."""

from __future__ import annotations

import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from harness.builtin.datasets.splits import Images, Labels

_OPTIONAL = ("labels", "levels", "layout")


@dataclass(frozen=True)
class ImageArchive:
    """What an archive holds: images (N, C, H, W) uint8, labels (N,) int64 or None, and the number of levels."""

    images: Images
    labels: Labels | None
    levels: int


def read_npz(path: Path) -> ImageArchive:
    """Reads an archive with ``images``, or with one array besides the optional ``labels``, ``levels`` and ``layout``.

    Images are uint8: (N, H, W), (N, H, W, C) or (N, C, H, W) with C 1 or 3. ``layout``, "NHWC" or "NCHW", decides
    where both readings fit, and allows other numbers of channels. ``levels``, an integer from 2 to 256, is 256 if
    absent. Labels are integers from 0 on.

    Raises:
        ValueError: anything else; the message names the file and what would be right.
    """
    arrays = _load(path)
    name = "images"
    if name not in arrays:
        others = [key for key in arrays if key not in _OPTIONAL]
        if len(others) != 1:
            held = ", ".join(arrays) or "nothing"
            raise ValueError(f"{path} holds {held}: name the array of images 'images'")
        name = others[0]
    images = arrays[name]
    if images.dtype != np.uint8:
        raise ValueError(
            f"{path}: {name!r} is {images.dtype}, expected uint8: save integers from 0 to 255 with .astype(numpy.uint8)"
        )
    images = _channels_first(images, arrays.get("layout"), f"{path}: {name!r}")
    levels = _levels(arrays.get("levels"), path)
    if images.size and int(images.max()) >= levels:
        raise ValueError(f"{path}: {name!r} holds the value {images.max()}, but 'levels' is {levels}: raise 'levels'")
    return ImageArchive(images, _labels(arrays.get("labels"), len(images), path), levels)


def _load(path: Path) -> dict[str, npt.NDArray[Any]]:
    try:
        # Opened here, for numpy leaves the file open where the archive is damaged.
        with path.open("rb") as file:
            archive = np.load(file, allow_pickle=False)
            if not isinstance(archive, np.lib.npyio.NpzFile):
                raise ValueError("it holds a single array: save it with numpy.savez")
            return {key: archive[key] for key in archive.files}
    except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile, zlib.error) as error:
        reason = " ".join(str(error).split())
        raise ValueError(f"{path} is not a readable .npz archive of plain arrays: {reason}") from error


def _channels_first(images: npt.NDArray[Any], layout: npt.NDArray[Any] | None, name: str) -> npt.NDArray[np.uint8]:
    if images.ndim == 3:
        return images[:, None]
    if images.ndim != 4:
        raise ValueError(f"{name} has shape {images.shape}, expected (N, H, W), (N, H, W, C) or (N, C, H, W)")
    if layout is not None:
        if str(layout) not in ("NHWC", "NCHW"):
            raise ValueError(f"{name}: 'layout' is {str(layout)!r}, expected 'NHWC' or 'NCHW'")
        return images if str(layout) == "NCHW" else images.transpose(0, 3, 1, 2)
    first, last = images.shape[1] in (1, 3), images.shape[3] in (1, 3)
    if first == last:
        why = (
            "in which the channels may come first or last" if first else "with neither 1 nor 3 channels, first or last"
        )
        what = "save a string 'layout' beside it, 'NHWC' or 'NCHW'"
        raise ValueError(f"{name} has shape {images.shape}, {why}: {what}")
    return images if first else images.transpose(0, 3, 1, 2)


def _levels(levels: npt.NDArray[Any] | None, path: Path) -> int:
    if levels is None:
        return 256
    if levels.ndim != 0 or levels.dtype.kind not in "iu" or not 2 <= int(levels) <= 256:
        raise ValueError(f"{path}: 'levels' is {levels.tolist()!r}, expected one integer from 2 to 256")
    return int(levels)


def _labels(labels: npt.NDArray[Any] | None, num_images: int, path: Path) -> Labels | None:
    if labels is None:
        return None
    if labels.shape != (num_images,) or labels.dtype.kind not in "iu":
        raise ValueError(f"{path}: 'labels' is {labels.shape} {labels.dtype}, expected ({num_images},) integers")
    if num_images and int(labels.min()) < 0:
        raise ValueError(f"{path}: 'labels' holds {labels.min()}, expected classes numbered from 0")
    return labels.astype(np.int64)
