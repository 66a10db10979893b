"""The samplers of NADE and deep NADE: rank-one updates of the first layer, entry by entry; see ``harness.Sampler``."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from harness import Noise, SamplingTrace
from harness_layers.pixels import level_logits
from harness_nade.deep_nade import DeepNADE
from harness_nade.incremental import incremental_sample
from harness_nade.nade import NADE


@torch.no_grad()
def nade(model: NADE, num_samples: int, /, *, noise: Noise | None = None, known: Tensor | None = None,
         mask: Tensor | None = None, trace: SamplingTrace | None = None) -> Tensor:  # fmt: skip
    """Draws in O(DH) for each image."""
    noise = model.draw_noise(num_samples) if noise is None else noise

    def logits_at(activations: Tensor, position: int) -> Tensor:
        hidden = activations.sigmoid()
        return level_logits(F.linear(hidden, model.output_weight[position], model.output_bias[position]))

    def absorb(activations: Tensor, position: int, values: Tensor) -> Tensor:
        inputs = model.inputs_of(values)  # (N, E)
        return torch.addmm(activations, inputs, model.weight[position])

    start = model.hidden_bias.expand(num_samples, -1)
    return incremental_sample(
        model.order, start, logits_at, absorb, model.spec, noise, known=known, mask=mask, trace=trace
    )


@torch.no_grad()
def deep_nade(model: DeepNADE, num_samples: int, /, *, noise: Noise | None = None, known: Tensor | None = None,
              mask: Tensor | None = None, trace: SamplingTrace | None = None) -> Tensor:  # fmt: skip
    """Draws by D evaluations for each image; each image in the ordering that its noise names."""
    noise = model.draw_noise(num_samples) if noise is None else noise
    mask = None if mask is None else mask.to(model.device).expand(num_samples, *model.spec.shape)
    images = torch.empty(num_samples, *model.spec.shape, dtype=torch.uint8, device=model.device)
    for ordering in sorted(set(noise.ordering.tolist())):
        rows = (noise.ordering == ordering).nonzero().squeeze(1)
        part = Noise(noise.gumbel[rows], noise.ordering[rows])
        images[rows] = _in_order(
            model, model.orders[ordering], part, known=None if known is None else known.to(model.device)[rows],
            mask=None if mask is None else mask[rows], trace=trace,
        )  # fmt: skip
    return images


def _in_order(model: DeepNADE, order: Tensor, noise: Noise, *, known: Tensor | None, mask: Tensor | None,
              trace: SamplingTrace | None) -> Tensor:  # fmt: skip
    of_values, of_mask, output_weight, output_bias = model.by_position(order)

    def logits_at(activations: Tensor, position: int) -> Tensor:
        hidden = model.upper_layers(activations)
        return level_logits(F.linear(hidden, output_weight[position], output_bias[position]))

    def absorb(activations: Tensor, position: int, values: Tensor) -> Tensor:
        inputs = model.inputs_of(values)  # (N, E)
        return torch.addmm(activations + of_mask[position], inputs, of_values[position])

    start = model.layers[0].bias.expand(len(noise.ordering), -1)
    return incremental_sample(order, start, logits_at, absorb, model.spec, noise, known=known, mask=mask, trace=trace)
