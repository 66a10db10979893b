"""The samplers of Gated PixelCNN: several ways to compute the same images, see ``harness.Sampler``.

A mixture over classes draws every image from the class that its noise names as its ordering.
"""

from __future__ import annotations

import torch
from torch import Tensor

from harness import Noise, SamplingTrace
from harness_layers.chunks import in_chunks
from harness_layers.fixed_point import fixed_point_sample
from harness_layers.gated_rows import GatedRows
from harness_layers.pixels import image_logits
from harness_layers.rowwise import draw_by_rows, iterate_by_rows
from harness_pixelcnn.gated_pixelcnn import ConditionalGatedPixelCNN, GatedPixelCNN


@torch.no_grad()
def cached(model: GatedPixelCNN, num_samples: int, /, *, noise: Noise | None = None, known: Tensor | None = None,
           mask: Tensor | None = None, trace: SamplingTrace | None = None) -> Tensor:  # fmt: skip
    """Draws entry by entry; what the rows above say is computed once for each row."""
    noise = model.draw_noise(num_samples) if noise is None else noise
    program = GatedRows(model.network, model.spec, num_samples, labels_drawn(model, noise))
    return draw_by_rows(program, model.spec, noise, known=known, mask=mask, trace=trace)


def fixed_point(model: GatedPixelCNN, num_samples: int, /, *, noise: Noise | None = None, known: Tensor | None = None,
                mask: Tensor | None = None, trace: SamplingTrace | None = None) -> Tensor:  # fmt: skip
    """Draws all entries at once, by fixed-point iteration."""
    noise = model.draw_noise(num_samples) if noise is None else noise
    labels = labels_drawn(model, noise)

    def logits(images: Tensor, places: Tensor) -> Tensor:
        return image_logits(in_chunks(model.outputs, images, None if labels is None else labels[places]), model.spec)

    return fixed_point_sample(logits, model.spec, noise, known=known, mask=mask, trace=trace)


@torch.no_grad()
def fixed_point_rows(model: GatedPixelCNN, num_samples: int, /, *, noise: Noise | None = None,
                     known: Tensor | None = None, mask: Tensor | None = None,
                     trace: SamplingTrace | None = None) -> Tensor:  # fmt: skip
    """Draws a row at a time, by fixed-point iteration within it."""
    noise = model.draw_noise(num_samples) if noise is None else noise
    program = GatedRows(model.network, model.spec, num_samples, labels_drawn(model, noise))
    return iterate_by_rows(program, model.spec, noise, known=known, mask=mask, trace=trace)


def labels_drawn(model: GatedPixelCNN, noise: Noise) -> Tensor | None:
    """Returns the class (N,) of every image: the one that was asked for, or the one that the noise names.

    Raises:
        ValueError: a model that is conditioned on another number of labels.
    """
    if not isinstance(model, ConditionalGatedPixelCNN):
        return None
    given = model.given
    if given is not None and len(given) != len(noise.ordering):
        raise ValueError(f"a model conditioned on {len(given)} labels draws as many images, not {len(noise.ordering)}")
    return noise.ordering if given is None else given
