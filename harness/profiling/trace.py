"""A trace of what a model does, operator by operator, in the format of Chrome's trace viewer."""

from __future__ import annotations

import gzip
import math
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Literal

import torch
from torch.profiler import ProfilerActivity, profile

from harness.interface.dataset import Dataset, Split
from harness.interface.model import Model
from harness.profiling.timing import default_sampler, scorer, step_seconds
from harness.support.files import write_atomically
from harness.support.randomness import generator, isolated_rng

What = Literal["fit", "scoring", "sampling"]
_IMAGES = 256
_TOP = 12


def record_trace(
    model: Model, what: What, file: Path, *, sampler: str | None = None, batch_size: int = 16, steps: int = 3
) -> list[tuple[str, str, str, str]]:
    """Watches a model at work after a warm-up, and writes the trace to a ``.json`` or a ``.json.gz``.

    ``fit`` trains a copy for ``steps`` on random images; ``scoring`` is of ``batch_size`` random images. Returns the
    operators that took the most time themselves: name, calls, own time and its share of all.

    Raises:
        ValueError: a sampler that the model does not have.
        Unsupported: a model that cannot score, or whose fit has no steps.
    """
    call = _call(model, what, sampler, batch_size, steps)
    on_device = model.device.type == "cuda"
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if on_device else [])]
    with isolated_rng(0, model.device), torch.set_grad_enabled(what == "fit"):
        call()
        with profile(activities=activities) as watched:
            call()
    with tempfile.TemporaryDirectory() as folder:
        raw = Path(folder) / "trace.json"
        watched.export_chrome_trace(str(raw))
        content = raw.read_bytes()
    write_atomically(file, gzip.compress(content, mtime=0) if file.suffix == ".gz" else content)
    own = {
        event.key: (event.self_device_time_total if on_device else event.self_cpu_time_total, event.count)
        for event in watched.key_averages()
    }
    total = sum(microseconds for microseconds, _ in own.values()) or 1.0
    return [
        (name, f"{count:,}", f"{microseconds / 1e3:.3f} ms", f"{100 * microseconds / total:.1f} %")
        for name, (microseconds, count) in sorted(own.items(), key=lambda item: -item[1][0])[:_TOP]
    ]


def _call(model: Model, what: What, sampler: str | None, batch_size: int, steps: int) -> Callable[[], object]:
    if what == "fit":
        return partial(step_seconds, model, random_data(model), max_steps=steps, max_seconds=math.inf)
    if what == "scoring":
        return partial(scorer(model)[1], _random_images(model, batch_size).to(model.device))
    samplers, name = model.samplers(), sampler or default_sampler(model)
    if name not in samplers:
        raise ValueError(f"{type(model).__name__} has no sampler {name!r}, it has: {', '.join(samplers)}")
    return partial(samplers[name], batch_size)


def random_data(model: Model) -> Dataset:
    """Returns 256 random images in each split, with labels where a model takes them."""
    classes = model.spec.num_classes
    labels = None if classes is None else torch.arange(_IMAGES) % classes
    split = Split(_random_images(model, _IMAGES), labels)
    return Dataset("random images", model.spec, split, split, split)


def _random_images(model: Model, count: int) -> torch.Tensor:
    random = generator(0, "images", count)
    return torch.randint(model.spec.levels, (count, *model.spec.shape), generator=random, dtype=torch.uint8)
