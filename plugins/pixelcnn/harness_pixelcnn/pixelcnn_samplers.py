"""The samplers of PixelCNN: several ways to compute the same images."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from harness import Noise, Sampler, SamplingTrace
from harness_layers.fixed_point import fixed_point_sample
from harness_layers.rowwise import draw_by_rows, iterate_by_rows
from harness_pixelcnn.pixelcnn_rows import PixelCNNRows

if TYPE_CHECKING:
    from harness_pixelcnn.pixelcnn import PixelCNN


def pixelcnn_samplers(model: PixelCNN, raster: Sampler) -> Mapping[str, Sampler]:
    """Returns ``cached``, the default, ``fixed-point``, ``fixed-point-rows`` and ``raster``."""
    spec = model.spec

    @torch.no_grad()
    def cached(num_samples: int, *, noise: Noise | None = None, known: Tensor | None = None,
               mask: Tensor | None = None, trace: SamplingTrace | None = None) -> Tensor:  # fmt: skip
        noise = model.draw_noise(num_samples) if noise is None else noise
        return draw_by_rows(PixelCNNRows(model, num_samples), spec, noise, known=known, mask=mask, trace=trace)

    def fixed_point(num_samples: int, *, noise: Noise | None = None, known: Tensor | None = None,
                    mask: Tensor | None = None, trace: SamplingTrace | None = None) -> Tensor:  # fmt: skip
        noise = model.draw_noise(num_samples) if noise is None else noise

        def logits(images: Tensor, places: Tensor) -> Tensor:
            return model.conditional_logits(images)

        return fixed_point_sample(logits, spec, noise, known=known, mask=mask, trace=trace)

    @torch.no_grad()
    def fixed_point_rows(num_samples: int, *, noise: Noise | None = None, known: Tensor | None = None,
                         mask: Tensor | None = None, trace: SamplingTrace | None = None) -> Tensor:  # fmt: skip
        noise = model.draw_noise(num_samples) if noise is None else noise
        return iterate_by_rows(PixelCNNRows(model, num_samples), spec, noise, known=known, mask=mask, trace=trace)

    return {"cached": cached, "fixed-point": fixed_point, "fixed-point-rows": fixed_point_rows, "raster": raster}
