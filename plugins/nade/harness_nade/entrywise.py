"""What the models of this family share: how entries become inputs, outputs become conditionals, and the training.

Entries are numbered as in ``images.flatten(1)``. An entry has E inputs: one value in [0, 1], or a one-hot vector; and O
outputs, see ``harness_layers.pixels``.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from typing import ClassVar, Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from harness import Autoregressive, Dataset, ImageSpec, Split, Trainer, mean_over
from harness_layers.checks import check_choice
from harness_layers.descent import Descent, descend
from harness_layers.pixels import level_counts, level_log_probs, level_logits, num_outputs, smoothed_outputs

Inputs = Literal["scaled", "one-hot"]


class EntrywiseModel(Autoregressive):
    r"""A product of conditionals of entries: :math:`\log p(x) = \sum_d \log p(x_d | x_{<d})`.

    It is trained by AdamW, whose learning rate falls as half a cosine down to zero.

    Args:
        spec: the sample space.
        inputs: ``scaled`` values in [0, 1], or ``one-hot`` vectors, with a weight for every level.
        learning_rate, batch_size, weight_decay: of AdamW.
        members: orderings and the like that take turns in training. Scoring the mixture costs a pass for each member,
            so that with many of them it is validated less often.

    Raises:
        ValueError: a hyperparameter out of its range.
    """

    default_budget: ClassVar[str] = "60 epochs"
    scored_at_once: ClassVar[int] = 500
    output: nn.Linear

    def __init__(self, spec: ImageSpec, *, inputs: Inputs, learning_rate: float, batch_size: int, weight_decay: float,
                 members: int = 1) -> None:  # fmt: skip
        super().__init__(spec)
        check_choice(get_args(Inputs), inputs=inputs)
        self.inputs, self.num_orderings = inputs, members
        self.num_inputs = spec.levels if inputs == "one-hot" else 1
        self.num_outputs = num_outputs(spec)
        self.descent = Descent(
            learning_rate=learning_rate, batch_size=batch_size, weight_decay=weight_decay,
            validate_every=f"{max(1, math.ceil(members / 4))} epochs",
        )  # fmt: skip

    @abstractmethod
    def outputs(self, images: Tensor, ordering: int = 0) -> Tensor:
        """Maps (N, C, H, W) uint8 to (N, D, O), a logit or the levels' unnormalised log-probabilities."""

    def start_from(self, outputs: Tensor) -> None:
        """Sets the biases of the outputs to (D, O): what the model puts out before it has learned anything."""
        self.output.bias.copy_(outputs.flatten())

    def inputs_of(self, values: Tensor) -> Tensor:
        """Maps integers of any shape (...) to network inputs (..., E)."""
        if self.inputs == "one-hot":
            return F.one_hot(values.long(), self.spec.levels).to(self.dtype)
        return (values.to(self.dtype) / (self.spec.levels - 1)).unsqueeze(-1)

    def conditional_logits(self, images: Tensor, ordering: int = 0) -> Tensor:
        """Maps (N, C, H, W) uint8 to (N, levels, C, H, W)."""
        logits = level_logits(self.outputs(images, ordering))
        return logits.transpose(1, 2).reshape(len(images), self.spec.levels, *self.spec.shape)

    def fit(self, data: Dataset, trainer: Trainer) -> None:
        """Maximises the likelihood, of one ordering a step where there are several; their mixture is validated."""
        with torch.no_grad():
            self.start_from(smoothed_outputs(level_counts(data.train.draw(0).images, self.spec.levels).flatten(1).T))

        def loss(batch: Split) -> Tensor:
            return self.training_loss(batch.images, trainer.step)

        descend(self, data, trainer, self.descent, loss, score=self.validation_loss)

    def training_loss(self, images: Tensor, step: int) -> Tensor:
        """Maps (N, C, H, W) uint8 to (N,) nats: minus the log-likelihood of the ordering whose turn it is."""
        outputs = self.outputs(images, step % self.num_orderings)
        return -level_log_probs(outputs, images.flatten(1)).sum(1)

    def validation_loss(self, split: Split) -> float:
        """Returns the mean negative log-likelihood of a split, in nats."""
        return -mean_over(split, self.log_prob, batch_size=self.scored_at_once)
