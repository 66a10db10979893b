"""The static binarization of MNIST, on which the likelihood literature reports."""

from __future__ import annotations

import hashlib

import numpy as np

from harness import CanonicalDigest, DataFolder, Dataset, ImageSpec, RemoteFile, Split
from harness.builtin.datasets.splits import Images, make_split

_BASE = "http://www.cs.toronto.edu/~larocheh/public/datasets/binarized_mnist"


def parse_amat(content: bytes, *, num_values: int, name: str) -> Images:
    """Returns (rows, num_values) uint8 of zeros and ones, from one image a line, values separated by single blanks.

    Every row has the same length in bytes, so that the file is one array: reading the text number by number would
    take a hundred times as long.

    Raises:
        ValueError: a line is not ``num_values`` values of 0 or 1 separated by single blanks; names the first such line.
    """
    pitch = 2 * num_values
    if not content.endswith(b"\n"):
        content += b"\n"
    whole = len(content) // pitch
    table = np.frombuffer(content, dtype=np.uint8, count=whole * pitch).reshape(whole, pitch)
    # Against a row of zeros, bytes may differ in one place only: the lowest bit of a value.
    zeros = np.frombuffer(b"0 " * (num_values - 1) + b"0\n", dtype=np.uint8)
    allowed = np.frombuffer(b"\x01\x00" * num_values, dtype=np.uint8)
    difference = table ^ zeros
    wrong = (difference & ~allowed).any(1)
    if wrong.any() or len(content) != whole * pitch:
        line = int(np.argmax(wrong)) + 1 if wrong.any() else whole + 1
        raise ValueError(
            f"{name}: line {line} is not {num_values} values of 0 or 1 separated by single blanks: replace the file"
        )
    return difference[:, ::2]


def sorted_lines_sha256(content: bytes) -> str:
    """Returns the SHA-256 of the lines in byte order, what ``LC_ALL=C sort FILE | sha256sum`` prints.

    It accepts a copy of the file whose rows stand in another order, and nothing else.
    """
    lines = content.split(b"\n")
    if lines and not lines[-1]:
        lines.pop()
    return hashlib.sha256(b"".join(line + b"\n" for line in sorted(lines))).hexdigest()


def _file(split: str, sha256: str, sorted_sha256: str) -> RemoteFile:
    name = f"binarized_mnist_{split}.amat"
    canonical = CanonicalDigest("its sorted lines", sorted_lines_sha256, sorted_sha256)
    return RemoteFile(f"binarized-mnist/{name}", (f"{_BASE}/{name}",), sha256, canonical)


FILES = {
    "train": _file(
        "train",
        "ad693b29f94c14277b095f5238ddefbbdaaae0939789dd2f4f0205278cee3e4d",
        "5033eff83359107a8e1c98bfaa5441e8610d3e052e810a0e6cd1a20358f7ae9d",
    ),
    "valid": _file(
        "valid",
        "1de3d397c40fe8eeb33dafd4099a1f665ec01e96d9be234aaeeac8a34930e2e2",
        "9e5ae493085208adaa900dcd608b23e53998471e77476f039bc6471333999304",
    ),
    "test": _file(
        "test",
        "e6687bfea3f820c174f33b7865140b2a2dd2930ef786f35d45795fc193b5ab2c",
        "6197237be37b9147af16975e9620349cc8e13ddf11e5b1ef70be0f17cf88f2d9",
    ),
}


def mnist_static(folder: DataFolder) -> Dataset:
    """Returns static MNIST (Larochelle & Murray 2011): 28x28, binary, no labels, 50,000 / 10,000 / 10,000.

    Each pixel was drawn once, as one with probability intensity / 255 (Salakhutdinov & Murray 2008).

    A file is accepted by the SHA-256 of its bytes or by that of its lines in byte order: copies whose rows stand in
    another order are in use, and no average depends on the order. Rows are kept in the file's order. The test file
    has its rows ordered by class, so its first n rows are no random subset.
    """
    parts: dict[str, Split] = {}
    for split, file in FILES.items():
        rows = parse_amat(folder.read(file), num_values=784, name=file.path)
        parts[split] = make_split(rows.reshape(-1, 1, 28, 28))
    return Dataset(
        "mnist-static",
        ImageSpec(1, 28, 28, 2),
        **parts,
        split_protocol="the official files of the static binarization: 50,000 train, 10,000 valid, 10,000 test",
    )
