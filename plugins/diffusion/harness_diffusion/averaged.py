"""Training of a network whose average over the steps is what images are scored and drawn by."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from harness import Dataset, Model, Split, Trainer
from harness_layers.averaging import update_average
from harness_layers.descent import Descent, descend


def descend_averaged(
    model: Model,
    data: Dataset,
    trainer: Trainer,
    descent: Descent,
    loss: Callable[[Tensor], Tensor],
    *,
    network: nn.Module,
    average: nn.Module | None,
    decay: float,
    score: Callable[[Split], float],
) -> None:
    """Minimises ``loss``, which maps images (N, C, H, W) uint8 to (N,), and averages ``network`` into ``average``.

    What a step made is taken in before the next one. The rest is as for ``descend``.
    """
    taken_in = 0

    def averaging_loss(batch: Split) -> Tensor:
        nonlocal taken_in
        if average is not None and trainer.step != taken_in:
            taken_in = trainer.step
            update_average(average, network, decay=decay, num_steps=taken_in)
        return loss(batch.images)

    descend(model, data, trainer, descent, averaging_loss, score=score)


def spread_times(images: Tensor, dtype: torch.dtype) -> Tensor:
    """Returns a time in [0, 1) for each of (N, ...) images, (N,): one random shift of N evenly spaced ones."""
    even = torch.arange(len(images), dtype=dtype, device=images.device) / len(images)
    return (torch.rand_like(even[:1]) + even) % 1
