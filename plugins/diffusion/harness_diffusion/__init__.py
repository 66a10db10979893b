"""Diffusion models: bounds by denoising, and flow matching."""

from __future__ import annotations

from harness import ModelEntry, hookimpl


@hookimpl
def register_models() -> list[ModelEntry]:
    """Returns the models of this package; torch is not imported before one of them is used."""
    return [
        ModelEntry(
            "deep-diffusion",
            "harness_diffusion.deep_diffusion:DeepDiffusion",
            paper="Sohl-Dickstein et al. 2015, arXiv 1503.03585",
            summary="a learned reversal of Gaussian or binomial noise, multi-scale convolutions, trained on its bound",
        ),
    ]
