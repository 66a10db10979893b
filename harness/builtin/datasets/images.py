"""Your own images, or samples of somebody else's: a folder of image files or an ``.npz``; nothing is unpickled."""

import contextlib
import itertools
import math
import os
import re
import warnings
import zipfile
from collections.abc import Collection, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from harness import DataFolder, Dataset, ImageSpec, Split, StoredSamples, digest_of, generator
from harness.builtin.datasets.seeded import Images, Labels, make_split, split_by_content

SUFFIXES = frozenset({".bmp", ".gif", ".jpeg", ".jpg", ".pbm", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"})
# By content: a file may be called .png and be PostScript, which Pillow gives to Ghostscript to run.
_FORMATS = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")
_MODES = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBa", "RGBX")
_BITS_PER_SAMPLE, _SAMPLE_FORMAT, _ORIENTATION = 258, 339, 274  # tags of TIFF and EXIF
_OPTIONAL = ("labels", "levels", "layout")
_FEWEST, _FEW_CLASSES = 10, 1000  # more classes than these only where there are as many images
_FREE_BYTES, _RATIO = 2**28, 200  # what a member may unpack to, whatever the file has; beyond, times the file
_ARGUMENTS = re.compile(r"(.+?)(?: crop=(square|[1-9]\d{0,5}))?(?: resize=([1-9]\d{0,5}))?")
_SPLITS = {"train": "train", "training": "train", "test": "test", "testing": "test"}
_SPLITS |= dict.fromkeys(("valid", "validation", "val"), "valid")
_KINDS = dict.fromkeys(("images", "image", "data", "x"), "images")
_KINDS |= dict.fromkeys(("labels", "label", "targets", "target", "y"), "labels")
_UNDERSTOOD = (
    "name the array of images 'images' ('data', 'x'), or those of splits 'train_images', 'test_images' and perhaps "
    "'valid_images' ('x_train', ...), and labels 'labels' or 'train_labels', ... ('y', 'y_train', ...)"
)


Splits = dict[str, tuple[Images, Labels | None]]
"""Images (N, C, H, W) and labels (N,) of ``train``, ``valid`` and ``test``, or of ``""``: of all of them."""


class Shape(NamedTuple):
    """What ``crop=`` (``square``, or a number of pixels) and ``resize=`` ask for."""

    crop: str = ""
    resize: int = 0

    def fit(self, images: Images, where: str) -> Images:
        """Cuts (..., H, W) uint8 about the centre, then reduces by Pillow's Lanczos filter; nothing is enlarged."""
        height, width = images.shape[-2:]
        size, side = f"{where} is {width}x{height} (width x height)", min(height, width)
        if self.crop:
            most, side = side, side if self.crop == "square" else int(self.crop)
            if side > most:
                raise ValueError(f"{size}, too small for crop={side}: write crop=square, or at most crop={most}")
            top, left = (height - side) // 2, (width - side) // 2
            images = images[..., top : top + side, left : left + side]
        if not (reduced := self.resize):
            return images
        if images.shape[-2] != images.shape[-1]:
            raise ValueError(f"{size}, not square: write crop=square resize={reduced}")
        if reduced > side:
            raise ValueError(f"{size}, which resize={reduced} would enlarge: write at most resize={side}")
        planes = map(Image.fromarray, images.reshape(-1, side, side))
        found = [np.asarray(plane.resize((reduced, reduced), Image.Resampling.LANCZOS)) for plane in planes]
        return np.array(found, np.uint8).reshape(*images.shape[:-2], reduced, reduced)


_AS_STORED = Shape()


def images(folder: DataFolder, path: str) -> Dataset:
    """Returns the images at ``path`` in their own splits, or split 80/10/10 by content.

    The same images in another place, order or format are the same data: they are known by their content. ``path``, a
    folder (``read_folder``) or an ``.npz`` file (``read_npz``), is relative to the working directory, as on any command
    line, or to the data folder if it is not there; after it may stand `` crop=square`` or `` crop=N``, then
    `` resize=N``. What cannot be used is a ValueError.
    """
    name, place, shape = path, folder.locate(path), Shape()
    if not place.exists() and (asked := _ARGUMENTS.fullmatch(path)):
        path, place, shape = asked[1], folder.locate(asked[1]), Shape(asked[2] or "", int(asked[3] or 0))
    classes, turned = list[str](), 0
    if place.is_dir():
        splits, levels, classes, turned = read_folder(place, shape)
    elif place.suffix.lower() == ".npz" and place.is_file():
        splits, levels = read_npz(place, shape)
    elif place.exists():
        raise ValueError(f"{path} is neither a folder of images nor an .npz file")
    else:
        further = ", then crop=square or crop=N, then resize=N" if "=" in path else ""
        raise ValueError(f"{path} does not exist: give a folder of images or an .npz file{further}")
    train, valid, test, protocol = _divide(splits, classes, path)
    if classes:
        numbered = [f"{label} {called}" for label, called in enumerate(classes[:20])]
        protocol += f"; labels are folders: {', '.join(numbered + ['...'] * (len(classes) > 20))}"
    protocol += f"; pixels as stored (files with a tag that turns or mirrors them: {turned:,})" if turned else ""
    protocol += f"; crop={shape.crop} about the centre" if shape.crop else ""
    protocol += f"; resize={shape.resize} by Pillow's Lanczos filter, to 256 levels" if shape.resize else ""
    labels = [own for _, own in splits.values() if own is not None]
    num_classes = 1 + int(np.concatenate(labels).max()) if labels else None
    _, channels, height, width = train.images.shape
    spec = ImageSpec(channels, height, width, levels, num_classes)
    return Dataset(f"images:{name}", spec, train, valid, test, protocol)


def _divide(own: Splits, names: Sequence[str], path: str) -> tuple[Split, Split, Split, str]:
    """Returns the splits, those that are missing taken from the training images, and a sentence on them."""
    (images, labels), order = own["train" if "train" in own else ""], "ordered by SHA-256(seed 0, pixels)"
    for split, (_, classes) in own.items():
        if (classes is None) != (labels is None):
            raise ValueError(f"{path}: of train and {split} only one has labels: give both or neither")
        if classes is not None and labels is not None and (strange := np.setdiff1d(classes, labels)).size:
            called = names[strange[0]] if names else strange[0]
            raise ValueError(f"{path}: {split} has the class {called}, of which train has no image")
    if "valid" in own:
        train, valid = make_split(images, labels), make_split(*own["valid"])
    elif len(images) < _FEWEST:
        raise ValueError(f"{path} holds {len(images)} images: at least {_FEWEST} are needed for three splits")
    else:
        tenth = round(len(images) / 10)
        try:
            num_test = 0 if "test" in own else tenth
            train, valid, test = split_by_content(images, labels, num_valid=tenth, num_test=num_test, seed=0)
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from error
    if "test" not in own:
        counts = f"the first {len(train):,} train, then {len(valid):,} valid, then {len(test):,} test"
        return train, valid, test, f"images {order}: {counts}; equal images stay together"
    test = make_split(*own["test"])
    last = "" if "valid" in own else f", valid being the last of its training images {order}"
    counts = f"{len(train):,} train, {len(valid):,} valid, {len(test):,} test{last}"
    return train, valid, test, f"the data's own splits: {counts}"


def _are_splits(names: Collection[str]) -> bool:
    """Whether these are splits that a dataset can have; ``""`` stands for images of no split."""
    return set(names) in ({""}, {"train"}) or ("" not in names and {"train", "test"} <= set(names))


def read_folder(root: Path, shape: Shape = _AS_STORED) -> tuple[Splits, int, list[str], int]:
    """Returns the images under ``root``, levels, the classes that labels number, and how many have an orientation tag.

    Sub-folders ``train`` and ``test``, perhaps ``valid``, are splits. In each of them, else in ``root``, two or more
    folders are classes, numbered by name, if every image lies directly in one.
    """
    parents = [path.relative_to(root).parts[:-1] for path in list_images(root)]
    named = {top: _SPLITS.get(top.lower(), "") for top in sorted({"".join(parts[:1]) for parts in parents})}
    divided = {"train", "test"} <= set(named.values()) or "" not in named.values()
    if divided and (not _are_splits(named.values()) or len(set(named.values())) < len(named)):
        held = ", ".join(top or "no folder" for top in named)
        raise ValueError(f"{root} has images in {held}: expected train and test, perhaps valid, and no other")
    splits = np.array([named[parts[0]] if divided else "" for parts in parents])
    names, labels = np.unique(["/".join(parts[divided:]) for parts in parents], return_inverse=True)
    single = np.array([bool(name) and "/" not in name for name in names.tolist()])[labels]
    sorted_out = {split: bool(single[splits == split].all()) for split in dict.fromkeys(splits.tolist())}
    if len(set(sorted_out.values())) > 1:
        flat = next(split for split, is_sorted in sorted_out.items() if not is_sorted)
        raise ValueError(f"{root}: {flat} is not sorted into folders of classes as the others are: sort all or none")
    classes = names.tolist() if len(names) > 1 and single.all() else []
    pixels, levels, turned = read_images(root, shape)
    own = {split: (pixels[splits == split], labels[splits == split] if classes else None) for split in sorted_out}
    return own, levels, classes, turned


def list_images(root: Path) -> list[Path]:
    """Returns the image files under ``root``, in linked folders too, by name of their path; hidden ones are not."""

    def refuse(error: OSError) -> None:
        raise error  # else a folder that cannot be listed would be passed over

    def leads_back(path: Path) -> bool:
        return path.resolve() in {parent.resolve() for parent in path.parents}

    found = list[Path]()
    for folder, folders, names in os.walk(root, onerror=refuse, followlinks=True):
        folders[:] = [name for name in folders if name[0] != "." and not leads_back(Path(folder, name))]
        found += [Path(folder, name) for name in names if Path(name.lower()).suffix in SUFFIXES and name[0] != "."]
    if not found:
        raise ValueError(f"{root} holds no image files: expected files ending in {', '.join(sorted(SUFFIXES))}")
    return sorted(found, key=lambda path: path.relative_to(root).as_posix())


def read_images(root: Path, shape: Shape = _AS_STORED) -> tuple[Images, int, int]:
    """Returns (N, C, H, W) uint8, their number of levels, and how many files have a tag that turns them.

    Levels are 2 if every file has 1 bit a channel, 256 for 8 bits or resized files. C is 1 if every file is grey, else
    3, with grey ones repeated. A ValueError names the first file that cannot be taken, or has another size.
    """
    found, turned = list[tuple[Images, int]](), 0
    for path in (paths := list_images(root)):
        image, own, is_turned = read_image(path)
        found.append((shape.fit(image.transpose(2, 0, 1), str(path)), own))
        turned += is_turned
        (height, width), first = found[-1][0].shape[1:], found[0][0].shape[1:]
        if (height, width) != first:
            sizes = f"{width}x{height}, but {paths[0].relative_to(root)} is {first[1]}x{first[0]} (width x height)"
            smallest = min(min(read_image(other)[0].shape[:2]) for other in paths)
            remedy = f"write 'images:{root} crop=square resize={smallest}'"
            raise ValueError(f"{path} is {sizes}: {remedy}, or crop or resize all images to one size")
    channels, levels = max(len(image) for image, _ in found), max(levels for _, levels in found)
    if shape.resize or any((levels - 1) % (own - 1) for _, own in found):
        levels = 256  # 1, 2, 4 and 8 bits are steps of one scale, other numbers of levels need not be
    steps = ((np.arange(256) * (levels - 1) + 127) // 255).astype(np.uint8)  # the level of each of 0 to 255
    images = (np.broadcast_to(image, (channels, *image.shape[1:])) for image, _ in found)
    return np.stack([steps[image] for image in images]), levels, turned


def read_image(path: Path) -> tuple[Images, int, bool]:
    """Returns pixels, (H, W, 1) or (H, W, 3) uint8 from 0 to 255, levels, and whether a tag, not applied, turns them.

    A palette that is all grey, in the pixels that use it, is grey.
    """
    is_turned = False
    if not path.is_file():  # a pipe would be waited for
        raise ValueError(f"{path} is no file that is there: remove it or replace it")
    try:
        refusing = warnings.catch_warnings(action="error", category=Image.DecompressionBombWarning)
        with refusing, Image.open(path, formats=_FORMATS) as image:
            problem, levels = _problem(image), _levels(image)
            rgba: Images = np.asarray(image.convert("RGBA")) if problem is None else np.empty((1, 1, 4), np.uint8)
            with contextlib.suppress(Exception), warnings.catch_warnings(action="ignore"):  # whatever the tags are
                is_turned = image.getexif().get(_ORIENTATION) in range(2, 9)
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
    return rgba[:, :, : 1 if grey else 3].copy(), levels, is_turned


def _problem(image: Image.Image) -> str | None:
    if (frames := int(getattr(image, "n_frames", 1))) > 1:
        return f"holds {frames} frames: save each as a file of its own"
    if _levels(image) > 256 or image.mode.startswith(("I", "F")):
        return "has more than 8 bits a channel, or signed or real numbers: convert it to 8 bits"
    if image.format == "TIFF" and getattr(image, "tag_v2", {}).get(_ORIENTATION, 1) != 1:
        return "has a tag of orientation, which decoders of TIFF do not agree on: apply it and save the file without"
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


def read_npz(path: Path, shape: Shape = _AS_STORED) -> tuple[Splits, int]:
    """Returns the splits of an archive, whose arrays are known by their names (``_roles``), and the number of levels.

    Images are uint8, (N, H, W), (N, H, W, C) or (N, C, H, W); C is 1 or 3, unless ``layout``, "NHWC" or "NCHW", is
    there. ``levels``, from 2 to 256, is 256 if absent. Labels, (N,) or (N, 1), are integers from 0 on.
    """
    roles = _roles(path, list(_load(path, ())))
    arrays = _load(path, (*roles.values(), "levels", "layout"))
    levels, splits = arrays.get("levels", np.array(256)), Splits()
    if levels.ndim != 0 or levels.dtype.kind not in "iu" or not 2 <= int(levels) <= 256:
        raise ValueError(f"{path}: 'levels' is {levels.tolist()!r:.60}, expected one integer from 2 to 256")
    for split in {split: None for split, _ in roles}:
        name, images = roles[split, "images"], arrays[roles[split, "images"]]
        if images.dtype != np.uint8:
            raise ValueError(f"{path}: {name!r} is {images.dtype}, expected uint8: {_as_bytes(images)}")
        images = _channels_first(images, arrays.get("layout"), f"{path}: {name!r}")
        if images.size and int(images.max()) >= levels:
            what = f"{name!r} holds the value {images.max()}, but 'levels' is {levels}"
            raise ValueError(f"{path}: {what}: raise 'levels'")
        if shape.resize:
            images = np.rint(np.arange(int(levels)) * 255 / (int(levels) - 1)).astype(np.uint8)[images]
        key = roles.get((split, "labels"))
        labels = None if key is None else _labels(arrays[key], len(images), f"{path}: {key!r}")
        splits[split] = shape.fit(images, f"{path}: {name!r}"), labels
    return splits, 256 if shape.resize else int(levels)


def _roles(path: Path, names: Sequence[str]) -> dict[tuple[str, str], str]:
    """Returns the array of each split's ``images`` and ``labels``; ``""`` is the split where none is named.

    Either there is ``images``, or one array besides ``_OPTIONAL``; or arrays are named by kind, split or both, such as
    ``data`` and ``y_test``; or ``numpy.savez`` numbered them: images and labels, or these to train and to test.
    """
    others = [name for name in names if name not in _OPTIONAL]
    named = {name: role for name in names if (role := _role(name)) is not None}
    if len(others) == 1 or ("images" in names and not any(split for split, _ in named.values())):
        labels = {("", "labels"): "labels"} if "labels" in names else {}
        return {("", "images"): "images" if "images" in names else others[0], **labels}
    roles = {role: name for name, role in named.items()}
    numbered = sorted((name for name in others if re.fullmatch(r"arr_\d+", name)), key=lambda name: (len(name), name))
    if numbered and not any(kind == "images" for _, kind in roles):
        arrays = _load(path, numbered[:4])  # what else is there is refused unread
        order = itertools.product(("train", "test") if len(numbered) == 4 else ("",), ("images", "labels"))
        roles = dict(zip(order, numbered, strict=False))
        if len(roles) < len(numbered) or any((arrays[roles[role]].ndim > 2) != (role[1] == "images") for role in roles):
            held = ", ".join(f"{name} {arrays[name].shape}" for name in numbered[:4]) + ", ..." * (len(numbered) > 4)
            expected = "without names, expected images and labels, or images and labels to train, then to test"
            raise ValueError(f"{path} holds {held}: {expected}; else {_UNDERSTOOD}")
        return roles
    splits = {split for split, kind in roles if kind == "images"}
    if len(roles) < len(named) or not _are_splits(splits) or {split for split, _ in roles} != splits:
        raise ValueError(f"{path} holds {', '.join(names) or 'nothing'}: {_UNDERSTOOD}")
    return roles


def _role(name: str) -> tuple[str, str] | None:
    """Returns the split and the kind that a name says: ``x_train`` is images to train."""
    words = name.lower().split("_")
    splits, kinds = ([table[word] for word in words if word in table] for table in (_SPLITS, _KINDS))
    if max(len(splits), len(kinds)) > 1 or len(splits) + len(kinds) < len(words):
        return None
    return "".join(splits), "".join(kinds) or "images"


def _labels(labels: npt.NDArray[Any], num_images: int, where: str) -> Labels:
    if labels.shape == (num_images, 1):
        labels = labels[:, 0]
    if labels.shape != (num_images,) or labels.dtype.kind not in "iu":
        raise ValueError(f"{where} is {labels.shape} {labels.dtype}, expected ({num_images},) integers")
    ends = [int(labels.min()), int(labels.max())] if num_images else []
    if wrong := [label for label in ends if not 0 <= label < max(num_images, _FEW_CLASSES)]:
        raise ValueError(f"{where} holds {wrong[0]}, expected classes numbered from 0, with images of each")
    return labels.astype(np.int64)


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


def samples_at(path: Path) -> type[StoredSamples]:
    """Returns the images at a path, which is read when they are needed, and again when a file has changed."""

    def stored() -> tuple[Tensor, int, str]:
        if not path.is_dir() and not path.is_file():
            raise ValueError(f"samples:{path} does not exist: give a folder of images or an .npz file")
        files = list_images(path) if path.is_dir() else [path]
        return _read(path, tuple((str(file), file.stat().st_mtime_ns, file.stat().st_size) for file in files))

    return type(path.name, (StoredSamples,), {"stored": staticmethod(stored)})


@lru_cache(maxsize=2)
def _read(path: Path, state: object) -> tuple[Tensor, int, str]:
    """Reads the images, in an order of their own: the first are of no file or folder more than the last."""
    if path.is_dir():
        pixels, levels, _ = read_images(path)
    else:
        splits, levels, *_ = read_npz(path)
        pixels = np.concatenate([images for images, _ in splits.values()])
    split = Split(torch.from_numpy(pixels))
    split = split.take(torch.from_numpy(split.image_digests()).argsort(stable=True))
    split = split.take(torch.randperm(len(split), generator=generator(0, "samples")))  # copies are not side by side
    return split.images, levels, digest_of([split.digest(), levels])
