"""Where the figures of older records belong: they were written before metrics said their board and their header."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from harness.support.names import heading

OTHER = "other"
"""The board of a metric that says none."""

_BOARDS = (
    (r"nll|bits-per-dim|entropy-gap", "likelihood"),
    (r"negative-elbo|bits-per-dim-bound|iwae-\d+|active-units", "bounds"),
    (r"(fid|kid)(-.+)?", "sample-quality"),
    (r"parameters-\w+|flops-\w+|fit-seconds", "cost"),
    (r"\w+-throughput|sampling-latency|peak-memory", "throughput"),
    (r"audit", ""),
)
_HEADERS = {
    "nll": "NLL",
    "entropy-gap": "Gap to the entropy",
    "negative-elbo": "Negative ELBO",
    "bits-per-dim-bound": "Negative ELBO",
    "parameters-sampling": "Parameters sampling",
    "parameters-training": "Parameters trained",
    "flops-scoring": "FLOPs scoring",
    "flops-sampling": "FLOPs sampling",
    "fit-seconds": "Training time",
    "training-throughput": "Training",
    "scoring-throughput": "Scoring",
    "sampling-throughput": "Sampling",
    "sampling-latency": "Latency",
}


@lru_cache(maxsize=1024)
def known_board(metric: str) -> str | None:
    """Returns the board of a built-in metric by its name; None for any other metric."""
    return next((board for pattern, board in _BOARDS if re.fullmatch(pattern, metric)), None)


def completed(score: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the fields of a score with the board and the header that an older record does not state."""
    metric = score.get("metric")
    if not isinstance(metric, str):
        return dict(score)
    board = known_board(metric)
    return {"board": OTHER if board is None else board, "header": _header(metric), **score}


@lru_cache(maxsize=1024)
def _header(metric: str) -> str:
    if found := re.fullmatch(r"iwae-(\d+)", metric):
        return f"IWAE, K = {found[1]}"
    if found := re.fullmatch(r"(fid|kid)(-.+)?", metric):
        return found[1].upper()
    return _HEADERS.get(metric) or heading(metric)
