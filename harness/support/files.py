"""Writing files so that a reader, or a crash, finds the old file or the new one."""

import contextlib
import fcntl
import glob
import logging
import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout
from safetensors import SafetensorError, safe_open


def write_atomically(path: Path, content: bytes) -> None:
    """Writes ``content`` to ``path``, making its folder: other processes see the whole file or none.

    Raises OSError where that cannot be done, and leaves nothing behind then. What a process that was killed while it
    wrote the same file has left is removed.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    remove_leftovers(path.parent, path.name)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".part")
    temporary = Path(name)
    try:
        with os.fdopen(handle, "wb") as file:
            with contextlib.suppress(OSError):  # on a file system without locks nothing is removed
                fcntl.flock(file, fcntl.LOCK_EX)
            if os.fstat(file.fileno()).st_nlink == 0:  # taken for a leftover before it was locked
                return write_atomically(path, content)
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
            temporary.chmod(0o644)  # mkstemp gives 0600; data folders and artifacts are shared
            temporary.replace(path)  # while it is locked: else it might be taken for a leftover
    except BaseException as error:
        temporary.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.strerror:
            error.filename = error.filename or str(path)  # a full disk does not say what it did not take
        raise


def remove_leftovers(folder: Path, name: str | None = None, *, deep: bool = False) -> None:
    """Removes what processes that were killed while they wrote a file, or any, have left; the living hold locks."""
    pattern = f".{'*' if name is None else glob.escape(name)}.*.part"
    for file in folder.rglob(pattern) if deep else folder.glob(pattern):
        with contextlib.suppress(OSError), file.open("rb") as left:
            fcntl.flock(left, fcntl.LOCK_EX | fcntl.LOCK_NB)
            file.unlink()


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
            for logger in (log, log.getChild("progress")):
                logger.info("%s: another process makes it; waiting for it", what)
            lock.acquire(timeout=seconds)
    except (Timeout, OSError, NotImplementedError) as error:
        log.warning("%s: %s; going on without it", file.name, error)
    try:
        yield
    finally:
        lock.release()


@contextmanager
def alone_in(folder: Path, *, seconds: float = 60.0) -> Iterator[None]:
    """Makes a folder, and lets one process at a time work in it: who waits says so, and gives up after a while.

    The lock is on the folder itself, and ends with its process; where the file system has none, nobody waits.
    """
    folder.mkdir(parents=True, exist_ok=True)
    descriptor, log = os.open(folder, os.O_RDONLY), logging.getLogger("harness")
    try:
        for left in range(most := round(10 * seconds), -1, -1):
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError as error:
                if left == 0:
                    raise ValueError(f"{folder}: another process has written there for {seconds:g} s") from error
                if left == most:
                    log.warning("%s: another process writes there; waiting for it", folder)
                time.sleep(0.1)
            except OSError:
                break
        yield
    finally:
        os.close(descriptor)


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
