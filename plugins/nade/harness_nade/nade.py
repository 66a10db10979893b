"""NADE: the neural autoregressive distribution estimator (Larochelle & Murray 2011; Uria et al. 2016)."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn

from harness import ImageSpec
from harness_layers.checks import check_positive
from harness_nade.entrywise import EntrywiseModel, Inputs
from harness_nade.nade_kernel import nade_outputs
from harness_nade.orderings import ranks_of, raster_order


class NADE(EntrywiseModel):
    r"""A hidden layer for every entry, whose weights are shared over the entries, in raster order.

    .. math:: h_d = \sigma(c + \sum_{j<d} W_j^T x_j), \quad p(x_d = v \mid x_{<d}) = softmax_v(b_d + V_d h_d)

    A binary entry has one output, the logit of a one. References: Larochelle & Murray 2011, "The neural autoregressive
    distribution estimator"; Uria, Côté, Gregor, Murray & Larochelle 2016, arXiv 1605.02226.

    Args:
        spec: any sample space.
        hidden: H, the number of hidden units.
        inputs, learning_rate, batch_size, weight_decay: see ``EntrywiseModel``.

    Raises:
        ValueError: a hyperparameter out of its range.
    """

    scored_at_once: ClassVar[int] = 100
    order: Tensor
    ranks: Tensor

    def __init__(self, spec: ImageSpec, *, hidden: int = 500, inputs: Inputs = "scaled", learning_rate: float = 3e-3,
                 batch_size: int = 100, weight_decay: float = 0.0) -> None:  # fmt: skip
        super().__init__(
            spec, inputs=inputs, learning_rate=learning_rate, batch_size=batch_size, weight_decay=weight_decay
        )  # fmt: skip
        check_positive(hidden=hidden)
        size, num_in, num_out = spec.num_dimensions, self.num_inputs, self.num_outputs
        # Positions, not entries: row d belongs to the entry drawn as number d.
        self.weight = nn.Parameter(torch.randn(size, num_in, hidden) / size**0.5)
        self.hidden_bias = nn.Parameter(torch.zeros(hidden))
        self.output_weight = nn.Parameter(torch.randn(size, num_out, hidden) / hidden**0.5)
        self.output_bias = nn.Parameter(torch.zeros(size, num_out))
        self.register_buffer("order", raster_order(spec), persistent=False)
        self.register_buffer("ranks", ranks_of(raster_order(spec)), persistent=False)

    def outputs(self, images: Tensor, ordering: int = 0) -> Tensor:
        """Maps (N, C, H, W) uint8 to (N, D, O), entries in the order of ``images.flatten(1)``."""
        inputs = self.inputs_of(images.flatten(1)[:, self.order])  # (N, D, E)
        outputs = nade_outputs(inputs, self.weight, self.hidden_bias, self.output_weight, self.output_bias)
        return outputs[:, self.ranks]

    def start_from(self, outputs: Tensor) -> None:
        """Sets the biases to (D, O)."""
        self.output_bias.copy_(outputs[self.order])
