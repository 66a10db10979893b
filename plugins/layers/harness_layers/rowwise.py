"""Raster sampling row by row, each activation computed once: the loop around a network that keeps what it computed.

A program answers three questions: what the rows above say (once for each row), what an entry's distribution is (once
for each entry), and where its value goes. It works in buffers that stay where they are: on CUDA a whole row is one
graph.
"""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from harness import ImageSpec, Noise, SamplingTrace


class RowProgram(Protocol):
    """A network that is evaluated entry by entry, in raster order, the channels of a pixel in turn.

    ``begin_row`` is called once for each row, from the first to the last; ``outputs`` and ``put`` once for each entry
    of it.
    """

    def begin_row(self) -> None:
        """Goes to the next row: takes in the row that was completed, and computes what the rows above say."""
        ...

    def outputs(self, column: int, channel: int) -> Tensor:
        """Returns (N, O), the outputs for an entry; all earlier entries have been put."""
        ...

    def put(self, column: int, channel: int, scaled: Tensor) -> None:
        """Takes the values (N, 1) of an entry, scaled to [-1, 1]."""
        ...


class WholeRowProgram(Protocol):
    """A network that is evaluated a row at a time."""

    def begin_row(self) -> None:
        """Goes to the next row: takes in the row that was completed, and computes what the rows above say."""
        ...

    def row_outputs(self, scaled: Tensor) -> Tensor:
        """Maps a whole row (W, C, N, 1), scaled to [-1, 1], to its outputs (W, C, N, O); the last call is the row."""
        ...


class _Row:
    """The buffers of one row: its noise, what is known of it, what has been drawn; they stay where they are."""

    def __init__(self, spec: ImageSpec, noise: Noise, known: Tensor | None, mask: Tensor | None) -> None:
        device, dtype = noise.gumbel.device, noise.gumbel.dtype
        num_samples = len(noise.gumbel)
        self.spec, self.binary = spec, spec.levels == 2
        # (H, W, C, N, levels): what an entry needs lies together
        gumbel = noise.gumbel.permute(3, 4, 2, 0, 1)
        # a binary entry is one where its logit is above the difference of the two
        self.all_noise = (gumbel[..., :1] - gumbel[..., 1:] if self.binary else gumbel).contiguous()
        self.scale = torch.arange(spec.levels, device=device, dtype=dtype) * (2 / max(1, spec.levels - 1)) - 1
        self.noise = torch.empty_like(self.all_noise[0])
        self.scaled = torch.empty(spec.width, spec.channels, num_samples, 1, device=device, dtype=dtype)
        self.all_known = self.all_mask = None
        if known is not None and mask is not None:
            shape = (num_samples, *spec.shape)
            self.all_known = self.scale[known.to(device).long()].permute(2, 3, 1, 0).unsqueeze(-1).contiguous()
            self.all_mask = mask.to(device).expand(shape).permute(2, 3, 1, 0).unsqueeze(-1).contiguous()
            self.known, self.mask = torch.empty_like(self.all_known[0]), torch.empty_like(self.all_mask[0])

    def turn_to(self, row: int) -> None:
        """Fills the buffers with what belongs to a row."""
        self.noise.copy_(self.all_noise[row])
        if self.all_known is not None and self.all_mask is not None:
            self.known.copy_(self.all_known[row])
            self.mask.copy_(self.all_mask[row])

    def decide(self, outputs: Tensor, noise: Tensor) -> Tensor:
        """Maps outputs and noise (..., O) to scaled values (..., 1)."""
        if self.binary:
            return torch.where(outputs > noise, self.scale[1], self.scale[0])
        return self.scale[(outputs + noise).argmax(-1, keepdim=True)]

    def draw(self, program: RowProgram) -> None:
        """Draws the entries of a row, one after another."""
        program.begin_row()
        for column in range(self.spec.width):
            for channel in range(self.spec.channels):
                scaled = self.decide(program.outputs(column, channel), self.noise[column, channel])
                if self.all_mask is not None:
                    scaled = torch.where(self.mask[column, channel], self.known[column, channel], scaled)
                self.scaled[column, channel] = scaled
                program.put(column, channel, scaled)

    def iterate(self, program: WholeRowProgram) -> int:
        """Draws the entries of a row all at once, again and again until nothing changes; returns how often."""
        program.begin_row()
        self.scaled.copy_(self.scale[0].expand_as(self.scaled))
        if self.all_mask is not None:
            self.scaled.copy_(torch.where(self.mask, self.known, self.scaled))
        for iteration in range(1, self.spec.width * self.spec.channels + 2):
            drawn = self.decide(program.row_outputs(self.scaled), self.noise)  # (W, C, N, 1)
            if self.all_mask is not None:
                drawn = torch.where(self.mask, self.known, drawn)
            if torch.equal(drawn, self.scaled):
                return iteration
            self.scaled.copy_(drawn)
        raise AssertionError("a row that does not come to rest sees its own future")

    def values(self) -> Tensor:
        """Returns what was drawn, (W, C, N) uint8."""
        return ((self.scaled[..., 0] + 1) * ((self.spec.levels - 1) / 2)).round().to(torch.uint8)


def draw_by_rows(program: RowProgram, spec: ImageSpec, noise: Noise, *, known: Tensor | None = None,
                 mask: Tensor | None = None, trace: SamplingTrace | None = None) -> Tensor:  # fmt: skip
    """Draws images in raster order, by x_k = argmax_v (logit_v + gumbel_v), as the raster sampler does.

    On CUDA the first row is drawn as it is, and the work of every other row is one replayed graph.

    Args:
        program: the network, before its first row, for N images.
        spec: the sample space.
        noise: the randomness of N images.
        known, mask: pixels to clamp, see ``harness.Sampler``.
        trace: gets D network evaluations, each for one entry alone, and a sequential depth of D.

    Returns:
        (N, C, H, W) uint8.
    """
    check_known(known, mask)
    with torch.inference_mode():
        row = _Row(spec, noise, known, mask)
        images = _empty(spec, noise)
        graph: torch.cuda.CUDAGraph | None = None
        for index in range(spec.height):
            row.turn_to(index)
            if images.device.type == "cuda" and index == 1:
                graph = torch.cuda.CUDAGraph()
                with torch.cuda.graph(graph):  # records, and does not run
                    row.draw(program)
            if graph is None:
                row.draw(program)
            else:
                graph.replay()
            images[index] = row.values()
    if trace is not None:
        trace.network_evaluations += spec.num_dimensions
        trace.sequential_depth += spec.num_dimensions
    return images.permute(3, 2, 0, 1).clone(memory_format=torch.contiguous_format)


def iterate_by_rows(program: WholeRowProgram, spec: ImageSpec, noise: Noise, *, known: Tensor | None = None,
                    mask: Tensor | None = None, trace: SamplingTrace | None = None) -> Tensor:  # fmt: skip
    """Draws the images that ``draw_by_rows`` draws, each row by parallel fixed-point iteration (Jacobi).

    What comes to rest under its own noise is the raster sample, by causality: the first entry is right after one
    iteration, the next after two, and so on; most rows need far fewer iterations than they have entries. See Song,
    Meng, Liao & Ermon 2021, arXiv 2002.03629.

    Args:
        program: the network, before its first row, for N images.
        spec: the sample space.
        noise: the randomness of N images.
        known, mask: pixels to clamp, see ``harness.Sampler``.
        trace: gets a network evaluation, and a sequential depth of one, for each iteration; each is of a single row.

    Returns:
        (N, C, H, W) uint8.
    """
    check_known(known, mask)
    iterations = 0
    with torch.inference_mode():
        row = _Row(spec, noise, known, mask)
        images = _empty(spec, noise)
        for index in range(spec.height):
            row.turn_to(index)
            iterations += row.iterate(program)
            images[index] = row.values()
    if trace is not None:
        trace.network_evaluations += iterations
        trace.sequential_depth += iterations
    return images.permute(3, 2, 0, 1).clone(memory_format=torch.contiguous_format)


def _empty(spec: ImageSpec, noise: Noise) -> Tensor:
    shape = (spec.height, spec.width, spec.channels, len(noise.gumbel))
    return torch.empty(shape, dtype=torch.uint8, device=noise.gumbel.device)


def check_known(known: Tensor | None, mask: Tensor | None) -> None:
    """Raises ValueError for one of ``known`` and ``mask`` without the other."""
    if (known is None) != (mask is None):
        raise ValueError("known pixels need a mask, and a mask needs known pixels")
