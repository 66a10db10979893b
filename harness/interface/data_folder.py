"""The data folder: where datasets look for their files, and where downloads go."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path

import platformdirs

from harness.interface.remote_file import DataCorrupt, RemoteFile
from harness.support.download import DownloadFailed, Progress, download
from harness.support.files import write_atomically

VARIABLE = "HARNESS_DATA"


class DataUnavailable(FileNotFoundError, ValueError):
    """A file that is not in the data folder and cannot be downloaded. The message says where to put it."""


def cache_folder() -> Path:
    """Returns the folder that is used where none is named, and for downloads where the named one is read-only."""
    return platformdirs.user_cache_path("genharness") / "data"


@dataclass(frozen=True)
class DataFolder:
    """A folder of dataset files, filled from the official addresses on demand.

    Attributes:
        path: the folder; it need not exist.
        offline: never download.
        progress: called during downloads as ``progress(bytes_done, total)``; ``total`` may be None.
        fallback: searched after ``path``, and written to where ``path`` is read-only.
        timeout_seconds: how long a download may stay silent before the next mirror is tried.
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
    ) -> DataFolder:
        """Returns the folder named by ``path`` (``--data``), else by ``HARNESS_DATA``, else the user's cache folder.

        Raises:
            ValueError: the name is of something else than a folder.
        """
        named = path or os.environ.get(VARIABLE) or cache_folder()
        return cls(Path(named), offline=offline, progress=progress)

    def find(self, *names: str) -> Path | None:
        """Returns the first of the files ``names`` (relative to the folder) that is there, itself or with ``.gz``."""
        for name in names:
            for root in (self.path, self.fallback):
                for candidate in (root / name, root / f"{name}.gz"):
                    if candidate.is_file():
                        return candidate
        return None

    def read(self, remote: RemoteFile) -> bytes:
        """Returns the unpacked content of ``remote``, verified; downloads it if need be.

        Raises:
            DataUnavailable: it is not there, and cannot be downloaded.
            DataCorrupt: it is there, and its content is wrong: it is neither used nor overwritten.
        """
        path = self.find(remote.path)
        if path is None:
            return self._download(remote)
        try:
            packed = path.read_bytes()
        except OSError as error:
            raise DataUnavailable(f"{path} cannot be read ({error.strerror}): make it readable") from error
        return remote.unpack(packed, str(path))

    def _download(self, remote: RemoteFile) -> bytes:
        advice = f"put {remote.path} (or {remote.path}.gz) into {self.path}"
        if remote.urls:
            advice += f", from {' or '.join(remote.urls)}"
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
                failures.append(str(error).rpartition(": ")[0])
            else:
                self._store(remote.stored_path(url), packed)
                return content
        raise DataUnavailable(
            f"{remote.path} is not in {self.path} and cannot be downloaded ({'; '.join(failures)}): {advice}"
        )

    def _store(self, name: str, packed: bytes) -> None:
        try:
            write_atomically(self.path / name, packed)
        except OSError:
            # The data folder may be shared and read-only: the user's cache then takes the file.
            try:
                write_atomically(self.fallback / name, packed)
            except OSError as error:
                raise DataUnavailable(
                    f"{name} was downloaded, but neither {self.path} nor {self.fallback} can be written to "
                    f"({error.strerror}): name a writable folder with --data or {VARIABLE}"
                ) from error
