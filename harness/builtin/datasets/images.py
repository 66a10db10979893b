"""Your own images: ``images:PATH``, a folder of image files or an ``.npz`` archive."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from harness import DataFolder, Dataset, ImageSpec
from harness.builtin.datasets.npz import ImageArchive, read_npz
from harness.builtin.datasets.splits import Images, split_by_content

SUFFIXES = frozenset({".bmp", ".gif", ".jpeg", ".jpg", ".pbm", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"})
# By content: a file may be called .png and be PostScript, which Pillow gives to Ghostscript to run.
_FORMATS = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")
_GREY_MODES = {"1", "L", "LA", "La"}
_DEEP_MODES = ("I", "F")

MINIMUM = 10
_SEED = 0


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
    place = Path(path).expanduser()
    if place.is_dir():
        archive = ImageArchive(read_images(place), labels=None, levels=256)
    elif place.suffix.lower() == ".npz" and place.is_file():
        archive = read_npz(place)
    elif place.exists():
        raise ValueError(f"{path} is neither a folder of images nor an .npz file")
    else:
        raise ValueError(f"{path} does not exist: give a folder of images or an .npz file")
    num_images = len(archive.images)
    if num_images < MINIMUM:
        raise ValueError(f"{path} holds {num_images} images: at least {MINIMUM} are needed for three splits")
    tenth = round(num_images / 10)
    try:
        train, valid, test = split_by_content(
            archive.images, archive.labels, num_valid=tenth, num_test=tenth, seed=_SEED
        )
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    num_classes = None if archive.labels is None else int(archive.labels.max()) + 1
    channels, height, width = archive.images.shape[1:]
    protocol = (
        f"images ordered by SHA-256(seed {_SEED}, pixels): the first {len(train):,} train, then {len(valid):,} valid, "
        f"then {len(test):,} test; equal images stay together"
    )
    spec = ImageSpec(channels, height, width, archive.levels, num_classes)
    return Dataset(f"images:{path}", spec, train, valid, test, protocol)


def list_images(root: Path) -> list[Path]:
    """Returns the image files under ``root``, by name of their path; hidden ones and other files are passed over.

    Raises:
        ValueError: there are none.
    """
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
    paths = list_images(root)
    first = read_image(paths[0])
    images = []
    for path in paths:
        image = read_image(path)
        if image.shape[:2] != first.shape[:2]:
            raise ValueError(
                f"{path} is {image.shape[1]}x{image.shape[0]}, but {paths[0].name} is "
                f"{first.shape[1]}x{first.shape[0]} (width x height): crop or resize all images to one size"
            )
        images.append(image)
    channels = max(image.shape[2] for image in images)
    table = np.empty((len(images), channels, *first.shape[:2]), dtype=np.uint8)
    for index, image in enumerate(images):
        table[index] = image.transpose(2, 0, 1)  # a grey plane is broadcast to all channels
    return table


def read_image(path: Path) -> Images:
    """Returns the pixels of one file as stored, (H, W, 1) or (H, W, 3) uint8; orientation tags are not applied.

    Raises:
        ValueError: see ``read_images``.
    """
    try:
        with Image.open(path, formats=_FORMATS) as image:
            if (frames := int(getattr(image, "n_frames", 1))) > 1:
                raise ValueError(f"{path} holds {frames} frames: save each as a file of its own")
            if image.mode.startswith(_DEEP_MODES):
                raise ValueError(f"{path} has more than 8 bits a channel (mode {image.mode}): convert it to 8 bits")
            return _pixels(image, path)
    except UnidentifiedImageError as error:
        raise ValueError(f"{path} is not an image: remove it or replace it") from error
    except (OSError, SyntaxError, EOFError, Image.DecompressionBombError) as error:
        raise ValueError(f"{path} cannot be read ({' '.join(str(error).split())}): remove it or replace it") from error


def _pixels(image: Image.Image, path: Path) -> Images:
    grey = image.mode in _GREY_MODES
    if image.mode in ("RGBA", "RGBa", "LA", "La", "PA") or "transparency" in image.info:
        rgba = np.asarray(image.convert("RGBA"))
        if int(rgba[:, :, 3].min()) < 255:
            raise ValueError(f"{path} has transparent pixels: flatten it on a background first")
        return rgba[:, :, :1] if grey else rgba[:, :, :3]
    return np.asarray(image.convert("L"))[:, :, None] if grey else np.asarray(image.convert("RGB"))
