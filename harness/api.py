"""The same from Python, for notebooks: run a spec, load its model."""

from __future__ import annotations

import os
from pathlib import Path

from harness.discovery import loading
from harness.discovery.manager import plugin_manager
from harness.interface.model import Model
from harness.interface.spec import RunSpec
from harness.records.record import RunRecord
from harness.records.store import Artifacts
from harness.running import coordinator
from harness.running.loading import load_model
from harness.running.settings import Settings


def _settings(artifacts: str | Path | None, data: str | Path | None, device: str) -> Settings:
    root = Path(artifacts or os.environ.get("HARNESS_ARTIFACTS") or ".harness")
    return Settings(Artifacts(root), None if data is None else Path(data), device=device, redo_stale=True)


def run(spec: RunSpec, *, artifacts: str | Path | None = None, data: str | Path | None = None) -> RunRecord:
    """Trains and scores what is missing of a run, or is stale, in a child process, and returns its record.

    A training that fails is a record of status ``failed``, not an exception.

    Args:
        spec: what to do.
        artifacts: the artifact folder; ``HARNESS_ARTIFACTS`` or ``.harness`` by default.
        data: the data folder; ``HARNESS_DATA`` or the user's cache folder by default.

    Raises:
        ValueError: an unknown name, a wrong hyperparameter, missing data.
    """
    return coordinator.run(spec, _settings(artifacts, data, spec.device))


def load(
    run: str | RunRecord, *, artifacts: str | Path | None = None, data: str | Path | None = None, device: str = "auto"
) -> Model:
    """Returns the trained model of a run.

    ``run`` is its record or its name, ``device`` where the model is put: ``auto`` or a name; ``artifacts`` and ``data``
    are as for ``harness.run``. A ValueError says that there is no such run, or that it has no trained weights.
    """
    settings = _settings(artifacts, data, device)
    record = settings.artifacts.store.get(run) if isinstance(run, str) else run
    if record is None:
        raise ValueError(f"no run {run!r} in {settings.artifacts.root}")
    return load_model(record, settings)


def with_samplers(model: loading.M) -> loading.M:
    """Gives a model made by hand the samplers that plugins registered for its class; one from ``load`` has them."""
    return loading.with_samplers(plugin_manager(), model, everyones=True)
