"""The fully visible sigmoid belief net (Neal 1992; Frey 1996): every conditional is a logistic regression."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from harness import Autoregressive, Dataset, ImageSpec, Trainer, mean_over
from harness_nade.descent import check_positive, descend
from harness_nade.orderings import ranks_of, raster_order
from harness_nade.pixels import Inputs, encode, entry_log_probs, image_logits, marginal_outputs, num_inputs, num_outputs


class FVSBN(Autoregressive):
    r"""Logistic (for more than two levels: softmax) regression of every entry on those before it, in raster order.

    .. math:: p(x_d = v \mid x_{<d}) = softmax_v(b_{dv} + \sum_{j<d} W_{dvj} x_j)

    References: Neal 1992, "Connectionist learning of belief networks"; Frey, Hinton & Dayan 1996, "Does the wake-sleep
    algorithm produce good density estimators?".

    Args:
        spec: any sample space; the weights number D^2 * O * E.
        inputs: ``scaled`` values in [0, 1], or ``one-hot`` vectors, with a weight for every level.
        learning_rate, batch_size, weight_decay: of AdamW.

    Raises:
        ValueError: a hyperparameter out of its range.
    """

    default_budget: ClassVar[str] = "60 epochs"
    past: Tensor

    def __init__(self, spec: ImageSpec, *, inputs: Inputs = "scaled", learning_rate: float = 3e-3,
                 batch_size: int = 100, weight_decay: float = 0.0) -> None:  # fmt: skip
        super().__init__(spec)
        check_positive(learning_rate=learning_rate, batch_size=batch_size)
        self.inputs, self.learning_rate = inputs, learning_rate
        self.batch_size, self.weight_decay = batch_size, weight_decay
        size = spec.num_dimensions
        num_in, num_out = num_inputs(inputs, spec.levels), num_outputs(spec.levels)
        self.weight = nn.Parameter(torch.zeros(size * num_out, size * num_in))
        self.bias = nn.Parameter(torch.zeros(size * num_out))
        ranks = ranks_of(raster_order(spec))
        past = ranks.repeat_interleave(num_out)[:, None] > ranks.repeat_interleave(num_in)[None, :]
        self.register_buffer("past", past, persistent=False)  # (D * O, D * E)

    def outputs(self, images: Tensor) -> Tensor:
        """Maps (N, C, H, W) uint8 to (N, D, O), a logit or the levels' unnormalised log-probabilities."""
        inputs = encode(images.flatten(1), self.inputs, self.spec.levels, self.dtype).flatten(1)  # (N, D * E)
        return F.linear(inputs, self.weight * self.past, self.bias).view(len(images), self.spec.num_dimensions, -1)

    def conditional_logits(self, images: Tensor, ordering: int = 0) -> Tensor:
        """Maps (N, C, H, W) uint8 to (N, levels, C, H, W)."""
        return image_logits(self.outputs(images), self.spec)

    def fit(self, data: Dataset, trainer: Trainer) -> None:
        """Maximises the likelihood, a convex problem."""
        with torch.no_grad():
            self.bias.copy_(marginal_outputs(data.train, self.spec).flatten())

        def loss(images: Tensor) -> Tensor:
            return -entry_log_probs(self.outputs(images), images.flatten(1)).sum(1).mean()

        descend(
            self, data, trainer, loss, learning_rate=self.learning_rate, batch_size=self.batch_size,
            weight_decay=self.weight_decay, score=lambda split: -mean_over(split, self.log_prob), every="1 epoch",
        )  # fmt: skip
