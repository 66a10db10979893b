"""MNIST, 8-bit and dynamically binarized, and Fashion-MNIST, from files in IDX: a magic number, sizes, then bytes."""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass

import numpy as np

from harness import BernoulliSplit, DataFolder, Dataset, ImageSpec, RemoteFile
from harness.builtin.datasets.splits import Images, Labels, make_split

NUM_DRAWS = 5
_SEEDS = {"train": 1, "valid": 2, "test": 3}
_NAMES = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")


def parse_idx(content: bytes, *, num_axes: int, name: str) -> Images:
    """Returns the array of an IDX file of unsigned bytes; it is a read-only view of ``content``.

    Args:
        content: the unpacked file: bytes 0, 0, the type (8), the number of axes; a big-endian uint32 for each axis;
            data.
        num_axes: how many axes there must be: 3 for images, 1 for labels.
        name: the file's name, for messages.

    Raises:
        ValueError: another magic number, or more or fewer bytes than the sizes say.
    """
    header = 4 + 4 * num_axes
    if len(content) < header or content[:4] != bytes((0, 0, 8, num_axes)):
        raise ValueError(
            f"{name} is not an IDX file of unsigned bytes with {num_axes} axes: it starts with {content[:4].hex()!r}, "
            f"expected '000008{num_axes:02x}': replace it"
        )
    shape: tuple[int, ...] = struct.unpack(f">{num_axes}I", content[4:header])
    if len(content) - header != math.prod(shape):
        raise ValueError(
            f"{name} holds {len(content) - header} bytes of data, its header says {math.prod(shape)}, {shape}: "
            "replace it"
        )
    return np.frombuffer(content, dtype=np.uint8, offset=header).reshape(shape)


@dataclass(frozen=True)
class IdxFiles:
    """The four files of a set in MNIST's layout: images and labels for training, images and labels for test.

    Attributes:
        files: the four, in that order.
        num_valid: how many of the training images, from the end, are the validation split.
    """

    files: tuple[RemoteFile, RemoteFile, RemoteFile, RemoteFile]
    num_valid: int = 10_000

    @classmethod
    def at(cls, subfolder: str, bases: tuple[str, ...], sha256: tuple[str, str, str, str]) -> IdxFiles:
        """Returns the files of ``subfolder``, to be had as ``base/NAME.gz``; the digests are of the unpacked files."""
        one, two, three, four = (
            RemoteFile(f"{subfolder}/{name}", tuple(f"{base}/{name}.gz" for base in bases), digest)
            for name, digest in zip(_NAMES, sha256, strict=True)
        )
        return cls((one, two, three, four))

    @property
    def protocol(self) -> str:
        """The sentence on where the splits come from."""
        return (
            f"the official test set; of the official training set, in the file's order, "
            f"all but the last {self.num_valid:,} images train and the last {self.num_valid:,} valid"
        )

    def read(self, folder: DataFolder) -> dict[str, tuple[Images, Labels]]:
        """Returns images (N, 1, H, W) uint8 and labels (N,) of train, valid and test.

        Raises:
            DataUnavailable, DataCorrupt: see ``DataFolder.read``.
            ValueError: there are more or fewer labels than images.
        """
        arrays = []
        for position, file in enumerate(self.files):
            arrays.append(parse_idx(folder.read(file), num_axes=1 if position % 2 else 3, name=file.path))
        train, train_labels, test, test_labels = arrays
        for file, images, labels in ((self.files[1], train, train_labels), (self.files[3], test, test_labels)):
            if len(images) != len(labels):
                raise ValueError(f"{file.path} holds {len(labels)} labels for {len(images)} images: replace it")
        cut = len(train) - self.num_valid
        return {
            "train": (train[:cut, None], train_labels[:cut]),
            "valid": (train[cut:, None], train_labels[cut:]),
            "test": (test[:, None], test_labels),
        }


def idx_dataset(name: str, folder: DataFolder, files: IdxFiles) -> Dataset:
    """Returns an 8-bit dataset with ten classes from files in MNIST's layout."""
    parts = {split: make_split(images, labels) for split, (images, labels) in files.read(folder).items()}
    return Dataset(name, _spec(parts["train"].images.shape, levels=256), **parts, split_protocol=files.protocol)


def dynamic_dataset(name: str, folder: DataFolder, files: IdxFiles) -> Dataset:
    """Returns a dynamically binarized dataset: p(pixel = 1) = intensity / 255, redrawn at every draw."""
    parts: dict[str, BernoulliSplit] = {}
    for split, (images, labels) in files.read(folder).items():
        grey = make_split(images, labels)
        num_draws = 1 if split == "train" else NUM_DRAWS
        parts[split] = BernoulliSplit(grey.images, grey.labels, num_draws=num_draws, seed=_SEEDS[split])
    protocol = (
        f"{files.protocol}; train is drawn anew each epoch, valid and test are each {NUM_DRAWS} fixed draws "
        f"(seeds {_SEEDS['valid']} and {_SEEDS['test']})"
    )
    return Dataset(name, _spec(parts["train"].images.shape, levels=2), **parts, split_protocol=protocol)


def mnist(folder: DataFolder) -> Dataset:
    """Returns MNIST (LeCun et al. 1998): 28x28, 256 levels, ten classes, 50,000 / 10,000 / 10,000.

    The field's split of the official 60,000: the first 50,000 train, the last 10,000 valid (as in Theano's and
    Larochelle's files). The digests of the four files are the published ones.
    """
    return idx_dataset("mnist", folder, MNIST)


def mnist_dynamic(folder: DataFolder) -> Dataset:
    """Returns MNIST, dynamically binarized (Salakhutdinov & Murray 2008; Burda et al. 2016, arXiv 1509.00519).

    One draw of the test set moves its mean NLL by about 0.05 nats: so valid and test are scored on five fixed draws.
    Some papers train on all 60,000 images; this split keeps 10,000 for validation, as ``mnist`` does.
    """
    return dynamic_dataset("mnist-dynamic", folder, MNIST)


def fashion_mnist(folder: DataFolder) -> Dataset:
    """Returns Fashion-MNIST (Xiao et al. 2017, arXiv 1708.07747): 28x28, 256 levels, split as ``mnist`` is."""
    return idx_dataset("fashion-mnist", folder, FASHION)


def _spec(shape: tuple[int, ...], *, levels: int) -> ImageSpec:
    return ImageSpec(shape[1], shape[2], shape[3], levels, num_classes=10)


MNIST = IdxFiles.at(
    "mnist",
    (
        "https://ossci-datasets.s3.amazonaws.com/mnist",
        "https://storage.googleapis.com/cvdf-datasets/mnist",
        "http://yann.lecun.com/exdb/mnist",
    ),
    (
        "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
        "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
        "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
        "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
    ),
)
FASHION = IdxFiles.at(
    "fashion-mnist",
    (
        "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com",
        "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion",
    ),
    (
        "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
        "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
        "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
        "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
    ),
)
