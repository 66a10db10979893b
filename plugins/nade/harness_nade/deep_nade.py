"""Orderless deep NADE: one network for the conditionals of every ordering (Uria, Murray & Larochelle 2014)."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import cast

import torch
from torch import Tensor, nn

from harness import ImageSpec, Split, mean_over
from harness_layers.checks import check_positive, check_widths
from harness_layers.pixels import level_log_probs
from harness_nade.entrywise import EntrywiseModel, Inputs
from harness_nade.orderings import random_orders, ranks_of

_CHUNK_FLOATS = 2**21  # one hidden layer of a chunk of positions: 8 MiB in float32


class DeepNADE(EntrywiseModel):
    r"""A multilayer perceptron that predicts any entry from any set of observed ones.

    .. math:: h_1 = relu(b_1 + W_1 [x * m, m]), \; h_l = relu(b_l + W_l h_{l-1}), \;
              p(x_d = v \mid x_m) = softmax_v(b_d + V_d h_L)

    Training draws an ordering and a number of observed entries for every image, and rescales the log-likelihood of
    the others to an unbiased estimate of the mean over all orderings. At evaluation the model is the equal mixture
    over ``num_orderings`` fixed random orderings (EoNADE). An image's likelihood needs the upper layers D times an
    ordering. Reference: Uria, Murray & Larochelle 2014, arXiv 1310.1757.

    Args:
        spec: any sample space.
        hidden: the widths of the hidden layers, at least one.
        num_orderings: orderings at evaluation; the first ones are the same whatever their number.
        ordering_seed: of the orderings, which are no learned state.
        inputs, learning_rate, batch_size, weight_decay: see ``EntrywiseModel``.

    Raises:
        ValueError: a hyperparameter out of its range.
    """

    layers: Sequence[nn.Linear]
    orders: Tensor

    def __init__(self, spec: ImageSpec, *, hidden: Sequence[int] = (500, 500), num_orderings: int = 1,
                 ordering_seed: int = 0, inputs: Inputs = "scaled", learning_rate: float = 1e-3, batch_size: int = 100,
                 weight_decay: float = 0.0) -> None:  # fmt: skip
        super().__init__(
            spec, inputs=inputs, learning_rate=learning_rate, batch_size=batch_size, weight_decay=weight_decay
        )  # fmt: skip
        check_positive(num_orderings=num_orderings)
        check_widths(hidden=hidden)
        self.num_orderings = num_orderings
        size, num_in, num_out = spec.num_dimensions, self.num_inputs, self.num_outputs
        widths = [size * num_in + size, *hidden]  # [x * m, m]
        self.layers = cast("Sequence[nn.Linear]", nn.ModuleList(nn.Linear(*pair) for pair in pairwise(widths)))
        self.output = nn.Linear(widths[-1], size * num_out)
        generator = torch.Generator().manual_seed(ordering_seed)
        self.register_buffer("orders", random_orders(spec, num_orderings, generator), persistent=False)

    def outputs_given(self, images: Tensor, observed: Tensor) -> Tensor:
        """Maps (N, C, H, W) uint8 and observed (N, D) bool to (N, D, O); what is not observed is not seen."""
        inputs = self.inputs_of(images.flatten(1))  # (N, D, E)
        mask = observed.to(self.dtype)
        hidden = torch.cat([(inputs * mask.unsqueeze(2)).flatten(1), mask], dim=1)
        for layer in self.layers:
            hidden = layer(hidden).relu()
        outputs: Tensor = self.output(hidden)
        return outputs.view(len(images), self.spec.num_dimensions, -1)

    def negative_order_agnostic(self, images: Tensor, observed: Tensor) -> Tensor:
        r"""Returns (N,) nats, D / (D - |m|) * sum_{d not in m} -log p(x_d | x_m) for observed m, (N, D) bool.

        Its expectation over a uniform ordering and a uniform number of observed entries from 0 to D - 1 is the mean
        over all orderings of -log p(image).
        """
        log_probs = level_log_probs(self.outputs_given(images, observed), images.flatten(1))  # (N, D)
        unseen = (~observed).to(log_probs.dtype)
        return -(log_probs * unseen).sum(1) * self.spec.num_dimensions / unseen.sum(1)

    def draw_observed(self, num_images: int) -> Tensor:
        """Draws (N, D) bool: the first d entries of a uniform ordering, d uniform from 0 to D - 1."""
        size = self.spec.num_dimensions
        keys = torch.rand(num_images, size, device=self.device)
        count = torch.randint(size, (num_images, 1), device=self.device)
        return keys < keys.sort(dim=1).values.gather(1, count)

    def by_position(self, order: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Returns the first and last layers' weights of every entry, in the order in which entries are drawn.

        What observing an entry adds to the first layer, (D, E, H) times its inputs and (D, H); the weights (D, O, H)
        and biases (D, O) of its outputs.
        """
        size, first = self.spec.num_dimensions, self.layers[0].weight
        of_values, of_mask = first.T[:-size], first.T[-size:]
        return (
            of_values.reshape(size, -1, len(first))[order],
            of_mask[order],
            self.output.weight.view(size, -1, self.output.in_features)[order],
            self.output.bias.view(size, -1)[order],
        )

    def upper_layers(self, activations: Tensor) -> Tensor:
        """Maps the first layer's pre-activations (..., H) to the last hidden layer (..., H)."""
        hidden = activations.relu()
        for layer in self.layers[1:]:
            hidden = layer(hidden).relu()
        return hidden

    def outputs(self, images: Tensor, ordering: int = 0) -> Tensor:
        """Maps (N, C, H, W) uint8 to (N, D, O): D evaluations for each image, in chunks of bounded memory."""
        order, size = self.orders[ordering], self.spec.num_dimensions
        of_values, of_mask, output_weight, output_bias = self.by_position(order)
        inputs = self.inputs_of(images.flatten(1)[:, order]).transpose(0, 1)
        activations = self.layers[0].bias.expand(len(images), -1)
        widest = max(layer.out_features for layer in self.layers)
        step = max(1, _CHUNK_FLOATS // (max(1, len(images)) * widest))
        outputs = []
        for first in range(0, size, step):
            chunk = slice(first, first + step)
            added = torch.baddbmm(of_mask[chunk, None], inputs[chunk], of_values[chunk])  # (K, N, H)
            states = torch.cat([activations[None], added]).cumsum(0)  # (K + 1, N, H): before every entry, and after
            activations = states[-1]
            hidden = self.upper_layers(states[:-1])
            outputs.append(torch.baddbmm(output_bias[chunk, None], hidden, output_weight[chunk].mT))  # (K, N, O)
        return torch.cat(outputs)[ranks_of(order)].transpose(0, 1)

    def generation_steps(self, ordering: int = 0) -> Tensor:
        """Returns (C, H, W) int64, the rank of every entry in an ordering."""
        return ranks_of(self.orders[ordering]).view(self.spec.shape)

    def training_loss(self, images: Tensor, step: int) -> Tensor:
        """Maps (N, C, H, W) uint8 to (N,) nats: the order-agnostic objective under random masks."""
        return self.negative_order_agnostic(images, self.draw_observed(len(images)))

    def validation_loss(self, split: Split) -> float:
        """Returns the mean order-agnostic objective of a split, in nats: under the same masks at every validation."""
        return mean_over(split, lambda images: self.training_loss(images, 0))
