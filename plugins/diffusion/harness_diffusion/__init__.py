"""Diffusion models: bounds by denoising, and flow matching."""

from __future__ import annotations

from harness import ModelEntry, hookimpl


@hookimpl
def register_models() -> list[ModelEntry]:
    """Returns the models of this package; torch is not imported before one of them is used."""
    return []
