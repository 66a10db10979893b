"""The hook specifications: what a plugin may register, and what it may observe.

A plugin is a module (or any object) registered through the entry-point group ``harness`` that implements some of these
with ``@harness.hookimpl``. Everything built in goes through the same hooks. A plugin named ``kde``, whole::

    import harness

    @harness.hookimpl
    def register_models():
        return [harness.ModelEntry("kde", "harness_kde:KDE", summary="a Gaussian on every training image")]
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import pluggy

from harness.interface import entries

if TYPE_CHECKING:
    from harness.interface.spec import RunSpec
    from harness.records.record import RunRecord

PROJECT = "harness"

hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)


@hookspec
def register_datasets() -> Sequence[entries.DatasetEntry]:  # type: ignore[empty-body]
    """Returns the datasets that this plugin adds."""


@hookspec
def register_models() -> Sequence[entries.ModelEntry]:  # type: ignore[empty-body]
    """Returns the models that this plugin adds."""


@hookspec
def register_metrics() -> Sequence[entries.MetricEntry]:  # type: ignore[empty-body]
    """Returns the metrics that this plugin adds."""


@hookspec
def register_networks() -> Sequence[entries.NetworkEntry]:  # type: ignore[empty-body]
    """Returns the feature networks that this plugin adds, for every metric that compares features."""


@hookspec
def register_samplers() -> Sequence[entries.SamplerEntry]:  # type: ignore[empty-body]
    """Returns the samplers that this plugin adds, for its own models or those of others."""


@hookspec
def register_boards() -> Sequence[entries.BoardEntry]:  # type: ignore[empty-body]
    """Returns the boards that this plugin adds. A board that nobody registers is made by the default engine."""


@hookspec
def register_figures() -> Sequence[entries.FigureEntry]:  # type: ignore[empty-body]
    """Returns the figures that this plugin adds: pictures of trained models, or of records."""


@hookspec
def register_executors() -> Sequence[entries.ExecutorEntry]:  # type: ignore[empty-body]
    """Returns the executors that this plugin adds: where and how the child processes of a suite run."""


@hookspec
def run_started(spec: RunSpec) -> None:
    """Called in the coordinating process before a run's first stage starts. For experiment trackers."""


@hookspec
def run_finished(record: RunRecord) -> None:
    """Called in the coordinating process with a run's record, whatever its status, once it is stored."""
