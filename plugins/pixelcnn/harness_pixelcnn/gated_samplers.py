"""The samplers of Gated PixelCNN."""

from __future__ import annotations

from harness import Sampler


def gated_samplers(model: object, raster: Sampler) -> dict[str, Sampler]:
    """Returns the samplers of a model, the default first."""
    return {"raster": raster}
