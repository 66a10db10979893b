"""Parallel multiscale autoregressive models: O(log N) network evaluations for each image."""

from __future__ import annotations

from harness import ModelEntry, SamplerEntry, hookimpl


@hookimpl
def register_models() -> list[ModelEntry]:
    """Returns the models of this package; torch is not imported before one of them is used."""
    return [
        ModelEntry(
            "multiscale",
            "harness_multiscale.multiscale:Multiscale",
            paper="arXiv 1703.03664 (Reed et al. 2017)",
            summary="a small PixelCNN, then doublings whose groups of pixels are drawn all at once",
        ),
    ]


@hookimpl
def register_samplers() -> list[SamplerEntry]:
    """Returns the sampler of this package."""
    return [
        SamplerEntry(
            "parallel",
            "harness_multiscale.parallel:parallel",
            model="multiscale",
            summary="every network once, where its pixels are; the base image row by row",
        ),
    ]
