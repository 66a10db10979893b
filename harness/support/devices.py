"""Devices as tokens: a run takes one when it starts and gives it back when it ends, so that no two share by chance."""

from __future__ import annotations

import os
from collections import Counter

import torch


class DeviceTokens:
    """As many tokens as runs may work at a time, spread evenly over the machine's devices.

    ``device`` is ``auto``, a kind of device such as ``cuda``, or one device such as ``cpu`` or ``cuda:1``; ``jobs`` how
    many runs may work at a time, each of so many ``threads``; 0 chooses: one for each accelerator, or for each
    ``threads`` cores of the CPU.

    >>> DeviceTokens("cpu", jobs=2, threads=1).total
    2
    """

    def __init__(self, device: str, *, jobs: int, threads: int) -> None:
        names = _devices(device)
        chosen = max(1, (os.cpu_count() or 1) // threads) if names == ["cpu"] else len(names)
        self.total = jobs or chosen
        self._free = Counter(names[index % len(names)] for index in range(self.total))
        self._order = names

    def take(self) -> str | None:
        """Returns the device with most tokens left, the first of several; None if all are taken."""
        name = max(self._order, key=lambda name: self._free[name])
        if self._free[name] == 0:
            return None
        self._free[name] -= 1
        return name

    def give(self, name: str) -> None:
        """Takes a token back."""
        self._free[name] += 1


def _devices(device: str) -> list[str]:
    accelerator = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    kind = accelerator.type if device == "auto" and accelerator is not None else device
    if kind == "auto":
        return ["cpu"]
    if accelerator is not None and kind == accelerator.type:
        return [f"{kind}:{index}" for index in range(max(1, torch.accelerator.device_count()))]
    return [kind]
