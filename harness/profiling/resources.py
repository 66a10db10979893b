"""What a computation takes: memory, operations of training steps, the machine's peak; and a trace of it."""

import copy
import gzip
import math
import operator
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

import torch
from torch.profiler import ProfilerActivity, profile
from torch.utils.benchmark import timer

from harness.interface.dataset import Dataset, Split
from harness.interface.model import Model
from harness.interface.spec import Budget
from harness.profiling.timing import WithoutValidation, default_sampler, scorer, step_seconds
from harness.support.files import write_atomically
from harness.support.flops import FlopCount, count_flops
from harness.support.observers import AllocationTally, TimeIsUp, unique_tensors
from harness.support.randomness import derive_seed, generator, isolated_rng

_CPU_SIZES = (256, 512, 1024)
_ACCELERATOR_SIZES = (1024, 2048, 4096, 8192)
_REPEATS = 5
What = Literal["fit", "scoring", "sampling"]
_RANDOM_IMAGES = 256
_TOP_OPERATORS = 12


@dataclass(frozen=True)
class WorkingMemory:
    """Bytes allocated beyond the model's own, and whether the computation was watched to its end."""

    num_bytes: int
    finished: bool


def step_flops(model: Model, data: Dataset, *, steps: int = 10, seed: int = 0) -> tuple[FlopCount, int]:
    """Counts the operations of steps of a model's own ``fit`` to ``data``, forwards and backwards, on copies of it.

    A training of one step more is counted, less one of a single step, so that neither its set-up nor its end is in it;
    it does not validate. ``seed`` is that of batch order and the model's own. Returns the operations, and how many
    images the steps saw. The global random numbers are left as they were.
    """

    def counted(number: int) -> tuple[FlopCount, int]:
        copied = copy.deepcopy(model)
        trainer = WithoutValidation(copied, data, budget=Budget(number, "steps"), seed=seed)

        def fit() -> None:
            with torch.enable_grad():
                copied.fit(data, trainer)

        with isolated_rng(derive_seed(seed, "step_flops"), model.device):
            return count_flops(fit), trainer.images

    (before, seen_before), (flops, seen) = counted(1), counted(1 + steps)
    return FlopCount(flops - before, flops.not_counted), seen - seen_before


def gemm_peak(device: torch.device) -> float:
    """Measures the most float32 operations a second of square products, 2 n^3 each: the fastest of several sizes."""
    best = 0.0
    for size in _CPU_SIZES if device.type == "cpu" else _ACCELERATOR_SIZES:
        left, right = (torch.ones(size, size, device=device) for _ in range(2))
        out = torch.mm(left, right)
        for _ in range(_REPEATS):
            start = timer()
            torch.mm(left, right, out=out)
            best = max(best, 2.0 * size**3 / max(timer() - start, 1e-9))
    return best


def has_statistics(device: torch.device) -> bool:
    """Tells whether a device's allocator keeps its own peak."""
    return device.type != "cpu" and hasattr(torch.get_device_module(device), "max_memory_allocated")


def state_bytes(model: Model) -> int:
    """Returns the bytes of a model's ``state_dict``; tied tensors count once."""
    return sum(tensor.numel() * tensor.element_size() for tensor in unique_tensors(model.state_dict().values()))


def working_memory(call: Callable[[], object], device: torch.device, *, max_seconds: float) -> WorkingMemory:
    """Returns the most that ``call`` had allocated at one time on ``device``.

    On an accelerator the allocator's own peak is read. On a CPU the storages that operations return are added up while
    they live, which leaves out scratch space inside one kernel; the resident set is not used, it never shrinks. The
    computation is ended after ``max_seconds``: a sampler of many steps repeats itself.
    """
    with AllocationTally(max_seconds=math.inf):
        torch.empty(1)  # the first watched operation of a process makes torch import its compiler, for seconds
    tally, finished, before = AllocationTally(max_seconds=max_seconds), True, 0
    if has_statistics(device):
        torch.accelerator.synchronize(device)
        torch.accelerator.reset_peak_memory_stats(device)
        before = torch.accelerator.memory_allocated(device)
    try:
        with tally:
            call()
    except TimeIsUp:
        finished = False
    if not has_statistics(device):
        return WorkingMemory(tally.peak_bytes, finished)
    torch.accelerator.synchronize(device)
    return WorkingMemory(torch.accelerator.max_memory_allocated(device) - before, finished)


def record_trace(
    model: Model, what: What, file: Path, *, sampler: str | None = None, batch_size: int = 16, steps: int = 3
) -> list[tuple[str, str, str, str]]:
    """Watches a model at work after a warm-up, and writes the trace to a ``.json`` or a ``.json.gz``.

    Images to fit, on a copy, and to score are random. Returns the operators that took the most time themselves: name,
    calls, own time and its share of all. A ValueError says what the model cannot do.
    """
    call, on_device = _call(model, what, sampler, batch_size, steps), model.device.type == "cuda"
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if on_device else [])]
    with isolated_rng(0, model.device), torch.set_grad_enabled(what == "fit"):
        call()
        with profile(activities=activities) as watched:
            call()
    with tempfile.NamedTemporaryFile(suffix=".json") as raw:
        watched.export_chrome_trace(raw.name)
        content = Path(raw.name).read_bytes()
    write_atomically(file, gzip.compress(content, mtime=0) if file.suffix == ".gz" else content)
    own = operator.attrgetter("self_device_time_total" if on_device else "self_cpu_time_total")  # microseconds
    events = sorted(watched.key_averages(), key=own, reverse=True)
    total = sum(map(own, events)) or 1.0
    return [
        (event.key, f"{event.count:,}", f"{own(event) / 1e3:.3f} ms", f"{100 * own(event) / total:.1f} %")
        for event in events[:_TOP_OPERATORS]
    ]


def _call(model: Model, what: What, sampler: str | None, batch_size: int, steps: int) -> Callable[[], object]:
    if what == "fit":
        return partial(step_seconds, model, random_data(model), max_steps=steps, max_seconds=math.inf)
    if what == "scoring":
        return partial(scorer(model)[1], random_images(model, batch_size).to(model.device))
    samplers, name = model.samplers(), sampler or default_sampler(model)
    if name not in samplers:
        raise ValueError(f"{type(model).__name__} has no sampler {name!r}, it has: {', '.join(samplers)}")
    return partial(samplers[name], batch_size)


def random_data(model: Model) -> Dataset:
    """Returns 256 random images in each split, with labels where a model takes them."""
    classes = model.spec.num_classes
    labels = None if classes is None else torch.arange(_RANDOM_IMAGES) % classes
    split = Split(random_images(model, _RANDOM_IMAGES), labels)
    return Dataset("random images", model.spec, split, split, split)


def random_images(model: Model, count: int, seed: int = 0) -> torch.Tensor:
    """Returns (count, C, H, W) uint8 on the processor."""
    random = generator(seed, "images", count)
    return torch.randint(model.spec.levels, (count, *model.spec.shape), generator=random, dtype=torch.uint8)
