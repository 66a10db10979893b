"""What the models of the museum share: limits of size, scaling of images, and a fit of a few gradient steps."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from harness import Dataset, ImageSpec, Model, Split, Trainer, Unsupported


def at_most(spec: ImageSpec, num_logits: int) -> None:
    """Refuses large spaces: what is audited here is small."""
    if spec.num_dimensions * spec.levels > num_logits:
        raise Unsupported(f"{spec} needs {spec.num_dimensions * spec.levels} logits; this model has up to {num_logits}")


def centred(images: Tensor, spec: ImageSpec, dtype: torch.dtype) -> Tensor:
    """Maps (N, C, H, W) uint8 to (N, D) in [-1, 1]."""
    return images.flatten(1).to(dtype) * (2 / (spec.levels - 1)) - 1


def fit_by_gradient(
    model: Model, data: Dataset, trainer: Trainer, loss: Callable[[Split], Tensor], *, learning_rate: float = 0.02
) -> None:
    """Minimises a loss of batches, (), by Adam."""
    optimizer = torch.optim.Adam(model.parameters(), lr=learning_rate)
    trainer.track(optimizer=optimizer)
    for batch in trainer.batches(data.train, batch_size=100):
        value = loss(batch)
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        trainer.log(loss=value)


def log_normal(value: Tensor, mean: Tensor | float = 0.0, log_std: Tensor | float = 0.0) -> Tensor:
    """Maps values to the logarithm of their Gaussian densities, elementwise."""
    log_std = torch.as_tensor(log_std, dtype=value.dtype, device=value.device)
    return -0.5 * ((value - mean) * (-log_std).exp()).square() - log_std - 0.9189385332046727


def categorical_draw(logits: Tensor, *, dim: int = 1) -> Tensor:
    """Draws an index along a dimension from softmax(logits), by the Gumbel trick."""
    gumbel = -torch.empty_like(logits).exponential_().clamp_min(1e-300).log()
    return (logits + gumbel).argmax(dim)


def pick(table: Tensor, images: Tensor) -> Tensor:
    """Maps log-probabilities (N, levels, C, H, W) and images (N, C, H, W) uint8 to the images', (N, C, H, W)."""
    return table.gather(1, images.long().unsqueeze(1)).squeeze(1)
