"""The samplers of PixelCNN that work row by row: several ways to compute the same images, see ``harness.Sampler``."""

from __future__ import annotations

import torch
from torch import Tensor

from harness import Noise, SamplingTrace
from harness_layers.rowwise import draw_by_rows, iterate_by_rows
from harness_pixelcnn.pixelcnn import PixelCNN
from harness_pixelcnn.pixelcnn_rows import PixelCNNRows


@torch.no_grad()
def cached(model: PixelCNN, num_samples: int, /, *, noise: Noise | None = None, known: Tensor | None = None,
           mask: Tensor | None = None, trace: SamplingTrace | None = None) -> Tensor:  # fmt: skip
    """Draws entry by entry; what the rows above say is computed once for each row."""
    noise = model.draw_noise(num_samples) if noise is None else noise
    return draw_by_rows(PixelCNNRows(model, num_samples), model.spec, noise, known=known, mask=mask, trace=trace)


@torch.no_grad()
def fixed_point_rows(model: PixelCNN, num_samples: int, /, *, noise: Noise | None = None,
                     known: Tensor | None = None, mask: Tensor | None = None,
                     trace: SamplingTrace | None = None) -> Tensor:  # fmt: skip
    """Draws a row at a time, by fixed-point iteration within it."""
    noise = model.draw_noise(num_samples) if noise is None else noise
    return iterate_by_rows(PixelCNNRows(model, num_samples), model.spec, noise, known=known, mask=mask, trace=trace)
