"""The nearest of a set of vectors, by Euclidean distance."""

import torch
from torch import Tensor

_BLOCK = 2**23  # products at a time


def nearest(queries: Tensor, reference: Tensor, *, but: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Returns each query's distance to its nearest in the reference, (N,) float64, and that one's index, (N,) int64.

    ``queries`` are (N, D), ``reference`` (M, D), both float64. ``but``, (N,) int64, names one reference for each query
    that does not count, such as itself. Of equals the first is named. |y|^2 - 2 x y finds the nearest, and x - y then
    gives the distance: that of a copy is exactly zero, which the first formula alone would round.
    """
    if len(reference) < (1 if but is None else 2):
        raise ValueError(f"{len(reference)} vectors to search: there is none to be the nearest")
    squares, rows = reference.square().sum(1), max(1, _BLOCK // len(reference))
    distances, indices = [], []
    for start in range(0, len(queries), rows):
        some = queries[start : start + rows]
        block = torch.addmm(squares, some, reference.T, alpha=-2)
        if but is not None:
            block.scatter_(1, but[start : start + rows, None], torch.inf)
        indices.append(block.argmin(1))
        distances.append((some - reference[indices[-1]]).square().sum(1).sqrt())
    return torch.cat(distances), torch.cat(indices)
