"""How fast a model is: calls timed after a warm-up, sweeps over batch sizes in bounded time, and steps of training.

Times are read through ``torch.utils.benchmark.timer``, which waits for the accelerator. Torch's ``Timer`` is not used:
it calls a function several times before it looks at the clock, which a sampler of thousands of passes cannot afford.
"""

import contextlib
import copy
import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Self

import numpy as np
import torch
from torch import Tensor
from torch.utils.benchmark import timer

from harness.interface.dataset import Dataset, Split
from harness.interface.model import ExactLikelihood, Model, Unsupported, VariationalBound
from harness.interface.spec import Budget, Precision
from harness.interface.training import Interrupted, Trainer
from harness.support.environment import device_name
from harness.support.randomness import derive_seed, isolated_rng

Clock = Callable[[], float]

BATCH_SIZES = (1, 4, 16, 64, 256)
_BLOCKS = 20
_MIN_BLOCKS = 3
_ACCELERATOR_BLOCK_SECONDS = 0.02
_ENDLESS = Budget(1_000_000, "steps")


@dataclass(frozen=True)
class Timing:
    """The time of one call: median and quartiles over ``blocks`` blocks of ``calls`` calls each, in seconds a call.

    ``warmed_up`` is False where the very first call took so long that it is the measurement.
    """

    median_seconds: float
    q25_seconds: float
    q75_seconds: float
    blocks: int
    calls: int = 1
    warmed_up: bool = True

    @classmethod
    def of(cls, block_seconds: Sequence[float], *, calls: int = 1, warmed_up: bool = True) -> Self:
        """Summarises the durations of blocks of ``calls`` calls each, in seconds."""
        low, median, high = (float(value) for value in np.quantile(block_seconds, [0.25, 0.5, 0.75]) / calls)
        return cls(median, low, high, len(block_seconds), calls, warmed_up)

    @property
    def standard_error_seconds(self) -> float | None:
        """The standard error of the median, 1.253 (IQR / 1.349) / sqrt(blocks); None below 3 blocks."""
        if self.blocks < _MIN_BLOCKS:
            return None
        return 1.2533 * (self.q75_seconds - self.q25_seconds) / 1.349 / math.sqrt(self.blocks)


@dataclass(frozen=True)
class Sweep:
    """Times by batch size, and the batch sizes that were left out, each with the reason."""

    timings: dict[int, Timing]
    dropped: dict[int, str]

    @property
    def best(self) -> int:
        """The batch size of the highest median throughput."""
        return max(self.timings, key=lambda size: size / self.timings[size].median_seconds)


@dataclass(frozen=True)
class StepTimes:
    """Blocks of consecutive training steps: how long each took, in seconds, and how many images it saw."""

    seconds: tuple[float, ...]
    images: tuple[float, ...]
    steps: int


def time_calls(call: Callable[[], object], *, max_seconds: float = 0.25, clock: Clock = timer) -> Timing:
    """Times a call for about ``max_seconds``, after one call of warm-up and one to see how long it takes.

    A first call longer than ``max_seconds`` is the measurement, alone and not warmed up. ``clock`` gives seconds.
    """
    start = clock()
    call()
    first = clock() - start
    if first > max_seconds:
        return Timing.of([first], warmed_up=False)
    start = clock()
    call()
    calls = max(1, int(max_seconds / _BLOCKS / max(clock() - start, 1e-9)))
    blocks: list[float] = []
    while sum(blocks) < max_seconds or len(blocks) < _MIN_BLOCKS:
        start = clock()
        for _ in range(calls):
            call()
        blocks.append(clock() - start)
    return Timing.of(blocks, calls=calls)


def sweep_batch_sizes(
    call: Callable[[int], object], *, batch_sizes: Sequence[int] = BATCH_SIZES, point_seconds: float = 0.25,
    total_seconds: float = 4.0, clock: Clock = timer,
) -> Sweep:  # fmt: skip
    """Times ``call(batch_size)`` for growing ``batch_sizes``, each for about ``point_seconds`` of the ``clock``.

    A batch size is left out, with all larger ones, where one call is expected to take more than what is left of
    ``total_seconds``. The expectation starts from time proportional to the batch size, and then follows the growth
    between the last two. The smallest batch size is always measured.
    """
    timings: dict[int, Timing] = {}
    dropped: dict[int, str] = {}
    began = clock()
    for size in sorted(batch_sizes):
        if dropped:
            dropped[size] = "a smaller one was left out"
        elif timings and (expected := _extrapolate(timings, size)) > total_seconds - (clock() - began):
            dropped[size] = f"a call would take about {expected:.2g} s"
        else:
            try:
                timings[size] = time_calls(partial(call, size), max_seconds=point_seconds, clock=clock)
            except torch.OutOfMemoryError:
                if not timings:
                    raise
                dropped[size] = "out of memory"
    return Sweep(timings, dropped)


def _extrapolate(timings: dict[int, Timing], size: int) -> float:
    *before, last = timings
    seconds, growth = timings[last].median_seconds, 1.0
    if before:
        ratio = max(seconds, 1e-9) / max(timings[before[-1]].median_seconds, 1e-9)
        growth = min(1.0, max(0.0, math.log(ratio) / math.log(last / before[-1])))
    return seconds * math.pow(size / last, growth)


def scorer(model: Model) -> tuple[str, Callable[[Tensor], Tensor]]:
    """Returns how a model scores (N, C, H, W) uint8 images, name first: ``log_prob`` or, where there is none, ``elbo``.

    A model with neither is ``Unsupported``.
    """
    if isinstance(model, ExactLikelihood):
        return "log_prob", model.log_prob
    if isinstance(model, VariationalBound):
        return "elbo", model.elbo
    raise Unsupported(f"{type(model).__name__} has neither a likelihood nor a bound to score images by")


def default_sampler(model: Model) -> str:
    """Returns the name of the sampler that ``model.sample`` uses."""
    return next(iter(model.samplers()))


def speed_protocol(device: torch.device, dtype: torch.dtype) -> dict[str, str]:
    """Returns what two speeds must share to be comparable: device, its name, threads, precision."""
    threads, precision = str(torch.get_num_threads()), str(dtype).removeprefix("torch.")
    return {"device": device.type, "device name": device_name(device), "threads": threads, "precision": precision}


class WithoutValidation(Trainer):
    """A trainer of steps alone, which counts its ``images``."""

    images = 0

    def batches(self, split: Split, *, batch_size: int, until: float = 1.0) -> Iterator[Split]:
        """Yields the same batches."""
        for batch in super().batches(split, batch_size=batch_size, until=until):
            self.images += len(batch)
            yield batch

    def validate(self, score: object, *, every: str = "1 epoch") -> None:
        """Leaves validation out: it is no part of a training step."""


def step_seconds(
    model: Model, data: Dataset, *, max_steps: int = 200, max_seconds: float = 1.5, seed: int = 0,
    precision: Precision = "float32", clock: Clock = timer,
) -> StepTimes:  # fmt: skip
    """Times the steps of a model's own ``fit`` to ``data``, on a copy of it in a ``precision``, after one of warm-up.

    It does not validate. What is timed is the first loop over batches, at the start of the schedules, for ``max_steps``
    steps after the first and ``max_seconds`` at most, but one at least. The global random numbers are left as they
    were; ``seed`` is that of batch order, random data and the model's own. On an accelerator a block of steps is timed
    at a time, so that waiting for it does not slow it down. ``clock`` gives seconds, once the accelerator is done. A
    ``fit`` of fewer than two steps, as that of a closed form, is ``Unsupported``.
    """
    copied = copy.deepcopy(model)
    times: list[tuple[float, int, float]] = []  # seconds, steps and epochs, one after each block
    wait = 0.0 if model.device.type == "cpu" else _ACCELERATOR_BLOCK_SECONDS
    unsynchronised = clock if wait == 0.0 or clock is not timer else time.perf_counter

    def should_stop() -> bool:
        if times and unsynchronised() - times[-1][0] < wait:
            return False
        times.append((clock(), trainer.step, trainer.epochs))
        return len(times) > 1 and (trainer.step > max_steps or times[-1][0] - times[0][0] >= max_seconds)

    trainer = WithoutValidation(copied, data, budget=_ENDLESS, seed=seed, precision=precision, should_stop=should_stop)
    with isolated_rng(derive_seed(seed, "step_seconds"), model.device), contextlib.suppress(Interrupted):
        copied.fit(data, trainer)
    if trainer.step == 0:
        raise Unsupported(f"{type(model).__name__} fits in closed form")
    if len(times) < 2:
        raise Unsupported(f"{type(model).__name__} fits in {trainer.step} step, too few to time")
    seconds, steps, epochs = (np.diff(column).tolist() for column in zip(*times, strict=True))
    return StepTimes(tuple(seconds), tuple(part * len(data.train) for part in epochs), sum(steps))
