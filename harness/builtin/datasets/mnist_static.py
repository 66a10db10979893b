"""The static binarization of MNIST, on which the likelihood literature reports."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness import CanonicalDigest, Dataset, ImageSpec, RemoteFile, Split
from harness.builtin.datasets.amat import parse_amat, sorted_lines_sha256
from harness.builtin.datasets.splits import make_split

if TYPE_CHECKING:
    from harness import DataFolder

_BASE = "http://www.cs.toronto.edu/~larocheh/public/datasets/binarized_mnist"


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
