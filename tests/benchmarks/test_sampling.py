"""Exact sampling against the plain formulation's, a full forward pass an entry, with the same weights and noise."""

from __future__ import annotations

import pytest
import torch
from plain import gated as plain_gated
from plain import made as plain_made
from plain import nade as plain_nade
from plain.raster import naive_raster
from side_by_side import side_by_side
from subjects import MNIST, agree, gated, trained_gated, trained_made

from harness import SamplingTrace, with_samplers
from harness.profiling.certificate import certify
from harness_nade.nade import NADE

PASSES = {16: 3, 64: 1}  # so many of the naive raster's 784 equal passes are timed
ROUNDS = 5


def against_naive(benchmark, model, plain, sampler, batch, *, passes):
    """Times a sampler against the naive raster, extrapolated; certifies its images; returns what to say."""
    agree(model, plain)
    torch.manual_seed(1)
    noise = model.draw_noise(batch)
    threshold = noise.gumbel[:, 0] - noise.gumbel[:, 1]
    draw, drawn = with_samplers(model).samplers()[sampler], []
    ratio = side_by_side(
        benchmark,
        lambda: drawn.append(draw(batch, noise=noise)),
        lambda: naive_raster(plain, threshold, passes=passes),
        rounds=ROUNDS,
        times=model.spec.num_dimensions / passes,
    )
    certificates = [certify(model, images, noise) for images in drawn]
    for certificate in certificates:
        certificate.require(sampler)
    benchmark.extra_info["timed passes of the naive raster"] = passes
    return f"{ratio} over the naive raster, extrapolated from {passes} of 784 passes; {certificates[-1]}"


def with_compiled(model):
    from harness_pixelcnn.compiled.compilation import CompilationError, load_library
    from harness_pixelcnn.compiled.sampler import SOURCE

    if "compiled" not in with_samplers(model).samplers():
        pytest.skip("the model has no sampler called compiled")
    try:
        load_library(SOURCE)
    except CompilationError as error:
        pytest.skip(f"the kernel cannot be had: {error}")
    return model


@pytest.mark.parametrize("batch", PASSES)
def test_cached_sampling_of_gated_pixelcnn(batch, benchmark, say):
    model = gated()
    line = against_naive(benchmark, model, plain_gated.plain_of(model), "cached", batch, passes=PASSES[batch])
    say(f"Gated PixelCNN, 28x28, 64 channels x 8 layers, batch {batch}: cached is {line}")


@pytest.mark.parametrize("batch", PASSES)
def test_compiled_sampling_of_gated_pixelcnn(batch, benchmark, say):
    model = with_compiled(gated())
    line = against_naive(benchmark, model, plain_gated.plain_of(model), "compiled", batch, passes=PASSES[batch])
    say(f"Gated PixelCNN, 28x28, 64 channels x 8 layers, batch {batch}: compiled is {line}")


@pytest.mark.parametrize("batch", PASSES)
def test_compiled_sampling_against_our_own_forward_pass(batch, benchmark, say):
    model = with_compiled(gated())
    noise, drawn = model.draw_noise(batch), []
    images = (torch.rand(batch, *MNIST.shape) < 0.3).to(torch.uint8)

    @torch.inference_mode()
    def forward():
        model.log_prob(images)

    ratio = side_by_side(
        benchmark,
        lambda: drawn.append(with_samplers(model).samplers()["compiled"](batch, noise=noise)),
        forward,
        rounds=ROUNDS,
    )
    for images in drawn:
        certify(model, images, noise).require("compiled")
    benchmark.extra_info["whole samples / forward pass"] = 1 / ratio.median
    say(
        f"Gated PixelCNN, batch {batch}: compiled samples take {1 / ratio.median:.2f} of our own forward pass ({ratio})"
    )


@pytest.mark.parametrize("sampler", ["fixed-point", "fixed-point-rows"])
def test_sequential_depth_of_exact_samplers(sampler, benchmark, say):
    what, model = trained_gated()
    noise, trace = model.draw_noise(16), SamplingTrace()
    images = benchmark.pedantic(
        with_samplers(model).samplers()[sampler], (16,), {"noise": noise, "trace": trace}, rounds=1
    )
    certify(model, images, noise).require(sampler)
    ratio = trace.sequential_depth / (model.spec.height * model.spec.width)
    benchmark.extra_info["sequential depth / pixels"] = ratio
    depth = trace.sequential_depth
    say(f"Gated PixelCNN ({what}), batch 16: {sampler} takes {depth} steps one after another, {ratio:.2f} a pixel")


@pytest.mark.parametrize("batch", [16, 64])
@pytest.mark.parametrize("hidden", [(500,), (500, 500)], ids=["500", "500-500"])
def test_incremental_sampling_of_made(hidden, batch, benchmark, say):
    what, model = trained_made(hidden)
    line = against_naive(benchmark, model, plain_made.plain_of(model), "incremental", batch, passes=100)
    say(f"MADE, 28x28, {hidden} hidden units, {what}, batch {batch}: incremental is {line}")


@pytest.mark.parametrize("batch", [16, 64])
def test_incremental_sampling_of_nade(batch, benchmark, say):
    torch.manual_seed(0)
    model = NADE(MNIST, hidden=500).eval()
    line = against_naive(benchmark, model, plain_nade.plain_of(model), "incremental", batch, passes=5)
    say(f"NADE, 28x28, 500 hidden units, batch {batch}: incremental is {line}")
