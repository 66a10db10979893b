"""Your own images: ``images:PATH``, a folder of image files or an ``.npz`` archive."""

from __future__ import annotations

from pathlib import Path

from harness import DataFolder, Dataset, ImageSpec
from harness.builtin.datasets.image_files import read_images
from harness.builtin.datasets.npz import ImageArchive, read_npz
from harness.builtin.datasets.splits import split_by_content

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
