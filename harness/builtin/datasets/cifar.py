"""CIFAR-10 from its official binary archive: read in place, nothing is unpickled and nothing extracted."""

import hashlib
import io
import tarfile
import zlib
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath

import numpy as np

from harness import CanonicalDigest, DataFolder, Dataset, ImageSpec, RemoteFile, digest_of
from harness.builtin.datasets.seeded import make_split

_ROW = 1 + 3 * 32 * 32  # a label, then the red, green and blue planes
_SUBFOLDERS = ("cifar10/cifar-10-batches-bin", "cifar10")


def read_members(archive: bytes, names: Collection[str], *, num_bytes: int) -> dict[str, bytes]:
    """Returns the content of the members called ``names`` of a gzipped tar archive, whatever their folder.

    Only regular files of exactly ``num_bytes`` are read, into memory alone: a hostile archive can do no harm.
    """
    members: dict[str, bytes] = {}
    try:
        with tarfile.open(fileobj=io.BytesIO(archive), mode="r:gz") as tar:
            for member in tar:
                name = PurePosixPath(member.name).name
                if name in names and (file := tar.extractfile(member) if member.isfile() else None):
                    if member.size != num_bytes:
                        raise ValueError(f"archive member {member.name} has {member.size} bytes, expected {num_bytes}")
                    members[name] = file.read()
    except (tarfile.TarError, OSError, EOFError, zlib.error) as error:
        raise ValueError(f"not a complete gzipped tar archive: {error}") from error
    if missing := [name for name in names if name not in members]:
        raise ValueError(f"the archive lacks {', '.join(missing)}")
    return members


@dataclass(frozen=True)
class CifarFiles:
    """The official binary version of CIFAR-10, batch files of ``rows`` images each.

    ``members`` are the SHA-256 of each, the test batch last; the last ``num_valid`` training images are for validation.
    """

    members: Mapping[str, str]
    archive_sha256: str
    urls: tuple[str, ...]
    rows: int = 10_000
    num_valid: int = 5_000

    def read(self, folder: DataFolder) -> dict[str, bytes]:
        """Returns each batch file: of the unpacked folder if complete, else of the archive as served or packed anew."""
        for subfolder in _SUBFOLDERS:
            files = {name: RemoteFile(f"{subfolder}/{name}", (), digest) for name, digest in self.members.items()}
            if all(folder.find(file.path) is not None for file in files.values()):
                return {name: folder.read(file) for name, file in files.items()}

        def members(archive: bytes) -> dict[str, bytes]:
            return read_members(archive, self.members, num_bytes=self.rows * _ROW)

        def compute(archive: bytes) -> str:
            return digest_of({name: hashlib.sha256(data).hexdigest() for name, data in members(archive).items()})

        canonical = CanonicalDigest("the digests of its batch files", compute, digest_of(dict(self.members)))
        path = "cifar10/cifar-10-binary.tar.gz"
        return members(folder.read(RemoteFile(path, self.urls, self.archive_sha256, canonical)))


# The archive's authors publish its MD5, c32a1d4ab5d03f1284b67883e8d87530; these SHA-256 are what TensorFlow Datasets
# and torchvision for Ruby publish. They were not recomputed here from the data.
CIFAR10 = CifarFiles(
    members={
        "data_batch_1.bin": "cee916563c9f80d84e3cc88e17fdc0941787f1244f00a67874d45b261883ada5",
        "data_batch_2.bin": "a591ca11fa1708a91ee40f54b3da4784ccd871ecf2137de63f51ada8b3fa57ed",
        "data_batch_3.bin": "bbe8596564c0f86427f876058170b84dac6670ddf06d79402899d93ceea26f67",
        "data_batch_4.bin": "014e562d6e23c72197cc727519169a60359f5eccd8945ad5a09d710285ff4e48",
        "data_batch_5.bin": "755304fc0b379caeae8c14f0dac912fbc7d6cd469eb67a1029a08a39453a9add",
        "test_batch.bin": "8e2eb146ae340b09e24670f29cabc6326dba54da8789dab6768acf480273f65b",
    },
    archive_sha256="c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd",
    urls=("https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz",),
)


def cifar_dataset(name: str, folder: DataFolder, files: CifarFiles) -> Dataset:
    """Returns the dataset in ``files``: the last ``num_valid`` training images are the validation split."""
    rows = {name: np.frombuffer(data, np.uint8).reshape(-1, _ROW) for name, data in files.read(folder).items()}
    *batches, last = (rows[member] for member in files.members)
    images = np.concatenate(batches)
    cut = len(images) - files.num_valid
    train, valid, test = (
        make_split(part[:, 1:].reshape(-1, 3, 32, 32), part[:, 0]) for part in (images[:cut], images[cut:], last)
    )
    order = f"in the files' order, the first {cut:,} images train and the last {files.num_valid:,} valid"
    protocol = f"the official test batch; of the training batches, {order}"
    return Dataset(name, ImageSpec(3, 32, 32, 256, num_classes=10), train, valid, test, protocol)


def cifar10(folder: DataFolder) -> Dataset:
    """Returns CIFAR-10 (Krizhevsky 2009): 32x32 RGB, 256 levels, ten classes, 45,000 / 5,000 / 10,000."""
    return cifar_dataset("cifar10", folder, CIFAR10)
