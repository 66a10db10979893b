"""Compiles a C++ source with the machine's own compiler, once for each machine and source, and loads it.

The compiler is ``$CXX``, else the first of c++, g++ and clang++. Libraries are kept in ``$HARNESS_CACHE``, else in the
user's cache folder, under the digest of all that they depend on (source, compiler, flags, processor) and of their own
content: what is not whole is compiled again, and processes that compile at the same time do not see each other's files.
``HARNESS_COMPILED=0`` switches compiled code off.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import platform
import shlex
import shutil
import subprocess
import tempfile
from pathlib import Path

from platformdirs import user_cache_path

SWITCH = "HARNESS_COMPILED"
CACHE = "HARNESS_CACHE"

_FLAGS = ("-std=c++17", "-O3", "-shared", "-fPIC", "-pthread")
_TUNED = (("-march=native",), ("-mcpu=native",), ())  # the first that the compiler takes
_TIMEOUT_SECONDS = 300


class CompilationError(Exception):
    """There is no compiled code to be had; the message is the reason, in one line."""


def load_library(source: Path) -> ctypes.CDLL:
    """Returns the library made from a C++ file, compiled unless it is there already.

    Raises:
        CompilationError: compiled code is switched off, there is no compiler, or it does not take the source.
    """
    if os.environ.get(SWITCH) == "0":
        raise CompilationError(f"{SWITCH}=0")
    compiler = _compiler()
    text = source.read_bytes()
    parts = [hashlib.sha256(text).hexdigest(), *compiler, _version(compiler), *_FLAGS, str(_TUNED), _processor()]
    stem = f"{source.stem}-{hashlib.sha256(chr(0).join(parts).encode()).hexdigest()[:24]}"
    folder = Path(os.environ.get(CACHE) or user_cache_path("genharness")) / "compiled"
    for kept in sorted(folder.glob(f"{stem}-*.so")) if folder.is_dir() else []:
        if library := _whole(kept, stem):
            return library
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder, prefix="building-") as scratch:
            return _build(compiler, source, Path(scratch), folder, stem)
    except OSError:  # nowhere to keep it: compiled for this process alone
        with tempfile.TemporaryDirectory() as scratch:
            return _build(compiler, source, Path(scratch), None, stem)


def _compiler() -> list[str]:
    named = shlex.split(os.environ.get("CXX", ""))
    for command in [named] if named else [["c++"], ["g++"], ["clang++"]]:
        if path := shutil.which(command[0]):
            return [path, *command[1:]]
    if named:
        raise CompilationError(f"no C++ compiler: CXX names {named[0]}, which is not there")
    raise CompilationError("no C++ compiler: none of c++, g++ and clang++ is there, and CXX names none")


def _version(compiler: list[str]) -> str:
    return _run([*compiler, "--version"]).stdout.strip()


def _run(command: list[str]) -> subprocess.CompletedProcess[str]:
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, errors="replace", stdin=subprocess.DEVNULL,
            timeout=_TIMEOUT_SECONDS, check=False,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired) as error:
        raise CompilationError(f"{command[0]} does not run: {' '.join(str(error).split())}") from error
    if done.returncode:
        said = (done.stderr or done.stdout).strip().splitlines()
        reason = next((line for line in said if "error" in line), said[0] if said else "no message")
        raise CompilationError(f"{command[0]} failed with exit code {done.returncode}: {reason.strip()[:200]}")
    return done


def _processor() -> str:
    """Returns what code made for this very processor depends on."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return f"{platform.machine()} {platform.processor()}"
    keys = ("vendor_id", "cpu family", "model", "model name", "flags", "Features", "CPU implementer", "CPU part")
    return "\n".join(sorted({line for line in lines if line.split(":")[0].strip() in keys}))


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()[:24]


def _whole(path: Path, stem: str) -> ctypes.CDLL | None:
    """Returns the library in a file if its content is what its name says, else None."""
    try:  # a file cut short would end the process where it is loaded
        return ctypes.CDLL(str(path)) if path.name == f"{stem}-{_digest(path)}.so" else None
    except OSError:
        return None


def _build(compiler: list[str], source: Path, scratch: Path, folder: Path | None, stem: str) -> ctypes.CDLL:
    made = scratch / "made.so"
    for tuned in _TUNED:
        try:
            _run([*compiler, *_FLAGS, *tuned, str(source), "-o", str(made)])
            break
        except CompilationError:
            if not tuned:
                raise
    if not made.is_file():
        raise CompilationError(f"{compiler[0]} made no library")
    try:
        library = ctypes.CDLL(str(made))
    except OSError as error:
        raise CompilationError(f"the compiled library does not load: {error}") from error
    if folder is not None:
        made.replace(folder / f"{stem}-{_digest(made)}.so")  # atomic: whole, or not there
    return library
