"""MADE: the masked autoencoder for distribution estimation (Germain, Gregor, Murray & Larochelle 2015)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from harness import ImageSpec, Noise, SamplingTrace
from harness_layers.checks import check_positive, check_widths
from harness_layers.degrees import draw_degrees
from harness_nade.entrywise import EntrywiseModel, Inputs
from harness_nade.orderings import random_orders, ranks_of, raster_order


class MADE(EntrywiseModel):
    r"""An autoencoder whose weights are masked so that output d sees the entries before d alone, in one pass.

    .. math:: h_l = relu(b_l + (W_l * M_l) h_{l-1}), \quad o = b + (V * M) h_L + (A * M_A) x

    With m(j) the rank of input j from 1, and m(k) a hidden unit's degree: M_l connects k to j where m(k) >= m(j), M and
    M_A connect d to k where rank(d) > m(k). The model is the equal mixture over its members, every pair of an ordering
    and a mask: the base class's ``num_orderings``. Training takes one member a step, in turn.

    Where a layer has fewer than D - 1 units and there are no direct connections, some of the past is out of sight:
    ``dependence`` says which. Reference: Germain, Gregor, Murray & Larochelle 2015, arXiv 1502.03509.

    Args:
        spec: any sample space.
        hidden: the widths of the hidden layers, at least one.
        num_masks: connectivities of the hidden units.
        num_orderings: orderings of the entries; the first is raster order, the others are random.
        direct: whether inputs are connected to outputs as well, past the hidden layers (the matrix A).
        mask_seed: of orderings and masks, which are no learned state.
        inputs, learning_rate, batch_size, weight_decay: see ``EntrywiseModel``.

    Raises:
        ValueError: a hyperparameter out of its range.
    """

    layers: Sequence[nn.Linear]
    ranks: Tensor

    def __init__(self, spec: ImageSpec, *, hidden: Sequence[int] = (500, 500), num_masks: int = 1,
                 num_orderings: int = 1, direct: bool = False, mask_seed: int = 0, inputs: Inputs = "scaled",
                 learning_rate: float = 3e-3, batch_size: int = 100, weight_decay: float = 0.0) -> None:  # fmt: skip
        super().__init__(
            spec, inputs=inputs, learning_rate=learning_rate, batch_size=batch_size, weight_decay=weight_decay,
            members=num_masks * num_orderings,
        )  # fmt: skip
        check_positive(num_masks=num_masks, num_orderings=num_orderings)
        check_widths(hidden=hidden)
        self.num_masks = num_masks
        size, num_in, num_out = spec.num_dimensions, self.num_inputs, self.num_outputs
        widths = [size * num_in, *hidden]
        self.layers = cast("Sequence[nn.Linear]", nn.ModuleList(nn.Linear(*pair) for pair in pairwise(widths)))
        self.output = nn.Linear(widths[-1], size * num_out)
        self.direct = nn.Linear(size * num_in, size * num_out, bias=False) if direct else None
        generator = torch.Generator().manual_seed(mask_seed)
        orders = torch.cat([raster_order(spec)[None], random_orders(spec, num_orderings - 1, generator)])
        self.register_buffer("ranks", ranks_of(orders), persistent=False)  # (orderings, D)
        masks = [draw_degrees(size, hidden, generator) for _ in range(num_masks)]
        for depth in range(len(hidden)):
            stacked = torch.stack([degrees[depth] for degrees in masks])  # (masks, H)
            self.register_buffer(f"degrees_{depth}", stacked, persistent=False)
        self._held: dict[int, list[Tensor]] | None = None

    def masks(self, member: int) -> list[Tensor]:
        """Returns the masks of one member between entries and units, bool (to, from): each layer's, the output's, A's.

        The last one, (D, D), is the whole past; the masks are those of entries, before they are repeated for E and O.
        """
        ranks = self.ranks[member // self.num_masks] + 1  # (D,)
        units = [ranks, *(self.get_buffer(f"degrees_{i}")[member % self.num_masks] for i in range(len(self.layers)))]
        hidden = [above[:, None] >= below[None, :] for below, above in pairwise(units)]
        return [*hidden, ranks[:, None] > units[-1][None, :], ranks[:, None] > ranks[None, :]]

    def _masked_weights(self, member: int) -> list[Tensor]:
        if self._held is not None and member in self._held:
            return self._held[member]
        num_in, num_out = self.num_inputs, self.num_outputs
        masks = self.masks(member)
        masks[0] = masks[0].repeat_interleave(num_in, 1)
        masks[-2] = masks[-2].repeat_interleave(num_out, 0)
        parameters = [*(layer.weight for layer in self.layers), self.output.weight]
        if self.direct is not None:
            masks[-1] = masks[-1].repeat_interleave(num_out, 0).repeat_interleave(num_in, 1)
            parameters.append(self.direct.weight)
        weights = [weight * mask for weight, mask in zip(parameters, masks, strict=False)]
        if self._held is not None:
            self._held[member] = weights
        return weights

    def outputs(self, images: Tensor, ordering: int = 0) -> Tensor:
        """Maps (N, C, H, W) uint8 to (N, D, O), by member number ``ordering``."""
        weights = self._masked_weights(ordering)
        inputs = self.inputs_of(images.flatten(1)).flatten(1)  # (N, D * E)
        hidden = inputs
        for layer, weight in zip(self.layers, weights, strict=False):
            hidden = F.linear(hidden, weight, layer.bias).relu()
        outputs = F.linear(hidden, weights[len(self.layers)], self.output.bias)
        if self.direct is not None:
            outputs = outputs + F.linear(inputs, weights[-1])
        return outputs.view(len(images), self.spec.num_dimensions, -1)

    def generation_steps(self, ordering: int = 0) -> Tensor:
        """Returns (C, H, W) int64, the rank of every entry in the member's ordering."""
        return self.ranks[ordering // self.num_masks].view(self.spec.shape)

    def dependence(self, ordering: int = 0) -> Tensor | None:
        """Returns (D, D) bool, what each conditional of a member sees, or None where it is the whole past."""
        *hidden, output, past = self.masks(ordering)
        if self.direct is not None:
            return None
        seen = output.to(torch.float64)
        for mask in reversed(hidden):
            seen = (seen @ mask.to(torch.float64) > 0).to(torch.float64)
        return None if torch.equal(seen > 0, past) else seen > 0

    def raster(self, num_samples: int, *, noise: Noise | None = None, known: Tensor | None = None,
               mask: Tensor | None = None, trace: SamplingTrace | None = None) -> Tensor:  # fmt: skip
        """Draws by one pass for each generation step; the weights are masked once for each image."""
        with self._weights_held():
            return super().raster(num_samples, noise=noise, known=known, mask=mask, trace=trace)

    @contextmanager
    def _weights_held(self) -> Iterator[None]:
        self._held = {}
        try:
            yield
        finally:
            self._held = None
