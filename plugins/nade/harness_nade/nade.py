"""NADE: the neural autoregressive distribution estimator (Larochelle & Murray 2011; Uria et al. 2016)."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn

from harness import Autoregressive, Dataset, ImageSpec, Trainer, mean_over
from harness_nade.descent import check_positive, descend
from harness_nade.nade_kernel import nade_outputs
from harness_nade.orderings import ranks_of, raster_order
from harness_nade.pixels import (
    Inputs,
    encode,
    entry_log_probs,
    image_logits,
    marginal_outputs,
    num_inputs,
    num_outputs,
)


class NADE(Autoregressive):
    r"""A hidden layer for every entry, whose weights are shared over the entries, in raster order.

    .. math:: h_d = \sigma(c + \sum_{j<d} W_j^T x_j), \quad p(x_d = v \mid x_{<d}) = softmax_v(b_d + V_d h_d)

    A binary entry has one output, the logit of a one. References: Larochelle & Murray 2011, "The neural autoregressive
    distribution estimator"; Uria, Côté, Gregor, Murray & Larochelle 2016, arXiv 1605.02226.

    Args:
        spec: any sample space.
        hidden: H, the number of hidden units.
        inputs: ``scaled`` values in [0, 1], or ``one-hot`` vectors, with a weight for every level.
        learning_rate, batch_size, weight_decay: of AdamW.

    Raises:
        ValueError: a hyperparameter out of its range.
    """

    default_budget: ClassVar[str] = "60 epochs"
    order: Tensor
    ranks: Tensor

    def __init__(self, spec: ImageSpec, *, hidden: int = 500, inputs: Inputs = "scaled", learning_rate: float = 3e-3,
                 batch_size: int = 100, weight_decay: float = 0.0) -> None:  # fmt: skip
        super().__init__(spec)
        check_positive(hidden=hidden, learning_rate=learning_rate, batch_size=batch_size)
        self.inputs, self.learning_rate = inputs, learning_rate
        self.batch_size, self.weight_decay = batch_size, weight_decay
        size = spec.num_dimensions
        num_in, num_out = num_inputs(inputs, spec.levels), num_outputs(spec.levels)
        # Positions, not entries: row d belongs to the entry drawn as number d.
        self.weight = nn.Parameter(torch.randn(size, num_in, hidden) / size**0.5)
        self.hidden_bias = nn.Parameter(torch.zeros(hidden))
        self.output_weight = nn.Parameter(torch.randn(size, num_out, hidden) / hidden**0.5)
        self.output_bias = nn.Parameter(torch.zeros(size, num_out))
        self.register_buffer("order", raster_order(spec), persistent=False)
        self.register_buffer("ranks", ranks_of(raster_order(spec)), persistent=False)

    def outputs(self, images: Tensor) -> Tensor:
        """Maps (N, C, H, W) uint8 to (N, D, O), entries in the order of ``images.flatten(1)``."""
        inputs = encode(images.flatten(1)[:, self.order], self.inputs, self.spec.levels, self.dtype)  # (N, D, E)
        outputs = nade_outputs(inputs, self.weight, self.hidden_bias, self.output_weight, self.output_bias)
        return outputs[:, self.ranks]

    def conditional_logits(self, images: Tensor, ordering: int = 0) -> Tensor:
        """Maps (N, C, H, W) uint8 to (N, levels, C, H, W)."""
        return image_logits(self.outputs(images), self.spec)

    def fit(self, data: Dataset, trainer: Trainer) -> None:
        """Maximises the likelihood."""
        with torch.no_grad():
            self.output_bias.copy_(marginal_outputs(data.train, self.spec)[self.order])

        def loss(images: Tensor) -> Tensor:
            return -entry_log_probs(self.outputs(images), images.flatten(1)).sum(1).mean()

        descend(
            self, data, trainer, loss, learning_rate=self.learning_rate, batch_size=self.batch_size,
            weight_decay=self.weight_decay, every="1 epoch",
            score=lambda split: -mean_over(split, self.log_prob, batch_size=100),
        )  # fmt: skip
