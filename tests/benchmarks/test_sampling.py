"""Exact sampling: the incremental samplers against the plain formulation, a full pass of the network an entry."""

from __future__ import annotations

import time

import pytest
import torch

from harness.spec import ImageSpec

nade = pytest.importorskip("harness_nade.nade")
made = pytest.importorskip("harness_nade.made")

SPEC = ImageSpec(1, 14, 14, 2)


@pytest.mark.parametrize("model_class", [nade.NADE, made.MADE], ids=["nade", "made"])
def test_incremental_sampling_against_a_full_pass_an_entry(benchmark, model_class):
    torch.set_num_threads(1)
    torch.manual_seed(0)
    options = {"hidden": 500} if model_class is nade.NADE else {"hidden": (500,)}
    model = model_class(SPEC, **options).eval()
    noise = model.draw_noise(16)
    samplers = model.samplers()
    default = next(iter(samplers))

    started = time.perf_counter()
    plain = samplers["raster"](16, noise=noise)
    plain_seconds = time.perf_counter() - started
    fast = benchmark(samplers[default], 16, noise=noise)

    assert (fast != plain).double().mean() < 1e-3  # but for decisions within rounding
    benchmark.extra_info["sampler"] = default
    benchmark.extra_info["ratio to a full pass an entry"] = plain_seconds / benchmark.stats.stats.median
