"""The training loop of this package: Adam (Kingma & Ba 2015, arXiv 1412.6980), its learning rate falling to zero."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from harness import Dataset, Model, Split, Trainer


def check_positive(**values: float) -> None:
    """Raises ValueError for a hyperparameter that is not above zero."""
    for name, value in values.items():
        if not value > 0:
            raise ValueError(f"{name} must be positive, not {value}")


def descend(model: Model, data: Dataset, trainer: Trainer, loss: Callable[[Tensor], Tensor], *, learning_rate: float,
            batch_size: int, weight_decay: float, score: Callable[[Split], float], every: str) -> None:  # fmt: skip
    """Minimises ``loss`` over ``data.train`` and keeps the best weights on ``data.valid``.

    The learning rate falls as (1 + cos(pi * fraction)) / 2. Weight decay is decoupled (Loshchilov & Hutter 2019,
    arXiv 1711.05101) and spares the biases.

    Args:
        model: whose parameters are trained.
        data, trainer: as ``fit`` gets them.
        loss: maps images (N, C, H, W) uint8 to a scalar in nats.
        learning_rate, batch_size, weight_decay: Adam's, at the start.
        score: maps a split to the score that is validated, lower is better.
        every: how often, as ``Trainer.validate`` takes it.
    """
    named = list(model.named_parameters())
    groups = [
        {"params": [value for name, value in named if "bias" not in name], "weight_decay": weight_decay},
        {"params": [value for name, value in named if "bias" in name], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=learning_rate, fused=True)
    trainer.track(optimizer=optimizer)
    trainer.validate(score, every=every)
    for batch in trainer.batches(data.train, batch_size=batch_size):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate * (1 + math.cos(math.pi * trainer.fraction)) / 2
        with trainer.autocast():
            value = loss(batch.images)
        optimizer.zero_grad()
        value.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        trainer.log(loss=value)
