"""Your own images: ``images:PATH``, a folder of image files or an ``.npz`` archive; nothing in it is unpickled."""

from __future__ import annotations

import os
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, UnidentifiedImageError

from harness import DataFolder, Dataset, ImageSpec
from harness.builtin.datasets.seeded import Images, Labels, split_by_content

SUFFIXES = frozenset({".bmp", ".gif", ".jpeg", ".jpg", ".pbm", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"})
# By content: a file may be called .png and be PostScript, which Pillow gives to Ghostscript to run.
_FORMATS = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")
_OPTIONAL = ("labels", "levels", "layout")
_FEWEST = 10


def images(folder: DataFolder, path: str) -> Dataset:
    """Returns the images at ``path``, split 80/10/10 by their content; see ``read_images`` and ``read_npz``.

    The name is ``images:`` and the path as given; the dataset's digest is of the content, so the same images in
    another place, order or format are the same data.

    Args:
        folder: unused: ``path`` is relative to the working directory, as on any command line.
        path: a folder of image files, subfolders included, or an ``.npz`` file.

    Raises:
        ValueError: nothing there, something else than images, images of several sizes, or fewer than ten.
    """
    place, labels, levels = Path(path).expanduser(), None, 256
    if place.is_dir():
        pixels = read_images(place)
    elif place.suffix.lower() == ".npz" and place.is_file():
        pixels, labels, levels = read_npz(place)
    elif place.exists():
        raise ValueError(f"{path} is neither a folder of images nor an .npz file")
    else:
        raise ValueError(f"{path} does not exist: give a folder of images or an .npz file")
    num_images, channels, height, width = pixels.shape
    if num_images < _FEWEST:
        raise ValueError(f"{path} holds {num_images} images: at least {_FEWEST} are needed for three splits")
    tenth = round(num_images / 10)
    try:
        parts = split_by_content(pixels, labels, num_valid=tenth, num_test=tenth, seed=0)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    train, valid, test = (f"{len(part):,}" for part in parts)
    protocol = (
        f"images ordered by SHA-256(seed 0, pixels): the first {train} train, then {valid} valid, "
        f"then {test} test; equal images stay together"
    )
    num_classes = None if labels is None else int(labels.max()) + 1
    return Dataset(f"images:{path}", ImageSpec(channels, height, width, levels, num_classes), *parts, protocol)


def list_images(root: Path) -> list[Path]:
    """Returns the image files under ``root``, by name of their path; hidden ones and other files are passed over."""
    found = [
        Path(folder) / name
        for folder, _, names in os.walk(root)
        for name in names
        if Path(name).suffix.lower() in SUFFIXES and not name.startswith(".")
    ]
    if not found:
        raise ValueError(f"{root} holds no image files: expected files ending in {', '.join(sorted(SUFFIXES))}")
    return sorted(found, key=lambda path: path.relative_to(root).as_posix())


def read_images(root: Path) -> Images:
    """Returns (N, C, H, W) uint8: C is 1 if every file is grey, else 3 with grey files repeated.

    Raises:
        ValueError: no image files; a file that is no image, has another size than the first, is animated,
            has more than 8 bits for each channel, or has transparent pixels. The message names the file.
    """
    found: list[Images] = []
    for path in (paths := list_images(root)):
        found.append(read_image(path))
        (height, width), (first_height, first_width) = found[-1].shape[:2], found[0].shape[:2]
        if (height, width) != (first_height, first_width):
            raise ValueError(
                f"{path} is {width}x{height}, but {paths[0].name} is {first_width}x{first_height} (width x height): "
                "crop or resize all images to one size"
            )
    channels = max(image.shape[2] for image in found)
    return np.stack([np.broadcast_to(image, (*image.shape[:2], channels)).transpose(2, 0, 1) for image in found])


def read_image(path: Path) -> Images:
    """Returns the pixels of one file as stored, (H, W, 1) or (H, W, 3) uint8; orientation tags are not applied."""
    try:
        with Image.open(path, formats=_FORMATS) as image:
            if (frames := int(getattr(image, "n_frames", 1))) > 1:
                raise ValueError(f"{path} holds {frames} frames: save each as a file of its own")
            if image.mode.startswith(("I", "F")):
                raise ValueError(f"{path} has more than 8 bits a channel (mode {image.mode}): convert it to 8 bits")
            grey = image.mode in ("1", "L", "LA", "La")
            if image.mode in ("RGBA", "RGBa", "LA", "La", "PA") or "transparency" in image.info:
                rgba = np.asarray(image.convert("RGBA"))
                if int(rgba[:, :, 3].min()) < 255:
                    raise ValueError(f"{path} has transparent pixels: flatten it on a background first")
                return rgba[:, :, :1] if grey else rgba[:, :, :3]
            return np.asarray(image.convert("L"))[:, :, None] if grey else np.asarray(image.convert("RGB"))
    except UnidentifiedImageError as error:
        raise ValueError(f"{path} is not an image: remove it or replace it") from error
    except (OSError, SyntaxError, EOFError, Image.DecompressionBombError) as error:
        raise ValueError(f"{path} cannot be read ({' '.join(str(error).split())}): remove it or replace it") from error


def read_npz(path: Path) -> tuple[Images, Labels | None, int]:
    """Returns images (N, C, H, W) uint8, labels (N,) int64 or None, and the number of levels.

    An archive has ``images``, or one array besides the optional ``labels``, ``levels`` and ``layout``. Images are
    uint8: (N, H, W), (N, H, W, C) or (N, C, H, W) with C 1 or 3. ``layout``, "NHWC" or "NCHW", decides where both
    readings fit, and allows other numbers of channels. ``levels``, an integer from 2 to 256, is 256 if absent. Labels
    are integers from 0 on.

    Raises:
        ValueError: anything else; the message names the file and what would be right.
    """
    arrays = _load(path)
    name = "images"
    if name not in arrays:
        others = [key for key in arrays if key not in _OPTIONAL]
        if len(others) != 1:
            raise ValueError(f"{path} holds {', '.join(arrays) or 'nothing'}: name the array of images 'images'")
        name = others[0]
    images, labels, levels = arrays[name], arrays.get("labels"), arrays.get("levels", np.array(256))
    if images.dtype != np.uint8:
        raise ValueError(
            f"{path}: {name!r} is {images.dtype}, expected uint8: save integers from 0 to 255 with .astype(numpy.uint8)"
        )
    images = _channels_first(images, arrays.get("layout"), f"{path}: {name!r}")
    if levels.ndim != 0 or levels.dtype.kind not in "iu" or not 2 <= int(levels) <= 256:
        raise ValueError(f"{path}: 'levels' is {levels.tolist()!r}, expected one integer from 2 to 256")
    if images.size and int(images.max()) >= levels:
        raise ValueError(f"{path}: {name!r} holds the value {images.max()}, but 'levels' is {levels}: raise 'levels'")
    if labels is not None:
        if labels.shape != (len(images),) or labels.dtype.kind not in "iu":
            raise ValueError(f"{path}: 'labels' is {labels.shape} {labels.dtype}, expected ({len(images)},) integers")
        if len(images) and int(labels.min()) < 0:
            raise ValueError(f"{path}: 'labels' holds {labels.min()}, expected classes numbered from 0")
        labels = labels.astype(np.int64)
    return images, labels, int(levels)


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


def _channels_first(images: npt.NDArray[Any], layout: npt.NDArray[Any] | None, name: str) -> Images:
    if images.ndim == 3:
        return images[:, None]
    if images.ndim != 4:
        raise ValueError(f"{name} has shape {images.shape}, expected (N, H, W), (N, H, W, C) or (N, C, H, W)")
    first, last = images.shape[1] in (1, 3), images.shape[3] in (1, 3)
    if layout is not None:
        if str(layout) not in ("NHWC", "NCHW"):
            raise ValueError(f"{name}: 'layout' is {str(layout)!r}, expected 'NHWC' or 'NCHW'")
        first = str(layout) == "NCHW"
    elif first == last:
        which = "in which channels may come first or last" if first else "with neither 1 nor 3 channels, first or last"
        raise ValueError(
            f"{name} has shape {images.shape}, {which}: save a string 'layout' beside it, 'NHWC' or 'NCHW'"
        )
    return images if first else images.transpose(0, 3, 1, 2)
