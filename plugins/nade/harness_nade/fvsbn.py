"""The fully visible sigmoid belief net (Neal 1992; Frey 1996): every conditional is a logistic regression."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from harness import ImageSpec
from harness_nade.entrywise import EntrywiseModel, Inputs
from harness_nade.orderings import ranks_of, raster_order


class FVSBN(EntrywiseModel):
    r"""Logistic (for more than two levels: softmax) regression of every entry on those before it, in raster order.

    Its training is a convex problem.

    .. math:: p(x_d = v \mid x_{<d}) = softmax_v(b_{dv} + \sum_{j<d} W_{dvj} x_j)

    References: Neal 1992, "Connectionist learning of belief networks"; Frey, Hinton & Dayan 1996, "Does the wake-sleep
    algorithm produce good density estimators?".

    Args:
        spec: any sample space; the weights number D^2 * O * E.
        inputs, learning_rate, batch_size, weight_decay: see ``EntrywiseModel``.

    Raises:
        ValueError: a hyperparameter out of its range.
    """

    past: Tensor

    def __init__(self, spec: ImageSpec, *, inputs: Inputs = "scaled", learning_rate: float = 3e-3,
                 batch_size: int = 100, weight_decay: float = 0.0) -> None:  # fmt: skip
        super().__init__(
            spec, inputs=inputs, learning_rate=learning_rate, batch_size=batch_size, weight_decay=weight_decay
        )  # fmt: skip
        size, num_in, num_out = spec.num_dimensions, self.num_inputs, self.num_outputs
        self.weight = nn.Parameter(torch.zeros(size * num_out, size * num_in))
        self.bias = nn.Parameter(torch.zeros(size * num_out))
        ranks = ranks_of(raster_order(spec))
        past = ranks.repeat_interleave(num_out)[:, None] > ranks.repeat_interleave(num_in)[None, :]
        self.register_buffer("past", past, persistent=False)  # (D * O, D * E)

    def outputs(self, images: Tensor, ordering: int = 0) -> Tensor:
        """Maps (N, C, H, W) uint8 to (N, D, O), a logit or the levels' unnormalised log-probabilities."""
        inputs = self.inputs_of(images.flatten(1)).flatten(1)  # (N, D * E)
        return F.linear(inputs, self.weight * self.past, self.bias).view(len(images), self.spec.num_dimensions, -1)

    def start_from(self, outputs: Tensor) -> None:
        """Sets the biases to (D, O)."""
        self.bias.copy_(outputs.flatten())
