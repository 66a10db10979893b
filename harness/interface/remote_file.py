"""A file that a dataset needs: where it belongs, where it can be had, and the digests of its content."""

from __future__ import annotations

import gzip
import hashlib
import zlib
from collections.abc import Callable
from dataclasses import dataclass


class DataCorrupt(ValueError):
    """A file whose content is not what it should be. The message names the file, both digests and the remedy."""


@dataclass(frozen=True)
class CanonicalDigest:
    """A digest that ignores what does not matter about a file, such as the order of its rows.

    Attributes:
        description: what is digested, for messages: "its sorted lines".
        compute: maps the unpacked content to a SHA-256 in hexadecimal; raises ValueError for content of another form.
        sha256: the value expected.
    """

    description: str
    compute: Callable[[bytes], str]
    sha256: str

    def accepts(self, content: bytes) -> bool:
        """Whether ``content`` has the expected digest."""
        try:
            return self.compute(content) == self.sha256
        except ValueError:
            return False


@dataclass(frozen=True)
class RemoteFile:
    """A file of a dataset; its digests are of the *unpacked* content, for gzip wrappers differ between sources.

    Attributes:
        path: where it belongs in the data folder, unpacked: ``mnist/train-images-idx3-ubyte``. The same name with
            ``.gz`` appended is accepted too.
        urls: where to download it, tried in order. One that ends with ``.gz`` where ``path`` does not is kept gzipped.
        sha256: the digest of the unpacked content, None where only ``canonical`` is known.
        canonical: accepted in place of ``sha256``.
    """

    path: str
    urls: tuple[str, ...]
    sha256: str | None = None
    canonical: CanonicalDigest | None = None

    def __post_init__(self) -> None:
        if self.sha256 is None and self.canonical is None:
            raise ValueError(f"{self.path}: a remote file needs a digest to verify it by")

    def stored_path(self, url_or_name: str) -> str:
        """Returns the path under which content from ``url_or_name`` is kept: ``path``, or ``path`` with ``.gz``."""
        gzipped = url_or_name.endswith(".gz") and not self.path.endswith(".gz")
        return self.path + ".gz" if gzipped else self.path

    def unpack(self, packed: bytes, name: str) -> bytes:
        """Returns the content of a file called ``name`` (a path or an address), verified.

        Raises:
            DataCorrupt: it is no gzip file though its name says so, or the content has another digest.
        """
        content = packed
        if self.stored_path(name) != self.path:
            try:
                content = gzip.decompress(packed)
            except (OSError, EOFError, zlib.error) as error:
                raise DataCorrupt(f"{name} is not a complete gzip file ({error}): {_REMEDY}") from error
        self.verify(content, name)
        return content

    def verify(self, content: bytes, name: str) -> None:
        """Checks unpacked content against the digests.

        Raises:
            DataCorrupt: neither digest is the expected one.
        """
        found = hashlib.sha256(content).hexdigest()
        if found == self.sha256 or (self.canonical is not None and self.canonical.accepts(content)):
            return
        expected = [] if self.sha256 is None else [self.sha256]
        if self.canonical is not None:
            expected.append(f"{self.canonical.sha256} over {self.canonical.description}")
        raise DataCorrupt(
            f"{name} is corrupt or another file: the SHA-256 of its unpacked content is {found}, "
            f"expected {' or '.join(expected)}: {_REMEDY}"
        )


_REMEDY = "delete it, so that it is downloaded again, or replace it with an intact copy"
