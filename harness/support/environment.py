"""The machine: its devices and how runs share them, and what a record keeps of machine and software."""

import importlib.metadata
import os
import platform
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path

import torch

from harness.support.names import digest_of, redact


class DeviceTokens:
    """As many tokens as runs may work at a time, spread evenly over the devices, so that no two share one by chance.

    ``device`` is ``auto``, a kind such as ``cuda``, or one such as ``cuda:1``; 0 ``jobs`` are one for each accelerator,
    or for each ``threads`` cores of the CPU.
    """

    def __init__(self, device: str, *, jobs: int, threads: int) -> None:
        names = _devices(device)
        self.total = jobs or (max(1, (os.cpu_count() or 1) // threads) if names == ["cpu"] else len(names))
        self._free = Counter(names[index % len(names)] for index in range(self.total))

    def take(self) -> str | None:
        """Returns the device with most tokens left, the first of several; None if all are taken."""
        [(name, left)] = self._free.most_common(1)
        if left == 0:
            return None
        self._free[name] -= 1
        return name

    def give(self, name: str) -> None:
        """Takes a token back."""
        self._free[name] += 1


def _devices(device: str) -> list[str]:
    accelerator = _accelerator()
    if accelerator is not None and device in ("auto", accelerator.type):
        return [f"{accelerator.type}:{index}" for index in range(max(1, torch.accelerator.device_count()))]
    return ["cpu" if device == "auto" else device]


def _accelerator() -> torch.device | None:
    return torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None


def choose_device(name: str) -> torch.device:
    """Returns the device for ``auto``, the accelerator where there is one, or for an explicit name, if it is there."""
    available = _accelerator()
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


@lru_cache(maxsize=1)
def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = (line.partition(":")[2].strip() for line in lines if line.startswith(("model name", "Model")))
    return next(names, platform.machine())


def device_name(device: torch.device) -> str:
    """Returns the name of the hardware behind a device."""
    if device.type == "cpu":
        return _cpu_name()
    module = torch.get_device_module(device)
    return str(module.get_device_name(device)) if hasattr(module, "get_device_name") else str(device)


def _output(*command: str) -> str | None:
    """Returns what a command prints, None if it fails or is not there."""
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None


def describe_environment(device: torch.device, threads: int) -> dict[str, str | int | bool | None]:
    """Returns what a record keeps of the machine and the software, the checkout that the harness runs from included."""
    git = ("git", "-C", str(Path(__file__).resolve().parent))
    commit, changes = _output(*git, "rev-parse", "HEAD"), _output(*git, "status", "--porcelain", "--untracked-files=no")
    in_git = commit is not None and changes is not None
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
        "cpu": _cpu_name(),
        "cores": os.cpu_count(),
        "device": device.type,
        "device_name": device_name(device),
        "threads": threads,
        "matmul_precision": torch.get_float32_matmul_precision(),
        "git_commit": commit if in_git else None,
        "git_dirty": bool(changes) if in_git else None,
        "command": " ".join([Path(sys.argv[0]).name, *map(redact, sys.argv[1:])]) if sys.argv else "",
    }


def fingerprint(device: torch.device, threads: int) -> str:
    """Returns the hardware fingerprint within which speeds compare, as a digest: device, cores, threads, torch."""
    version = str(torch.__version__).split("+")[0]
    return digest_of([device.type, device_name(device), _cpu_name(), os.cpu_count(), threads, version])[:12]


def hardware(device: torch.device, threads: int) -> str:
    """Returns the same in words, for a table's caption."""
    where = _cpu_name() if device.type == "cpu" else f"{device_name(device)} ({_cpu_name()})"
    return f"{where}, {os.cpu_count()} cores, {threads} thread{'s' if threads > 1 else ''}, torch {torch.__version__}"


@contextmanager
def on_threads(number: int) -> Iterator[None]:
    """Within it, torch computes on so many threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)
