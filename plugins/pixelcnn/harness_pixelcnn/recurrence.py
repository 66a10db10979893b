"""An LSTM over the pixels of an image, many at a time: over rows, or over diagonals, with its gradient by hand.

Maps lie as (directions, features, cells, images), the cells of a step next to one another. What a tap of the kernel
reads is then a slice of the step before, what it adds to is a slice of this one, and a step is one matrix product a
tap. The sigmoids of all gates are one call: tanh(a) = 2 sigmoid(2a) - 1, the 2 being folded into the weights.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True)
class Tap:
    """Cells ``into`` of a step read cells ``source``, of the step before: two ranges of equal length."""

    source: slice
    into: slice


@dataclass(frozen=True)
class Step:
    """Cells that are computed at once, and what each tap of the kernel reads; the first tap carries the cell's state.

    A tap without cells is None.
    """

    cells: slice
    taps: tuple[Tap | None, ...]


def rows_schedule(height: int, width: int) -> list[Step]:
    """Returns the steps over rows, of cells in raster order, with the taps above, above left, above right."""
    steps = []
    for row in range(height):
        here = row * width
        cells = slice(here, here + width)
        if row == 0:
            steps.append(Step(cells, (None, None, None)))
            continue
        taps: list[Tap | None] = [Tap(slice(here - width, here), cells)]
        aside = width > 1
        taps.append(Tap(slice(here - width, here - 1), slice(here + 1, here + width)) if aside else None)
        taps.append(Tap(slice(here - width + 1, here), slice(here, here + width - 1)) if aside else None)
        steps.append(Step(cells, tuple(taps)))
    return steps


def diagonal_order(height: int, width: int) -> Tensor:
    """Returns (H * W,) int64: raster positions, diagonal after diagonal from the upper left, each from its top row."""
    rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    return ((rows + columns) * height + rows).flatten().argsort()


def diagonals_schedule(height: int, width: int) -> list[Step]:
    """Returns the steps over diagonals, of cells in ``diagonal_order``, with the taps left of a pixel and above it."""
    steps: list[Step] = []
    for diagonal in range(height + width - 1):
        first, last = max(0, diagonal - width + 1), min(height - 1, diagonal)  # rows
        start = steps[-1].cells.stop if steps else 0
        cells = slice(start, start + last - first + 1)
        if diagonal == 0:
            steps.append(Step(cells, (None, None)))
            continue
        before, before_first = steps[-1].cells.start, max(0, diagonal - width)
        taps: list[Tap | None] = []
        for up in (0, 1):
            # rows whose pixel is not at the left edge (up = 0), not at the upper edge (up = 1)
            low, high = (first, min(last, diagonal - 1)) if up == 0 else (max(first, 1), last)
            source = before + low - up - before_first
            length = high - low + 1
            into = start + low - first
            taps.append(Tap(slice(source, source + length), slice(into, into + length)) if length > 0 else None)
        steps.append(Step(cells, tuple(taps)))
    return steps


def _times(part: slice, images: int) -> slice:
    return slice(part.start * images, part.stop * images)


def _plan(schedule: list[Step], images: int) -> Iterator[tuple[slice, list[tuple[int, slice, slice]]]]:
    for step in schedule:
        taps = [
            (index, _times(tap.source, images), _times(tap.into, images))
            for index, tap in enumerate(step.taps)
            if tap is not None
        ]
        yield _times(step.cells, images), taps


class _Recurrence(torch.autograd.Function):
    # gates in the order output, forget, input, candidate; all maps are (directions, features, cells * images)
    @staticmethod
    def forward(ctx: Any, pre: Tensor, weight: Tensor, schedule: list[Step], images: int) -> Tensor:
        directions, four, length = pre.shape
        size = four // 4
        gates = torch.empty_like(pre)
        cell, squashed, hidden = (pre.new_empty(directions, size, length) for _ in range(3))
        for cells, taps in _plan(schedule, images):
            now = gates[..., cells]
            now.copy_(pre[..., cells])
            for index, source, into in taps:
                target = gates[..., into]
                for direction in range(directions):
                    target[direction].addmm_(weight[direction, index], hidden[direction, :, source])
            now.sigmoid_()
            out, forget, into_cell, candidate = now.split(size, dim=1)  # type: ignore[no-untyped-call]  # noqa: RUF059
            state, tanh = cell[..., cells], squashed[..., cells]
            # i (2 s - 1)
            torch.addcmul(into_cell, into_cell, candidate, value=-2, out=state).neg_()
            for index, source, into in taps:
                if index == 0:
                    cell[..., into].addcmul_(gates[:, size : 2 * size, into], cell[..., source])
            torch.mul(state, 2, out=tanh).sigmoid_().mul_(2).sub_(1)
            torch.mul(out, tanh, out=hidden[..., cells])
        ctx.save_for_backward(gates, cell, squashed, hidden, weight)
        ctx.schedule, ctx.images = schedule, images
        return hidden

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, None, None]:
        (gradient,) = gradients
        gates, cell, squashed, hidden, weight = ctx.saved_tensors
        directions, size, _ = hidden.shape
        by_hidden = gradient.clone(memory_format=torch.contiguous_format)
        by_cell = torch.zeros_like(by_hidden)
        by_pre = torch.empty_like(gates)
        transposed = weight.transpose(2, 3)
        plan = list(_plan(ctx.schedule, ctx.images))
        for cells, taps in reversed(plan):
            out, forget, into_cell, candidate = gates[..., cells].split(size, dim=1)  # noqa: RUF059
            by = by_pre[..., cells]
            by_out, by_forget, by_into, by_candidate = by.split(size, dim=1)  # type: ignore[no-untyped-call]
            state, tanh, by_state = by_hidden[..., cells], squashed[..., cells], by_cell[..., cells]
            torch.mul(state, tanh, out=by_out)
            through = state * out
            by_state.add_(torch.ops.aten.tanh_backward(through, tanh))
            torch.mul(candidate, 2, out=by_into).sub_(1).mul_(by_state)
            torch.mul(by_state, into_cell, out=by_candidate).mul_(2)
            by_forget.zero_()
            for index, source, into in taps:
                if index == 0:
                    torch.mul(by_cell[..., into], cell[..., source], out=by_pre[:, size : 2 * size, into])
                    by_cell[..., source].addcmul_(by_cell[..., into], gates[:, size : 2 * size, into])
            torch.ops.aten.sigmoid_backward.grad_input(by, gates[..., cells], grad_input=by)
            for index, source, into in taps:
                for direction in range(directions):
                    by_hidden[direction, :, source].addmm_(transposed[direction, index], by_pre[direction, :, into])
        by_weight = torch.zeros_like(weight)
        for cells, taps in plan:  # noqa: B007
            for index, source, into in taps:
                for direction in range(directions):
                    by_weight[direction, index].addmm_(by_pre[direction, :, into], hidden[direction, :, source].T)
        return by_pre, by_weight, None, None


def recurrence(pre: Tensor, weight: Tensor, schedule: list[Step]) -> Tensor:
    r"""Runs an LSTM over the steps of a schedule.

    .. math:: (o, f, i, s) = \sigma(pre + \sum_t W_t h_t), \quad c = f c_0 + i (2 s - 1), \quad h = o \tanh(c)

    Args:
        pre: (directions, 4P, cells, N), what comes from the input, for the gates o, f, i and the candidate.
        weight: (directions, taps, 4P, P).
        schedule: the steps.

    Returns:
        (directions, P, cells, N): h.
    """
    directions, _, cells, images = pre.shape
    flat: Tensor = _Recurrence.apply(pre.reshape(directions, -1, cells * images), weight, schedule, images)  # type: ignore[no-untyped-call]
    return flat.view(directions, -1, cells, images)
