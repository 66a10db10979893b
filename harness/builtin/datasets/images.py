"""Your own images: ``images:PATH``, a folder of image files or an ``.npz`` archive; nothing in it is unpickled."""

from __future__ import annotations

import math
import os
import re
import warnings
import zipfile
from collections.abc import Collection
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
_MODES = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBa", "RGBX")
_BITS_PER_SAMPLE, _SAMPLE_FORMAT = 258, 339  # of TIFF
_OPTIONAL = ("labels", "levels", "layout")
_FEWEST = 10
_FREE_BYTES, _RATIO = 2**28, 200  # what a member may unpack to, whatever the file has; beyond, times the file


def images(folder: DataFolder, path: str) -> Dataset:
    """Returns the images at ``path``, split 80/10/10 by their content; see ``read_images`` and ``read_npz``.

    The same images in another place, order or format are the same data: they are known by their content. ``path``, a
    folder, subfolders included, or an ``.npz`` file, is relative to the working directory, as on any command line.
    What cannot be used is a ValueError.
    """
    place, labels, levels = Path(path).expanduser(), None, 256
    if place.is_dir():
        pixels, levels = read_images(place)
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
    order = f"the first {train} train, then {valid} valid, then {test} test"
    protocol = f"images ordered by SHA-256(seed 0, pixels): {order}; equal images stay together"
    num_classes = None if labels is None else int(labels.max()) + 1
    return Dataset(f"images:{path}", ImageSpec(channels, height, width, levels, num_classes), *parts, protocol)


def list_images(root: Path) -> list[Path]:
    """Returns the image files under ``root``, by name of their path; hidden files and folders, and others, are not."""

    def refuse(error: OSError) -> None:
        raise error  # else a folder that cannot be listed would be passed over

    found = list[Path]()
    for folder, folders, names in os.walk(root, onerror=refuse):
        folders[:] = [name for name in folders if not name.startswith(".")]
        found += [Path(folder, name) for name in names if Path(name.lower()).suffix in SUFFIXES and name[0] != "."]
    if not found:
        raise ValueError(f"{root} holds no image files: expected files ending in {', '.join(sorted(SUFFIXES))}")
    return sorted(found, key=lambda path: path.relative_to(root).as_posix())


def read_images(root: Path) -> tuple[Images, int]:
    """Returns (N, C, H, W) uint8 and their number of levels: 2 if every file has 1 bit a channel, 256 for 8 bits.

    C is 1 if every file is grey, else 3 with grey files repeated. A ValueError names the first file that is no image,
    has another size than the first, is animated, has more than 8 bits a channel, or transparent pixels.
    """
    found = list[tuple[Images, int]]()
    for path in (paths := list_images(root)):
        found.append(read_image(path))
        size, first = ("{1}x{0}".format(*image.shape) for image, _ in (found[-1], found[0]))
        if size != first:
            sizes = f"{size}, but {paths[0].name} is {first} (width x height)"
            raise ValueError(f"{path} is {sizes}: crop or resize all images to one size")
    channels, levels = max(image.shape[2] for image, _ in found), max(levels for _, levels in found)
    if any((levels - 1) % (own - 1) for _, own in found):
        levels = 256  # 1, 2, 4 and 8 bits are steps of one scale, other numbers of levels need not be
    steps = ((np.arange(256) * (levels - 1) + 127) // 255).astype(np.uint8)  # the level of each of 0 to 255
    images = (np.broadcast_to(image, (*image.shape[:2], channels)).transpose(2, 0, 1) for image, _ in found)
    return np.stack([steps[image] for image in images]), levels


def read_image(path: Path) -> tuple[Images, int]:
    """Returns the pixels of a file, (H, W, 1) or (H, W, 3) uint8 from 0 to 255, and how many levels the file has.

    Orientation tags are not applied. A palette that is all grey, in the pixels that use it, is grey.
    """
    try:
        refusing = warnings.catch_warnings(action="error", category=Image.DecompressionBombWarning)
        with refusing, Image.open(path, formats=_FORMATS) as image:
            problem, levels = _problem(image), _levels(image)
            rgba: Images = np.asarray(image.convert("RGBA")) if problem is None else np.empty((1, 1, 4), np.uint8)
    except UnidentifiedImageError as error:
        raise ValueError(f"{path} is not an image: remove it or replace it") from error
    except Exception as error:  # Pillow raises whatever the damage runs into
        raise ValueError(f"{path} cannot be read ({' '.join(str(error).split())}): remove it or replace it") from error
    if problem is not None:
        raise ValueError(f"{path} {problem}")
    if int(rgba[:, :, 3].min()) < 255:
        raise ValueError(f"{path} has transparent pixels: flatten it on a background first")
    grey = image.mode in ("1", "L", "LA")
    if image.mode in ("P", "PA"):
        grey = bool((rgba[:, :, :3] == rgba[:, :, :1]).all())
        levels = 2 if grey and np.isin(rgba, (0, 255)).all() else 256
    return rgba[:, :, : 1 if grey else 3].copy(), levels


def _problem(image: Image.Image) -> str | None:
    if (frames := int(getattr(image, "n_frames", 1))) > 1:
        return f"holds {frames} frames: save each as a file of its own"
    if _levels(image) > 256 or image.mode.startswith(("I", "F")):
        return "has more than 8 bits a channel, or signed or real numbers: convert it to 8 bits"
    return None if image.mode in _MODES else f"is stored as {image.mode}: convert it to RGB or grey"


def _levels(image: Image.Image) -> int:
    """As many as the file has for each channel: Pillow cuts 16 bits to 8 and stretches fewer over 0 to 255."""
    tiles: Any = getattr(image, "tile", None) or [(None, None, None, "")]
    how = tiles[0][3]  # what the decoder is told: "RGB;16B" of a PNG; ("RGB", 1023) of a PPM
    raw, *rest = how if isinstance(how, tuple) else (how,)
    if image.format == "PPM" and rest:
        return 1 + int(rest[-1])
    tags: Any = getattr(image, "tag_v2", {})
    if any(kind != 1 for kind in tags.get(_SAMPLE_FORMAT, ())):
        return 2**16  # signed or real numbers, even where there are 8 bits of them
    bits = 1 if image.mode == "1" else max(tags.get(_BITS_PER_SAMPLE, (8,)))
    if image.format == "PNG" and (found := re.search(r";(\d+)", str(raw))):
        bits = int(found[1])
    return int(2**bits)


def read_npz(path: Path) -> tuple[Images, Labels | None, int]:
    """Returns images (N, C, H, W) uint8, labels (N,) int64 or None, and the number of levels.

    An archive has ``images``, or one array besides the optional ``labels``, ``levels`` and ``layout``. Images are
    uint8: (N, H, W), (N, H, W, C) or (N, C, H, W) with C 1 or 3. ``layout``, "NHWC" or "NCHW", decides where both
    readings fit, and allows other numbers of channels. ``levels``, an integer from 2 to 256, is 256 if absent. Labels
    are integers from 0 on. Other arrays are not read. Anything else is a ValueError that says what would be right.
    """
    names = list(_load(path, ()))
    found = ["images"] if "images" in names else [key for key in names if key not in _OPTIONAL]
    if len(found) != 1:
        raise ValueError(f"{path} holds {', '.join(names) or 'nothing'}: name the array of images 'images'")
    name = found[0]
    arrays = _load(path, (name, *_OPTIONAL))
    images, labels, levels = arrays[name], arrays.get("labels"), arrays.get("levels", np.array(256))
    if images.dtype != np.uint8:
        raise ValueError(f"{path}: {name!r} is {images.dtype}, expected uint8: {_as_bytes(images)}")
    images = _channels_first(images, arrays.get("layout"), f"{path}: {name!r}")
    if levels.ndim != 0 or levels.dtype.kind not in "iu" or not 2 <= int(levels) <= 256:
        raise ValueError(f"{path}: 'levels' is {levels.tolist()!r:.60}, expected one integer from 2 to 256")
    if images.size and int(images.max()) >= levels:
        raise ValueError(f"{path}: {name!r} holds the value {images.max()}, but 'levels' is {levels}: raise 'levels'")
    if labels is not None:
        if labels.shape != (len(images),) or labels.dtype.kind not in "iu":
            raise ValueError(f"{path}: 'labels' is {labels.shape} {labels.dtype}, expected ({len(images)},) integers")
        ends = [int(labels.min()), int(labels.max())] if len(images) else []
        if wrong := [label for label in ends if not 0 <= label < len(images)]:
            expected = "expected classes numbered from 0, with images of each"
            raise ValueError(f"{path}: 'labels' holds {wrong[0]}, {expected}")
        labels = labels.astype(np.int64)
    return images, labels, int(levels)


def _as_bytes(images: npt.NDArray[Any]) -> str:
    """How images of another type become bytes: cutting off what stands behind the point would make them black."""
    kind, cast = images.dtype.kind, ".astype(numpy.uint8)"
    if kind not in "fiu" or not images.size:
        return f"save {cast}, and 'levels' 2 beside it" if kind == "b" else "save integers from 0 to 255"
    low, high = float(images.min()), float(images.max())
    if kind == "f" and low >= -1 and high <= 1:
        scaled = "255 * images" if low >= 0 else "127.5 * (images + 1)"
        return f"they lie between {min(low, 0):.0f} and 1: save ({scaled}).round(){cast}"
    if low >= 0 and high <= 255:
        return f"save them with .round(){cast}"
    return f"they lie between {low:g} and {high:g}: scale them to 0 to 255, then .round(){cast}"


def _load(path: Path, wanted: Collection[str]) -> dict[str, npt.NDArray[Any]]:
    """Returns the names of all arrays; those that are wanted are read, the others are empty."""
    arrays: dict[str, npt.NDArray[Any]] = {}
    try:
        most = max(_FREE_BYTES, _RATIO * path.stat().st_size)
        with zipfile.ZipFile(path) as archive:
            for member in archive.infolist():
                name = member.filename.removesuffix(".npy")
                if name != member.filename and not Path(name).name.startswith("."):
                    arrays[name] = _array(archive, member, most) if name in wanted else np.empty(0)
    # zipfile raises what is broken (BadZipFile, zlib.error, ...) and what it cannot do (NotImplementedError, ...)
    except Exception as error:
        reason = " ".join(str(error).split())
        raise ValueError(f"{path} is not a readable .npz archive of plain arrays: {reason}") from error
    return arrays


def _array(archive: zipfile.ZipFile, member: zipfile.ZipInfo, most: int) -> npt.NDArray[Any]:
    """Reads an array, of ``most`` bytes at most, once its header has been seen to say as much as there is."""
    name, size = member.filename.removesuffix(".npy"), member.file_size
    if size > most:
        what = f"{name!r} unpacks to {size:,} bytes, more than {_RATIO} times the file"
        raise ValueError(f"{what}: if that is meant, save it with numpy.savez, uncompressed")
    with archive.open(member) as file:
        is_old = np.lib.format.read_magic(file) == (1, 0)
        read = np.lib.format.read_array_header_1_0 if is_old else np.lib.format.read_array_header_2_0
        shape, is_fortran, dtype = read(file)
        if dtype.hasobject:
            raise ValueError(f"{name!r} holds Python objects")
        left, said = size - file.tell(), math.prod(shape) * dtype.itemsize
        if left != said or min(shape, default=0) < 0:
            raise ValueError(f"{name!r} says {shape} {dtype}, {said:,} bytes, and has {left:,}")
        return np.frombuffer(file.read(left), dtype).reshape(shape, order="F" if is_fortran else "C")


def _channels_first(images: npt.NDArray[Any], layout: npt.NDArray[Any] | None, name: str) -> Images:
    if images.ndim == 3:
        return images[:, None]
    if images.ndim != 4:
        raise ValueError(f"{name} has shape {images.shape}, expected (N, H, W), (N, H, W, C) or (N, C, H, W)")
    first, last = images.shape[1] in (1, 3), images.shape[3] in (1, 3)
    if layout is not None:
        if str(layout) not in ("NHWC", "NCHW"):
            raise ValueError(f"{name}: 'layout' is {str(layout)!r:.60}, expected 'NHWC' or 'NCHW'")
        first = str(layout) == "NCHW"
    elif first == last:
        which = "in which channels may come first or last" if first else "with neither 1 nor 3 channels, first or last"
        remedy = "save a string 'layout' beside it, 'NHWC' or 'NCHW'"
        raise ValueError(f"{name} has shape {images.shape}, {which}: {remedy}")
    return images if first else images.transpose(0, 3, 1, 2)
