"""Writing files so that a reader, or a crash, finds the old file or the new one."""

from __future__ import annotations

import logging
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout
from safetensors import SafetensorError, safe_open


def write_atomically(path: Path, content: bytes) -> None:
    """Writes ``content`` to ``path``, making its folder: other processes see the whole file or none.

    Raises OSError where that cannot be done, and leaves nothing behind then.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".part")
    temporary = Path(name)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.chmod(0o644)  # mkstemp gives 0600; data folders and artifacts are shared
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


@contextmanager
def one_at_a_time(file: Path, what: str, *, seconds: float = 3600.0) -> Iterator[None]:
    """Locks ``file`` while its body makes ``what`` several processes want: the others wait, and take the first's.

    A lock ends with its process. Who waits says so in the log, and goes on without it after so many ``seconds``, or
    where the file system has no locks: at worst both make it.
    """
    log, lock = logging.getLogger("harness"), FileLock(file)
    file.parent.mkdir(parents=True, exist_ok=True)
    try:
        try:
            lock.acquire(timeout=0)
        except Timeout:
            log.info("%s: another process makes it; waiting for it", what)
            lock.acquire(timeout=seconds)
    except (Timeout, OSError, NotImplementedError) as error:
        log.warning("%s: %s; going on without it", file.name, error)
    try:
        yield
    finally:
        lock.release()


def safetensors_problem(path: Path) -> str | None:
    """Returns what is wrong with a safetensors file, None if it is as long as its header says; no more is read."""
    try:
        with safe_open(path, framework="numpy"):
            return None
    except FileNotFoundError:
        return "it is not there"
    except OSError as error:
        return f"it cannot be read ({error.strerror or error})"
    except SafetensorError:
        return f"it is cut off or damaged: its header does not fit its {path.stat().st_size} bytes"
