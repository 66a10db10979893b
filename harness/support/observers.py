"""Watching a computation from below: which stored tensors its operations read, how much memory they allocate; and from
beside it: whether other processes work meanwhile.

The first two are dispatch modes: they see each operation as it reaches the kernels, whatever views or modules led
there. They do not see what bypasses torch's dispatcher, such as a compiled kernel that is handed raw pointers.
"""

import os
import time
import weakref
from collections.abc import Iterable, Iterator
from typing import Any, Self

import psutil
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from harness.support.numbers import load_words


class OthersLoad:
    """Measures, while its block runs, which ``share`` of the machine's processors other processes use: 0 to 1."""

    share = 0.0

    def __enter__(self) -> Self:
        self._before = self._read()
        return self

    def __exit__(self, *_: object) -> None:
        total, busy, own = (after - before for after, before in zip(self._read(), self._before, strict=True))
        self.share = round(min(1.0, max(0.0, (busy - own) / max(total, 1e-9))), 4)

    @staticmethod
    def _read() -> tuple[float, float, float]:
        """Seconds of all processors, those that they worked, and those that they worked for this process."""
        times, own = psutil.cpu_times(), os.times()
        kinds = ("user", "nice", "system", "irq", "softirq", "steal")  # of guests is in user, and in nice
        busy = sum(getattr(times, kind, 0.0) for kind in kinds)
        total = busy + times.idle + getattr(times, "iowait", 0.0)
        return total, busy, own.user + own.system + own.children_user + own.children_system

    @property
    def words(self) -> str:
        """What is said of it; empty where the machine was quiet."""
        return load_words(self.share)


class TimeIsUp(Exception):
    """Raised inside a watched computation when its time is up; what was seen until then stands."""


class TouchedStorages(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Records the storage of every tensor that any operation takes as an argument."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._pointers: set[int] = set()

    def __contains__(self, tensor: Tensor) -> bool:
        return any(storage.data_ptr() in self._pointers for storage in _storages(tensor))

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Notes the arguments' storages, then runs the operation."""
        self._pointers.update(storage.data_ptr() for storage in _storages((args, kwargs)))
        return func(*args, **(kwargs or {}))


class CoarsestPrecision(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Finds the floating type of fewest digits, ``dtype``, that results of operations were rounded to."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.dtype = torch.float64

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Runs the operation, then looks at its results; small integers are exact in any type."""
        result = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(result):
            if isinstance(leaf, Tensor) and leaf.is_complex():
                leaf = torch.view_as_real(leaf.resolve_conj())
            if isinstance(leaf, Tensor) and leaf.is_floating_point() and _eps(leaf.dtype) > _eps(self.dtype):
                self.dtype = leaf.dtype if uses_digits(leaf, 7) else self.dtype
        return result


def _eps(dtype: torch.dtype) -> float:
    return torch.finfo(dtype).eps


def uses_digits(values: Tensor, bits: int) -> bool:
    """Whether any of some finite floating-point numbers has more than ``bits`` binary digits after the first."""
    rest = values.detach().double().contiguous().view(torch.int64) & (2 ** (52 - bits) - 1)
    return bool((rest[values.isfinite()] != 0).any())


class AllocationTally(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Adds up the storages that operations return, for as long as they live; ``peak_bytes`` is the most at one time.

    Storages that existed before (weights, inputs, caches) and a kernel's own scratch space are not counted. After
    ``max_seconds``, ``TimeIsUp`` is raised inside the computation.
    """

    def __init__(self, *, max_seconds: float) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.peak_bytes = 0
        self._bytes = 0
        self._live: set[int] = set()
        self._deadline = time.perf_counter() + max_seconds

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Runs the operation, then counts what is new in its result."""
        given = {storage._cdata for storage in _storages((args, kwargs))}
        result = func(*args, **(kwargs or {}))
        for storage in _storages(result):
            key = storage._cdata
            if key not in given and key not in self._live:
                self._live.add(key)
                self._bytes += storage.nbytes()
                weakref.finalize(storage, self._forget, key, storage.nbytes()).atexit = False
        self.peak_bytes = max(self.peak_bytes, self._bytes)
        if time.perf_counter() > self._deadline:
            raise TimeIsUp
        return result

    def _forget(self, key: int, num_bytes: int) -> None:
        self._live.discard(key)
        self._bytes -= num_bytes


def unique_tensors(tensors: Iterable[Tensor]) -> list[Tensor]:
    """Returns the tensors without repetitions of the same memory, as tied weights are."""
    seen: dict[tuple[int, torch.Size], Tensor] = {}
    for index, tensor in enumerate(tensors):
        seen.setdefault((tensor.data_ptr() or -index - 1, tensor.shape), tensor)  # empty ones all have the pointer 0
    return list(seen.values())


def _storages(tree: Any) -> Iterator[torch.UntypedStorage]:
    for leaf in tree_leaves(tree):
        if isinstance(leaf, Tensor) and leaf.layout is torch.strided:
            storage = leaf.untyped_storage()
            if storage.nbytes():
                yield storage
