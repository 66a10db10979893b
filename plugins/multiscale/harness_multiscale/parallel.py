"""Sampling group by group: every network is evaluated once, where its pixels are, and the base image row by row."""

from __future__ import annotations

import torch
from torch import Tensor

from harness import Noise, SamplingTrace
from harness_layers.gated_rows import GatedRows
from harness_layers.pixels import image_logits, scale
from harness_layers.rowwise import check_known, draw_by_rows
from harness_multiscale.multiscale import Multiscale


@torch.no_grad()
def parallel(model: Multiscale, num_samples: int, /, *, noise: Noise | None = None, known: Tensor | None = None,
             mask: Tensor | None = None, trace: SamplingTrace | None = None) -> Tensor:  # fmt: skip
    """Draws the base image's steps, then three times C steps for each doubling; see ``harness.Sampler``."""
    spec, pyramid = model.spec, model.pyramid
    check_known(known, mask)
    noise = model.draw_noise(num_samples) if noise is None else noise
    gumbel = pyramid.pad(noise.gumbel)
    shape, device = (num_samples, *spec.shape), gumbel.device
    full_mask = None if mask is None else mask.to(device).expand(shape)
    base_images = draw_by_rows(
        GatedRows(model.base, pyramid.base_spec, num_samples), pyramid.base_spec,
        Noise(pyramid.base.of(gumbel), noise.ordering),
        known=None if known is None else pyramid.base.of(known.to(device)),
        mask=None if full_mask is None else pyramid.base.of(full_mask), trace=trace,
    )  # fmt: skip
    inside = pyramid.pad(torch.ones(1, 1, *spec.shape[1:], dtype=model.dtype, device=device))
    images = torch.zeros(num_samples, spec.channels, *pyramid.padded, dtype=torch.uint8, device=device)
    scaled = torch.zeros_like(images, dtype=model.dtype)
    pyramid.base.of(images).copy_(base_images)
    pyramid.base.of(scaled).copy_(scale(base_images, spec.levels, model.dtype))
    if known is not None and full_mask is not None:
        given, where = pyramid.pad(known.to(device)), pyramid.pad(full_mask)
    for group, network in zip(pyramid.groups, model.networks, strict=True):
        seen = torch.cat([grid.of(scaled) for grid in group.given], dim=1)
        features = network.features(seen.contiguous(memory_format=torch.channels_last))
        target, noises = group.target.of(scaled), group.target.of(gumbel)
        for channel in range(spec.channels):
            logits = image_logits(network.outputs(features, target), spec)
            values = (logits + noises)[:, :, channel].argmax(dim=1).to(torch.uint8)
            if known is not None and full_mask is not None:
                clamped = group.target.of(where)[:, channel]
                values = torch.where(clamped, group.target.of(given)[:, channel], values)
            group.target.of(images)[:, channel] = values
            drawn = scale(values.unsqueeze(1), spec.levels, model.dtype)
            group.target.of(scaled)[:, channel : channel + 1] = drawn * group.target.of(inside)
            if trace is not None:
                trace.network_evaluations += 1
                trace.sequential_depth += 1
    return pyramid.crop(images).contiguous()
