"""The samplers of PixelCNN."""

from __future__ import annotations

from harness import Sampler


def pixelcnn_samplers(model: object, raster: Sampler) -> dict[str, Sampler]:
    """Returns the samplers of a model, the default first."""
    return {"raster": raster}
