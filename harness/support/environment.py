"""The machine and the software that a figure came from; and the fingerprint within which speeds compare."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import subprocess
import sys
from functools import lru_cache
from pathlib import Path

import torch

from harness.support.digest import digest_of
from harness.support.redaction import redact


@lru_cache(maxsize=1)
def cpu_name() -> str:
    """Returns the processor's model name."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith(("model name", "Model"))]
    return names[0] if names else platform.machine()


def device_name(device: torch.device) -> str:
    """Returns the name of the hardware behind a device."""
    if device.type == "cpu":
        return cpu_name()
    module = torch.get_device_module(device)
    return str(module.get_device_name(device)) if hasattr(module, "get_device_name") else str(device)


def choose_device(name: str) -> torch.device:
    """Returns the device for ``auto`` (the accelerator where there is one) or for an explicit name.

    Raises:
        ValueError: an accelerator that this machine or this torch build does not have.
    """
    available = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    if name == "auto":
        return available or torch.device("cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ValueError(f"device {name!r} is not a device name such as 'cpu', 'cuda' or 'cuda:1'") from error
    if device.type not in ("cpu", "meta") and (available is None or available.type != device.type):
        there = "no accelerator" if available is None else f"{available.type!r}"
        raise ValueError(f"device {name!r} is not available: torch {torch.__version__} finds {there} on this machine")
    if device.type == "meta" or (device.index or 0) >= max(1, torch.accelerator.device_count()):
        raise ValueError(f"device {name!r} is not available: there are {torch.accelerator.device_count()} accelerators")
    return device


def git_state(folder: Path | None = None) -> tuple[str | None, bool | None]:
    """Returns the commit of the checkout that the harness runs from, and whether it has uncommitted changes."""
    git = ("git", "-C", str(folder or Path(__file__).resolve().parent))
    commit, changes = _output(*git, "rev-parse", "HEAD"), _output(*git, "status", "--porcelain", "--untracked-files=no")
    return (None, None) if commit is None or changes is None else (commit, bool(changes))


def _output(*command: str) -> str | None:
    """Returns what a command prints, None if it fails or is not there."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=10)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


def describe_environment(device: torch.device, threads: int) -> dict[str, str | int | bool | None]:
    """Returns what a record keeps of the machine and the software."""
    commit, dirty = git_state()
    drivers = None
    if device.type == "cuda":
        drivers = _output("nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader")
    return {
        "harness": importlib.metadata.version("genharness"),
        "python": platform.python_version(),
        "torch": str(torch.__version__),
        "cuda": torch.version.cuda,
        "driver": drivers.splitlines()[0].strip() if drivers else None,
        "platform": platform.platform(terse=True),
        "cpu": cpu_name(),
        "cores": os.cpu_count(),
        "device": device.type,
        "device_name": device_name(device),
        "threads": threads,
        "matmul_precision": torch.get_float32_matmul_precision(),
        "git_commit": commit,
        "git_dirty": dirty,
        "command": " ".join([Path(sys.argv[0]).name, *map(redact, sys.argv[1:])]) if sys.argv else "",
    }


def fingerprint(device: torch.device, threads: int) -> str:
    """Returns the hardware fingerprint within which speeds compare, as a digest: device, cores, threads, torch."""
    version = str(torch.__version__).split("+")[0]
    return digest_of([device.type, device_name(device), cpu_name(), os.cpu_count(), threads, version])[:12]


def hardware(device: torch.device, threads: int) -> str:
    """Returns the same in words, for a table's caption."""
    where = cpu_name() if device.type == "cpu" else f"{device_name(device)} ({cpu_name()})"
    return f"{where}, {os.cpu_count()} cores, {threads} thread{'s' if threads > 1 else ''}, torch {torch.__version__}"
