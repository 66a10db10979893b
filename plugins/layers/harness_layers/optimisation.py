"""The training loop of the convolutional models: Adam, a short warm-up, then a learning rate that falls to zero.

A batch is worked through in small parts whose gradients add up: on a processor, the activations of few images stay in
its caches, and the sum is that of the whole batch.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from harness import Dataset, Model, Split, Trainer

_WARM_UP_STEPS = 200
_PART = 16


def check_positive(**values: float) -> None:
    """Raises ValueError for a hyperparameter that is not above zero."""
    for name, value in values.items():
        if not value > 0:
            raise ValueError(f"{name} must be positive, not {value}")


def descend(model: Model, data: Dataset, trainer: Trainer, loss: Callable[[Split], Tensor], *, learning_rate: float,
            batch_size: int, max_gradient_norm: float, score: Callable[[Split], float],
            every: str) -> None:  # fmt: skip
    """Minimises ``loss`` over ``data.train`` and keeps the best weights on ``data.valid``.

    Adam with betas 0.9 and 0.99 (Kingma & Ba 2015, arXiv 1412.6980); the learning rate grows over the first 200 steps,
    at most a tenth of the training, and falls as (1 + cos(pi * fraction)) / 2; gradients are clipped by their norm.

    Args:
        model: whose parameters are trained.
        data, trainer: as ``fit`` gets them.
        loss: maps images and labels to (N,) nats.
        learning_rate: at its highest.
        batch_size: images a step.
        max_gradient_norm: where gradients are clipped, in nats an image.
        score: maps a split to the score that is validated, lower is better.
        every: how often, as ``Trainer.validate`` takes it.
    """
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.Adam(parameters, lr=learning_rate, betas=(0.9, 0.99), fused=True)
    trainer.track(optimizer=optimizer)
    trainer.validate(score, every=every)
    for batch in trainer.batches(data.train, batch_size=batch_size):
        warm_up = min(_WARM_UP_STEPS, max(1, trainer.total_steps // 10))
        rate = learning_rate * min(1.0, (trainer.step + 1) / warm_up)
        for group in optimizer.param_groups:
            group["lr"] = rate * (1 + math.cos(math.pi * trainer.fraction)) / 2
        optimizer.zero_grad()
        total = torch.zeros((), device=trainer.device)
        for part in _parts(batch, trainer.device):
            with trainer.autocast():
                value = loss(part).sum() / len(batch)
            value.backward()  # type: ignore[no-untyped-call]
            total += value.detach()
        torch.nn.utils.clip_grad_norm_(parameters, max_gradient_norm)
        optimizer.step()
        trainer.log(loss=total)


def _parts(batch: Split, device: torch.device) -> list[Split]:
    size = _PART if device.type == "cpu" else len(batch)
    index = torch.arange(len(batch), device=batch.images.device)
    return [batch.take(index[start : start + size]) for start in range(0, len(batch), size)]
