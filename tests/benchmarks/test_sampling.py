"""Exact sampling: NADE's incremental sampler against the plain formulation, a full pass of the network an entry."""

from __future__ import annotations

import time

import torch

from harness.spec import ImageSpec
from harness_nade.nade import NADE


def test_incremental_sampling_against_a_full_pass_an_entry(benchmark, capsys):
    torch.set_num_threads(1)
    torch.manual_seed(0)
    model = NADE(ImageSpec(1, 14, 14, 2), hidden=500).eval()
    noise = model.draw_noise(16)
    samplers = model.samplers()

    started = time.perf_counter()
    plain = samplers["raster"](16, noise=noise)
    plain_seconds = time.perf_counter() - started
    fast = benchmark(samplers["incremental"], 16, noise=noise)

    assert (fast != plain).double().mean() < 1e-3  # but for decisions within rounding
    ratio = plain_seconds / benchmark.stats.stats.median
    benchmark.extra_info["ratio to a full pass an entry"] = ratio
    with capsys.disabled():
        print(f"\nNADE, 14x14, 500 hidden units, batch 16: incremental is {ratio:.0f}x a full pass an entry")
