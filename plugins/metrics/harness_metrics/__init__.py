"""Metrics of sample quality, memorisation and learned representations, beside those of the core."""

from __future__ import annotations

from collections.abc import Sequence

from harness import MetricEntry, hookimpl

ENTRIES: tuple[MetricEntry, ...] = ()


@hookimpl
def register_metrics() -> Sequence[MetricEntry]:
    """Returns the metrics of this package."""
    return ENTRIES
