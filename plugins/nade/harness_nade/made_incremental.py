"""MADE drawn in blocks of entries: each image costs about as much as one pass of the network, not one for each entry.

A unit of degree m is final as soon as m entries are known, so that every block of consecutive ranks has units of its
own in every layer. What all earlier blocks say to a block's units and outputs is one matrix product for each layer;
what is left is a network of a few units and entries. Maps lie as (features, images), zero where nothing is known yet.

Inside a block, x -> argmax_v (logit_v(x) + gumbel_v) is iterated until nothing changes, for all its entries at once: by
causality what comes to rest is what drawing them one after another gives, and k iterations settle k entries at least
(Song, Meng, Liao & Ermon 2021, arXiv 2002.03629).
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor
from torch.nn import functional as F

from harness import Noise, SamplingTrace, clamp_known
from harness_nade.made import MADE

_BLOCK = 112  # entries; with fewer, less is computed again and again, by more operations


def incremental(model: MADE, num_samples: int, /, *, noise: Noise | None = None, known: Tensor | None = None,
                mask: Tensor | None = None, trace: SamplingTrace | None = None) -> Tensor:  # fmt: skip
    """Draws each image by the member that its noise names; see ``harness.Sampler``."""
    noise = model.draw_noise(num_samples) if noise is None else noise
    return incremental_sample(model, noise, known=known, mask=mask, trace=trace)


def incremental_sample(model: MADE, noise: Noise, *, known: Tensor | None = None, mask: Tensor | None = None,
                       trace: SamplingTrace | None = None) -> Tensor:  # fmt: skip
    """Draws the images of the raster sampler, up to decisions within rounding.

    Args:
        model: whose weights are taken as they are now; images of several members are drawn member by member.
        noise: the randomness of N images.
        known, mask: pixels to clamp, see ``harness.Sampler``.
        trace: gets a network evaluation, and a sequential depth of one, an iteration: each is of one block alone.

    Returns:
        (N, C, H, W) uint8.
    """
    shape, device = (len(noise.gumbel), *model.spec.shape), noise.gumbel.device
    given = clamp_known(torch.zeros(shape, dtype=torch.uint8, device=device), known, mask).flatten(1).T  # (D, N)
    clamped = None if mask is None else mask.to(device).expand(shape).flatten(1).T
    with torch.inference_mode():
        images = torch.empty_like(given)
        members = torch.unique(noise.ordering).tolist()
        for member in members:
            rows = slice(None) if len(members) == 1 else (noise.ordering == member).nonzero().squeeze(1)
            by_blocks = _ByBlocks(model, member, noise.gumbel[rows])
            part = None if clamped is None else clamped[:, rows]
            images[:, rows] = by_blocks.draw(given[:, rows], part, trace)
    return images.T.reshape(shape).clone()  # no tensor of inference mode leaves


class _ByBlocks:
    """One member's network, and what it has computed of N images.

    Args:
        model: whose weights are used.
        member: which pair of an ordering and a mask.
        gumbel: (N, levels, C, H, W).
    """

    def __init__(self, model: MADE, member: int, gumbel: Tensor) -> None:
        self.levels, self.one_hot, self.binary = model.spec.levels, model.inputs == "one-hot", model.spec.levels == 2
        ranks = model.ranks[member // model.num_masks]  # (D,)
        size = len(ranks)
        # a binary entry is one where its logit is above the difference of its two values' noise
        by_entry = gumbel.flatten(2).permute(2, 1, 0)  # (D, levels, N)
        self.noise = by_entry[:, 0] - by_entry[:, 1] if self.binary else by_entry

        layers = [*model.layers, model.output]
        self.weights, self.biases = [layer.weight for layer in layers], [layer.bias for layer in layers]
        self.direct = None if model.direct is None else model.direct.weight
        degrees = [model.get_buffer(f"degrees_{depth}")[member % model.num_masks] for depth in range(len(model.layers))]
        num_in, num_out = len(self.weights[0].T) // size, len(self.weights[-1]) // size
        # How many entries must be known before the inputs, the layers' units and the outputs are; and so who sees whom.
        self.after = [(ranks + 1).repeat_interleave(num_in), *degrees, ranks.repeat_interleave(num_out)]
        starts = [ranks.repeat_interleave(num_in), *self.after[1:]]
        num_blocks = -(-size // _BLOCK)
        self.features = [_by_block(start // _BLOCK, num_blocks) for start in starts]
        self.entries = _by_block(ranks // _BLOCK, num_blocks)
        self.states = [gumbel.new_zeros(len(after), gumbel.shape[0]) for after in self.after[:-1]]

    def draw(self, given: Tensor, clamped: Tensor | None, trace: SamplingTrace | None) -> Tensor:
        """Returns (D, N) uint8, entries where ``clamped`` (D, N) is true being those of ``given`` (D, N)."""
        images = torch.empty_like(given)
        for block, entries in enumerate(self.entries):
            held = None if clamped is None else clamped[entries]
            images[entries] = self._draw_block(block, self.noise[entries], given[entries], held, trace)
        return images

    def _draw_block(self, block: int, noise: Tensor, given: Tensor, held: Tensor | None,
                    trace: SamplingTrace | None) -> Tensor:  # fmt: skip
        of_block = [features[block] for features in self.features]
        bases, owns = [], []
        for depth, (below, above) in enumerate(pairwise(of_block)):
            weight = self.weights[depth][above]
            bases.append(torch.addmm(self.biases[depth][above, None], weight, self.states[depth]))
            owns.append(self._own(weight, depth, below, depth + 1, above))
        beside = None
        if self.direct is not None:
            weight = self.direct[of_block[-1]]
            bases[-1].addmm_(weight, self.states[0])
            beside = self._own(weight, 0, of_block[0], -1, of_block[-1])
        here = [noise.new_zeros(len(features), noise.shape[-1]) for features in of_block]
        inputs, *hidden, outputs = here
        values = given
        for _ in range(len(noise)):
            below = inputs
            for base, own, above in zip(bases, owns, hidden, strict=False):
                below = torch.addmm(base, own, below, out=above).relu_()
            torch.addmm(bases[-1], owns[-1], below, out=outputs)
            if beside is not None:
                outputs.addmm_(beside, inputs)
            values = self._decide(outputs, noise)
            if held is not None:
                values = torch.where(held, given.to(values), values)
            if trace is not None:
                trace.network_evaluations += 1
                trace.sequential_depth += 1
            encoded = self._encode(values)
            if torch.equal(encoded, inputs):
                break
            inputs.copy_(encoded)
        for state, features, computed in zip(self.states, of_block, here, strict=False):
            state[features] = computed
        return values.to(torch.uint8)

    def _own(self, weight: Tensor, source: int, of: Tensor, target: int, to: Tensor) -> Tensor:
        """Returns (to, of), what a block's own features of one layer say to those of another."""
        seen = self.after[target][to, None] >= self.after[source][of]
        return weight[:, of] * seen

    def _decide(self, outputs: Tensor, noise: Tensor) -> Tensor:
        """Maps outputs (B * O, N) and noise (B, N) or (B, levels, N) to values (B, N)."""
        if self.binary:
            return outputs > noise
        return (outputs.view(noise.shape) + noise).argmax(dim=1)

    def _encode(self, values: Tensor) -> Tensor:
        """Maps values (B, N) to inputs (B * E, N)."""
        dtype = self.states[0].dtype
        if self.one_hot:
            return F.one_hot(values.long(), self.levels).transpose(1, 2).flatten(0, 1).to(dtype)
        return values.to(dtype) / (self.levels - 1)


def _by_block(blocks: Tensor, num_blocks: int) -> list[Tensor]:
    """Maps the block of every feature to the features of every block, in ascending order."""
    counts = torch.bincount(blocks, minlength=num_blocks).tolist()
    return list(torch.split(blocks.argsort(stable=True), counts))
