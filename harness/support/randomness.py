"""Seeding, and keeping a side computation from disturbing the stream of random numbers of the main one."""

import hashlib
import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor


def derive_seed(seed: int, *purpose: str | int) -> int:
    """Returns a seed in [0, 2**63) for one purpose: different purposes under one ``seed`` get independent streams."""
    text = repr((seed, *purpose))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little") >> 1


def generator(seed: int, *purpose: str | int) -> torch.Generator:
    """Returns a CPU generator for one purpose."""
    return torch.Generator().manual_seed(derive_seed(seed, *purpose))


def seed_everything(seed: int) -> None:
    """Seeds all global generators that code of a plugin may draw from: torch's, numpy's and Python's."""
    torch.manual_seed(seed)
    np.random.seed(seed % 2**32)
    random.seed(seed)


def rng_states(device: torch.device) -> dict[str, Tensor]:
    """Returns the states of torch's global generators: the CPU's, and ``device``'s where it is another."""
    states = {"cpu": torch.get_rng_state()}
    if device.type != "cpu":
        states["device"] = torch.get_device_module(device).get_rng_state(device)
    return states


def set_rng_states(states: dict[str, Tensor], device: torch.device) -> None:
    """Puts back what ``rng_states`` gave."""
    torch.set_rng_state(states["cpu"])
    if device.type != "cpu" and "device" in states:
        torch.get_device_module(device).set_rng_state(states["device"], device)


@contextmanager
def isolated_rng(seed: int, device: torch.device) -> Iterator[None]:
    """Runs its body under ``torch.manual_seed(seed)`` and leaves the global generators as they were."""
    states = rng_states(device)
    try:
        torch.manual_seed(seed)
        yield
    finally:
        set_rng_states(states, device)
