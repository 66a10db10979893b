"""MNIST, 8-bit and binarized (dynamically, and once and for all), and Fashion-MNIST."""

import hashlib
import math
import struct
from collections.abc import Sequence

import numpy as np

from harness import BernoulliSplit, CanonicalDigest, DataFolder, Dataset, ImageSpec, RemoteFile
from harness.builtin.datasets.seeded import Images, make_split

NUM_DRAWS = 5
_SEEDS = {"train": 1, "valid": 2, "test": 3}
_NAMES = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")


def parse_idx(content: bytes, *, num_axes: int, name: str) -> Images:
    """Returns the array of an unpacked IDX file of unsigned bytes, a view; images have 3 axes, labels 1.

    It is the bytes 0, 0, 8 (the type) and the number of axes; a big-endian uint32 for each axis; data.
    """
    header = 4 + 4 * num_axes
    if len(content) < header or content[:4] != bytes((0, 0, 8, num_axes)):
        starts = f"it starts with {content[:4].hex()!r}, expected '000008{num_axes:02x}': replace it"
        raise ValueError(f"{name} is not an IDX file of unsigned bytes with {num_axes} axes: {starts}")
    shape: tuple[int, ...] = struct.unpack(f">{num_axes}I", content[4:header])
    if (found := len(content) - header) != math.prod(shape):
        raise ValueError(f"{name} holds {found} bytes of data, its header says {math.prod(shape)}, {shape}: replace it")
    return np.frombuffer(content, dtype=np.uint8, offset=header).reshape(shape)


def idx_dataset(name: str, folder: DataFolder, files: Sequence[RemoteFile], *, num_valid: int = 10_000) -> Dataset:
    """Returns an 8-bit dataset of ten classes from files as in ``_NAMES``, the last ``num_valid`` of train as valid."""
    train, train_labels, test, test_labels = (
        parse_idx(folder.read(file), num_axes=axes, name=file.path)
        for file, axes in zip(files, (3, 1, 3, 1), strict=True)
    )
    for file, images, labels in ((files[1], train, train_labels), (files[3], test, test_labels)):
        if len(images) != len(labels):
            raise ValueError(f"{file.path} holds {len(labels)} labels for {len(images)} images: replace it")
    cut, (_, height, width) = len(train) - num_valid, train.shape
    return Dataset(
        name,
        ImageSpec(1, height, width, 256, num_classes=10),
        make_split(train[:cut, None], train_labels[:cut]),
        make_split(train[cut:, None], train_labels[cut:]),
        make_split(test[:, None], test_labels),
        "the official test set; of the official training set, in the file's order, "
        f"all but the last {num_valid:,} images train and the last {num_valid:,} valid",
    )


def dynamic_dataset(name: str, grey: Dataset) -> Dataset:
    """Returns a dataset dynamically binarized: p(pixel = 1) = intensity / 255, redrawn at every draw."""
    parts: dict[str, BernoulliSplit] = {}
    for split, seed in _SEEDS.items():
        num_draws, part = 1 if split == "train" else NUM_DRAWS, getattr(grey, split)
        parts[split] = BernoulliSplit(part.images, part.labels, num_draws=num_draws, seed=seed)
    protocol = (
        f"{grey.split_protocol}; train is drawn anew each epoch, valid and test are each {NUM_DRAWS} fixed draws "
        f"(seeds {_SEEDS['valid']} and {_SEEDS['test']})"
    )
    return Dataset(name, ImageSpec(*grey.spec.shape, levels=2, num_classes=10), **parts, split_protocol=protocol)


def mnist(folder: DataFolder) -> Dataset:
    """Returns MNIST (LeCun et al. 1998): 28x28, 256 levels, ten classes, 50,000 / 10,000 / 10,000.

    The field's split of the official 60,000: the first 50,000 train, the last 10,000 valid. Digests are the published.
    """
    return idx_dataset("mnist", folder, MNIST)


def mnist_dynamic(folder: DataFolder) -> Dataset:
    """Returns MNIST, dynamically binarized (Salakhutdinov & Murray 2008; Burda et al. 2016, arXiv 1509.00519).

    One draw of the test set moves its mean NLL by about 0.05 nats: so valid and test are scored on five fixed draws.
    """
    return dynamic_dataset("mnist-dynamic", mnist(folder))


def fashion_mnist(folder: DataFolder) -> Dataset:
    """Returns Fashion-MNIST (Xiao et al. 2017, arXiv 1708.07747): 28x28, 256 levels, split as ``mnist`` is."""
    return idx_dataset("fashion-mnist", folder, FASHION)


def mnist_static(folder: DataFolder) -> Dataset:
    """Returns static MNIST (Larochelle & Murray 2011): 28x28, binary, no labels, 50,000 / 10,000 / 10,000.

    Each pixel was drawn once, as one with probability intensity / 255 (Salakhutdinov & Murray 2008). A file is accepted
    by the SHA-256 of its bytes or of its lines in byte order: copies in another order are in use. Rows stay in the
    file's order; those of the test file are ordered by class.
    """
    parts = {
        split: make_split(parse_amat(folder.read(file), num_values=784, name=file.path).reshape(-1, 1, 28, 28))
        for split, file in FILES.items()
    }
    protocol = "the official files of the static binarization: 50,000 train, 10,000 valid, 10,000 test"
    return Dataset("mnist-static", ImageSpec(1, 28, 28, 2), **parts, split_protocol=protocol)


def parse_amat(content: bytes, *, num_values: int, name: str) -> Images:
    """Returns (rows, num_values) uint8 of zeros and ones, from one image a line, values separated by single blanks.

    Rows are equally long, so that the file is one array: reading number by number takes a hundred times as long.
    """
    pitch = 2 * num_values
    if not content.endswith(b"\n"):
        content += b"\n"
    whole = len(content) // pitch
    table = np.frombuffer(content, dtype=np.uint8, count=whole * pitch).reshape(whole, pitch)
    # Against a row of zeros, bytes may differ in one place only: the lowest bit of a value.
    difference = table ^ np.frombuffer(b"0 " * (num_values - 1) + b"0\n", dtype=np.uint8)
    wrong = (difference & ~np.frombuffer(b"\x01\x00" * num_values, dtype=np.uint8)).any(1)
    if wrong.any() or len(content) != whole * pitch:
        line = int(np.argmax(wrong)) + 1 if wrong.any() else whole + 1
        what = f"{num_values} values of 0 or 1 separated by single blanks"
        raise ValueError(f"{name}: line {line} is not {what}: replace the file")
    return difference[:, ::2]


def sorted_lines_sha256(content: bytes) -> str:
    """Returns the SHA-256 of the lines in byte order, what ``LC_ALL=C sort FILE | sha256sum`` prints."""
    lines = sorted(content.removesuffix(b"\n").split(b"\n")) if content else []
    return hashlib.sha256(b"".join(line + b"\n" for line in lines)).hexdigest()


def _idx_files(subfolder: str, bases: Sequence[str], *sha256: str) -> tuple[RemoteFile, ...]:
    """The files of ``subfolder``, to be had as ``base/NAME.gz``; the digests are of the unpacked files."""
    return tuple(
        RemoteFile(f"{subfolder}/{name}", tuple(f"{base}/{name}.gz" for base in bases), digest)
        for name, digest in zip(_NAMES, sha256, strict=True)
    )


_STATIC_SHA256 = {  # of the file's bytes, and of its sorted lines
    "train": (
        "ad693b29f94c14277b095f5238ddefbbdaaae0939789dd2f4f0205278cee3e4d",
        "5033eff83359107a8e1c98bfaa5441e8610d3e052e810a0e6cd1a20358f7ae9d",
    ),
    "valid": (
        "1de3d397c40fe8eeb33dafd4099a1f665ec01e96d9be234aaeeac8a34930e2e2",
        "9e5ae493085208adaa900dcd608b23e53998471e77476f039bc6471333999304",
    ),
    "test": (
        "e6687bfea3f820c174f33b7865140b2a2dd2930ef786f35d45795fc193b5ab2c",
        "6197237be37b9147af16975e9620349cc8e13ddf11e5b1ef70be0f17cf88f2d9",
    ),
}
FILES = {
    split: RemoteFile(
        f"binarized-mnist/binarized_mnist_{split}.amat",
        (f"http://www.cs.toronto.edu/~larocheh/public/datasets/binarized_mnist/binarized_mnist_{split}.amat",),
        sha256,
        CanonicalDigest("its sorted lines", sorted_lines_sha256, sorted_sha256),
    )
    for split, (sha256, sorted_sha256) in _STATIC_SHA256.items()
}
MNIST = _idx_files(
    "mnist",
    (
        "https://ossci-datasets.s3.amazonaws.com/mnist",
        "https://storage.googleapis.com/cvdf-datasets/mnist",
        "http://yann.lecun.com/exdb/mnist",
    ),
    "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
    "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
    "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
    "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
)
FASHION = _idx_files(
    "fashion-mnist",
    (
        "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com",
        "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion",
    ),
    "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
    "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
    "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
    "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
)
