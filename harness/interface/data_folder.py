"""The data folder, where datasets look for their files and downloads go; and the files, with their digests."""

import gzip
import hashlib
import http.client
import os
import urllib.error
import urllib.parse
import urllib.request
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import platformdirs

from harness.support.files import write_atomically

VARIABLE = "HARNESS_DATA"
Progress = Callable[[int, int | None], None]
_SCHEMES = ("https", "http", "file")
_MAX_BYTES = 1 << 33
_REMEDY = "delete it, so that it is downloaded again, or replace it with an intact copy"


class DataUnavailable(FileNotFoundError, ValueError):
    """A file that is not in the data folder and cannot be downloaded. The message says where to put it."""


class DataCorrupt(ValueError):
    """A file whose content is not what it should be. The message names the file, both digests and the remedy."""


@dataclass(frozen=True)
class CanonicalDigest:
    """A digest that ignores what does not matter about a file, such as the order of its rows.

    ``description`` says what is digested, for messages: "its sorted lines". ``compute`` maps the unpacked content to a
    SHA-256 in hexadecimal, ``sha256`` if all is well; it raises ValueError for content of another form.
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

    ``path`` is where it belongs in the data folder, unpacked, such as ``mnist/train-images-idx3-ubyte``; the same name
    with ``.gz`` is accepted too. ``urls`` are tried in order; what comes from one that ends with ``.gz`` where ``path``
    does not is kept gzipped. ``canonical`` is accepted in place of ``sha256``; one of the two may be None.
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
        """Returns the content of a file called ``name`` (a path or an address), verified, or raises ``DataCorrupt``."""
        try:
            content = packed if self.stored_path(name) == self.path else gzip.decompress(packed)
        except (OSError, EOFError, zlib.error) as error:
            raise DataCorrupt(f"{name} is not a complete gzip file ({error}): {_REMEDY}") from error
        self.verify(content, name)
        return content

    def verify(self, content: bytes, name: str) -> None:
        """Raises ``DataCorrupt`` for unpacked content that has neither of the expected digests."""
        found, canonical = hashlib.sha256(content).hexdigest(), self.canonical
        if found == self.sha256 or (canonical is not None and canonical.accepts(content)):
            return
        expected = [self.sha256, None if canonical is None else f"{canonical.sha256} over {canonical.description}"]
        wrong = f"the SHA-256 of its unpacked content is {found}, expected {' or '.join(filter(None, expected))}"
        raise DataCorrupt(f"{name} is corrupt or another file: {wrong}: {_REMEDY}")


class DownloadFailed(OSError):
    """A download that did not succeed; the message says why in one line."""


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follows redirects within the web alone: a server may not point at this machine's files, nor from TLS to none."""

    def redirect_request(
        self, req: urllib.request.Request, fp: Any, code: int, msg: str, headers: http.client.HTTPMessage, newurl: str
    ) -> urllib.request.Request | None:
        scheme = urllib.parse.urlsplit(newurl).scheme
        if scheme not in (("https",) if req.type == "https" else ("https", "http")):
            raise urllib.error.URLError(f"the server redirects from {req.type}: to {scheme}:, which is not followed")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def download(url: str, *, timeout_seconds: float, progress: Progress | None = None) -> bytes:
    """Returns the content at an address, held in memory until it is complete: one that is killed leaves nothing behind.

    ``DownloadFailed`` says why not. ``progress`` is told the bytes done and, if known, of how many.
    """
    content = bytearray()
    try:
        request = urllib.request.Request(url, headers={"User-Agent": "genharness"})
        if request.type not in _SCHEMES:
            raise DownloadFailed(f"{request.type}: addresses are not downloaded from, only {', '.join(_SCHEMES)}")
        with urllib.request.build_opener(_Redirects).open(request, timeout=timeout_seconds) as response:
            announced = response.headers.get("Content-Length")
            total = int(announced) if announced is not None and announced.isdecimal() else None
            while chunk := response.read(1 << 18):
                content += chunk
                if len(content) > _MAX_BYTES:
                    raise DownloadFailed(f"more than {_MAX_BYTES} bytes")
                if progress is not None:
                    progress(len(content), total)
    except (OSError, http.client.HTTPException, ValueError) as error:
        # One line whatever the library says; URLError hides the cause in `reason`.
        cause = getattr(error, "reason", None) or error
        reason = " ".join(str(getattr(cause, "strerror", None) or cause).split()) or type(error).__name__
        raise DownloadFailed(reason) from error
    if total is not None and len(content) != total:
        raise DownloadFailed(f"the connection broke off after {len(content)} of {total} bytes")
    return bytes(content)


def cache_folder() -> Path:
    """Returns the folder that is used where none is named, and for downloads where the named one is read-only."""
    return platformdirs.user_cache_path("genharness") / "data"


@dataclass(frozen=True)
class DataFolder:
    """A folder of dataset files, filled from the official addresses on demand.

    It need not exist; ``offline`` never downloads. ``fallback`` is searched after ``path``, and written to where it is
    read-only. ``progress(bytes_done, total)`` is called during downloads, ``total`` may be None; one that is silent for
    ``timeout_seconds`` gives way to the next mirror.
    """

    path: Path
    offline: bool = field(default=False, kw_only=True)
    progress: Progress | None = field(default=None, kw_only=True, compare=False)
    fallback: Path = field(default_factory=cache_folder, kw_only=True)
    timeout_seconds: float = field(default=30.0, kw_only=True)

    def __post_init__(self) -> None:
        object.__setattr__(self, "path", Path(self.path).expanduser())
        object.__setattr__(self, "fallback", Path(self.fallback).expanduser())
        if self.path.exists() and not self.path.is_dir():
            raise ValueError(f"data folder {self.path} is not a folder: name a folder with --data or {VARIABLE}")

    @classmethod
    def resolve(
        cls, path: str | Path | None = None, *, offline: bool = False, progress: Progress | None = None
    ) -> Self:
        """Returns the folder named by ``path`` (``--data``), else by ``HARNESS_DATA``, else the user's cache folder."""
        return cls(Path(path or os.environ.get(VARIABLE) or cache_folder()), offline=offline, progress=progress)

    def find(self, *names: str) -> Path | None:
        """Returns the first of the files ``names`` (relative to the folder) that is there, itself or with ``.gz``."""
        roots = (self.path, self.fallback)
        candidates = (root / f"{name}{suffix}" for name in names for root in roots for suffix in ("", ".gz"))
        return next(filter(Path.is_file, candidates), None)

    def locate(self, path: str) -> Path:
        """Returns where a user's path is: relative to the working folder or, if it is not there, to this one."""
        named = Path(path).expanduser()
        return found if not named.exists() and (found := self.path / named).exists() else named

    def read(self, remote: RemoteFile) -> bytes:
        """Returns the unpacked content of ``remote``, verified; downloads it if need be.

        ``DataUnavailable``: it is neither there nor to be downloaded; ``DataCorrupt``: its content is wrong, and it is
        neither used nor overwritten.
        """
        path = self.find(remote.path)
        if path is None:
            return self._download(remote)
        try:
            return remote.unpack(path.read_bytes(), str(path))
        except OSError as error:
            raise DataUnavailable(f"{path} cannot be read ({error.strerror}): make it readable") from error

    def _download(self, remote: RemoteFile) -> bytes:
        sources = f", from {' or '.join(remote.urls)}" if remote.urls else ""
        advice = f"put {remote.path} (or {remote.path}.gz) into {self.path}{sources}"
        if self.offline or not remote.urls:
            reason = "working offline" if self.offline else "it has no address to be downloaded from"
            raise DataUnavailable(f"{remote.path} is not in {self.path}; {reason}: {advice}")
        failures = []
        for url in remote.urls:
            try:
                packed = download(url, timeout_seconds=self.timeout_seconds, progress=self.progress)
                content = remote.unpack(packed, url)
            except DownloadFailed as error:
                failures.append(f"{url}: {error}")
            except DataCorrupt as error:
                failures.append(str(error).removesuffix(f": {_REMEDY}"))
            else:
                self._store(remote.stored_path(url), packed)
                return content
        why = "; ".join(failures)
        raise DataUnavailable(f"{remote.path} is not in {self.path} and cannot be downloaded ({why}): {advice}")

    def _store(self, name: str, packed: bytes) -> None:
        for folder in (self.path, self.fallback):  # the data folder may be shared and read-only
            try:
                write_atomically(folder / name, packed)
                return
            except OSError as error:
                reason = error
        where = f"neither {self.path} nor {self.fallback} can be written to ({reason.strerror})"
        advice = f"name a writable folder with --data or {VARIABLE}"
        raise DataUnavailable(f"{name} was downloaded, but {where}: {advice}") from reason
