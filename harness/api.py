"""The same from Python, for notebooks: run a spec, load its model."""

from __future__ import annotations

import os
from pathlib import Path

from harness.discovery import loading
from harness.discovery.manager import plugin_manager
from harness.interface.data_folder import DataFolder
from harness.interface.model import Model
from harness.interface.spec import RunSpec
from harness.records.record import RunRecord
from harness.records.store import Artifacts
from harness.running.coordinator import run_plan
from harness.running.keys import warn_of_changes
from harness.running.planning import Plan, Settings
from harness.suites.suite import Row
from harness.support.checkpoint import load_weights
from harness.support.environment import choose_device
from harness.support.randomness import isolated_rng


def _settings(artifacts: str | Path | None, data: str | Path | None, device: str) -> Settings:
    root = Path(artifacts or os.environ.get("HARNESS_ARTIFACTS") or ".harness")
    return Settings(Artifacts(root), None if data is None else Path(data), device=device, redo_stale=True)


def run(spec: RunSpec, *, artifacts: str | Path | None = None, data: str | Path | None = None) -> RunRecord:
    """Trains and scores what is missing of a run, or is stale, in a child process, and returns its record.

    A training that fails is a record of status ``failed``; an unknown name, a wrong hyperparameter or missing data of
    the ``spec`` are a ValueError. ``artifacts`` is the artifact folder, ``HARNESS_ARTIFACTS`` or ``.harness`` by
    default; ``data`` the data folder, ``HARNESS_DATA`` or the user's cache folder by default.
    """
    row = Row(spec.model, spec.dataset, spec.model, None, ((spec,),))
    outcome = run_plan(Plan([row], _settings(artifacts, data, spec.device), Path()))
    if outcome.interrupted:
        raise KeyboardInterrupt
    return outcome.records[0]


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


def load_model(record: RunRecord, settings: Settings) -> Model:
    """Returns a run's trained model on its device, in evaluation mode; see ``load``."""
    folder = settings.artifacts.folder(record.run)
    if folder.fit() is None:
        raise ValueError(f"run {record.run!r} has no trained weights: its status is {record.status}")
    plugins = plugin_manager(settings.blocked).at(folder.code_folder())
    data = loading.load_dataset(plugins, folder.located(record.spec).dataset, DataFolder.resolve(settings.data))
    warn_of_changes(record, plugins, data)
    device = choose_device(settings.device)
    with isolated_rng(record.spec.seed, device):
        model = loading.build_model(plugins, record.spec, data, device, everyones_samplers=True)
    load_weights(folder.weights, model)
    return model.eval()


def with_samplers(model: loading.M) -> loading.M:
    """Gives a model made by hand the samplers that plugins registered for its class; one from ``load`` has them."""
    return loading.with_samplers(plugin_manager(), model, everyones=True)
