"""The training loop of models that minimise one loss by gradient steps."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.optim import AdamW, Optimizer

from harness import Budget, Dataset, Model, Split, Trainer
from harness_layers.checks import check_at_least, check_choice, check_positive, check_share
from harness_layers.schedules import SCHEDULES, Schedule


@dataclass(frozen=True, kw_only=True)
class Descent:
    """How a loss is minimised: by Adam (Kingma & Ba 2015, arXiv 1412.6980), with what is asked for besides.

    Attributes:
        learning_rate: of Adam, at its highest.
        batch_size: images in each step.
        betas, epsilon: of Adam.
        weight_decay: decoupled (Loshchilov & Hutter 2019, arXiv 1711.05101); it spares the biases.
        schedule: how the learning rate falls with the budget.
        warm_up_steps: over which it grows first, at most a tenth of the training.
        max_gradient_norm: where gradients are clipped, in nats an image; None leaves them alone.
        part_size: on a processor, a batch is worked through in parts of so many images, whose activations stay in its
            caches, and whose gradients add up to those of the batch; None takes a batch at once.
        validate_every: how often the validation split is scored, such as ``1 epoch`` or ``500 steps``.

    Raises:
        ValueError: a number out of its range, or another word.
    """

    learning_rate: float
    batch_size: int
    betas: tuple[float, float] = (0.9, 0.999)
    epsilon: float = 1e-8
    weight_decay: float = 0.0
    schedule: Schedule = "cosine"
    warm_up_steps: int = 0
    max_gradient_norm: float | None = None
    part_size: int | None = None
    validate_every: str = "1 epoch"

    def __post_init__(self) -> None:
        check_positive(learning_rate=self.learning_rate, batch_size=self.batch_size, epsilon=self.epsilon)
        check_share(**{f"betas[{index}]": beta for index, beta in enumerate(self.betas)})
        check_at_least(0, weight_decay=self.weight_decay, warm_up_steps=self.warm_up_steps)
        check_choice(SCHEDULES, schedule=self.schedule)
        for name in ("max_gradient_norm", "part_size"):
            if getattr(self, name) is not None:
                check_positive(**{name: getattr(self, name)})
        Budget.parse(self.validate_every)

    def rate(self, trainer: Trainer) -> float:
        """Returns the learning rate of the step that a trainer is at."""
        warm_up = min(self.warm_up_steps, max(1, trainer.total_steps // 10))
        grown = min(1.0, (trainer.step + 1) / warm_up) if warm_up else 1.0
        return self.learning_rate * grown * SCHEDULES[self.schedule](trainer.fraction)


def descend(
    model: Model,
    data: Dataset,
    trainer: Trainer,
    descent: Descent,
    loss: Callable[[Split], Tensor],
    *,
    score: Callable[[Split], float],
) -> None:
    """Minimises the mean of ``loss`` over ``data.train`` and keeps the best weights on ``data.valid``.

    Args:
        model: whose parameters are trained.
        data, trainer: as ``fit`` gets them.
        descent: how.
        loss: maps N images and labels to (N,) nats.
        score: maps a split to the score that is validated, lower is better.
    """
    named = [(name, value) for name, value in model.named_parameters() if value.requires_grad]
    parameters = [value for _, value in named]
    groups = [
        {"params": [value for name, value in named if "bias" not in name], "weight_decay": descent.weight_decay},
        {"params": [value for name, value in named if "bias" in name], "weight_decay": 0.0},
    ]
    optimizer = AdamW(groups, lr=descent.learning_rate, betas=descent.betas, eps=descent.epsilon, fused=True)
    trainer.track(optimizer=optimizer)
    trainer.validate(score, every=descent.validate_every)
    for batch in trainer.batches(data.train, batch_size=descent.batch_size):
        set_learning_rate(descent.rate(trainer), optimizer)
        optimizer.zero_grad()
        total = torch.zeros((), dtype=model.dtype, device=trainer.device)
        for part in _parts(batch, descent.part_size, trainer.device):
            with trainer.autocast():
                value = loss(part).sum() / len(batch)
            value.backward()  # type: ignore[no-untyped-call]
            total += value.detach()
        if descent.max_gradient_norm is not None:
            torch.nn.utils.clip_grad_norm_(parameters, descent.max_gradient_norm)
        optimizer.step()
        trainer.log(loss=total)


def set_learning_rate(rate: float, *optimizers: Optimizer) -> None:
    """Sets the learning rate of all parameters of all optimizers."""
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["lr"] = rate


def _parts(batch: Split, part_size: int | None, device: torch.device) -> list[Split]:
    if part_size is None or device.type != "cpu":
        return [batch]
    index = torch.arange(len(batch), device=batch.images.device)
    return [batch.take(part) for part in torch.split(index, part_size)]
