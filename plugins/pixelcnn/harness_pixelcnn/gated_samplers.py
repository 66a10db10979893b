"""The samplers of Gated PixelCNN: several ways to compute the same images."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from harness import Noise, Sampler, SamplingTrace
from harness_layers.chunks import in_chunks
from harness_layers.compiled import draw_compiled
from harness_layers.fixed_point import fixed_point_sample
from harness_layers.gated_rows import GatedRows
from harness_layers.pixels import image_logits
from harness_layers.rowwise import draw_by_rows, iterate_by_rows

if TYPE_CHECKING:
    from harness_pixelcnn.gated_pixelcnn import GatedPixelCNN


def gated_samplers(model: GatedPixelCNN, raster: Sampler) -> Mapping[str, Sampler]:
    """Returns ``cached``, the default, ``compiled``, ``fixed-point``, ``fixed-point-rows`` and ``raster``.

    A mixture over classes draws every image from the class that its noise names as its ordering.
    """
    network, spec = model.network, model.spec

    @torch.no_grad()
    def cached(num_samples: int, *, noise: Noise | None = None, known: Tensor | None = None,
               mask: Tensor | None = None, trace: SamplingTrace | None = None) -> Tensor:  # fmt: skip
        noise = model.draw_noise(num_samples) if noise is None else noise
        program = GatedRows(network, spec, num_samples, _labels_drawn(model, noise))
        return draw_by_rows(program, spec, noise, known=known, mask=mask, trace=trace)

    @torch.no_grad()
    def compiled(num_samples: int, *, noise: Noise | None = None, known: Tensor | None = None,
                 mask: Tensor | None = None, trace: SamplingTrace | None = None) -> Tensor:  # fmt: skip
        noise = model.draw_noise(num_samples) if noise is None else noise
        labels = _labels_drawn(model, noise)
        drawn = draw_compiled(network, spec, noise, labels, known=known, mask=mask, trace=trace)
        return cached(num_samples, noise=noise, known=known, mask=mask, trace=trace) if drawn is None else drawn

    def fixed_point(num_samples: int, *, noise: Noise | None = None, known: Tensor | None = None,
                    mask: Tensor | None = None, trace: SamplingTrace | None = None) -> Tensor:  # fmt: skip
        noise = model.draw_noise(num_samples) if noise is None else noise
        labels = _labels_drawn(model, noise)

        def logits(images: Tensor, places: Tensor) -> Tensor:
            return image_logits(in_chunks(model.outputs, images, None if labels is None else labels[places]), spec)

        return fixed_point_sample(logits, spec, noise, known=known, mask=mask, trace=trace)

    @torch.no_grad()
    def fixed_point_rows(num_samples: int, *, noise: Noise | None = None, known: Tensor | None = None,
                         mask: Tensor | None = None, trace: SamplingTrace | None = None) -> Tensor:  # fmt: skip
        noise = model.draw_noise(num_samples) if noise is None else noise
        program = GatedRows(network, spec, num_samples, _labels_drawn(model, noise))
        return iterate_by_rows(program, spec, noise, known=known, mask=mask, trace=trace)

    return {
        "cached": cached,
        "compiled": compiled,
        "fixed-point": fixed_point,
        "fixed-point-rows": fixed_point_rows,
        "raster": raster,
    }


def _labels_drawn(model: GatedPixelCNN, noise: Noise) -> Tensor | None:
    """Returns the class (N,) of every image: the one that was asked for, or the one that the noise names."""
    from harness_pixelcnn.gated_pixelcnn import ConditionalGatedPixelCNN

    if not isinstance(model, ConditionalGatedPixelCNN):
        return None
    given = model._given
    if given is not None and len(given) != len(noise.ordering):
        raise ValueError(f"a model conditioned on {len(given)} labels draws as many images, not {len(noise.ordering)}")
    return noise.ordering if given is None else given
