"""From what is asked for to what there is to do: a spec becomes a run with a key, and the figures it is to have."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from harness.discovery.loading import (
    as_json,
    build_model,
    drawing_code,
    load_dataset,
    load_metric,
    load_model_class,
    model_code,
    resolve,
)
from harness.discovery.manager import plugin_manager
from harness.interface.data_folder import DataFolder
from harness.interface.dataset import Dataset
from harness.interface.executor import Stage
from harness.interface.metric import Metric
from harness.interface.model import Model, Unsupported
from harness.interface.spec import Budget, RunSpec
from harness.records.record import VALID_PREFIX, RunRecord, identity_of
from harness.running.inspection import PlannedRun, inspect
from harness.running.settings import Settings
from harness.suites.suite import Row
from harness.support.checkpoint import load_weights
from harness.support.environment import choose_device, fingerprint
from harness.support.names import digest_of, slug
from harness.support.randomness import isolated_rng


@dataclass(frozen=True)
class PlannedRow:
    """A row of a board: for each configuration of its grid, its runs, one for each seed."""

    row: Row
    configurations: tuple[tuple[PlannedRun, ...], ...]
    selection_metric: str | None = None

    def runs(self) -> list[PlannedRun]:
        """Returns all runs of all configurations."""
        return [run for configuration in self.configurations for run in configuration]


class Planner:
    """Turns specs into planned runs; loads each dataset, model class and metric once.

    Args:
        settings: how runs are done.
        code_folder: what names such as ``my_model.py:KDE`` are relative to.
    """

    def __init__(self, settings: Settings, code_folder: Path) -> None:
        self.settings, self.retry_failed = settings, settings.retry_failed
        self.plugins = plugin_manager(settings.blocked).at(code_folder)
        self._data_folder = DataFolder.resolve(settings.data)
        self._datasets: dict[str, tuple[Dataset, str]] = {}
        self._metrics: dict[str, Metric] = {}
        self._codes: dict[str, tuple[str, str]] = {}

    def plan_row(self, row: Row) -> PlannedRow:
        """Plans a row; with a grid, configurations get one figure on the validation split, and no other yet.

        Raises:
            ValueError: see ``plan_run``; or no metric can choose among the configurations of a grid.
        """
        metric = self._selection_metric(row) if len(row.configurations) > 1 else None
        planned = tuple(
            tuple(self.plan_run(spec, speed=index == 0, selection=metric) for index, spec in enumerate(configuration))
            for configuration in row.configurations
        )
        return PlannedRow(row, planned, metric)

    def plan_run(self, spec: RunSpec, *, speed: bool = True, selection: str | None = None) -> PlannedRun:
        """Plans a run.

        Args:
            spec: what is asked for.
            speed: whether speeds are measured on this run.
            selection: a metric that is scored on the validation split, instead of all others.

        Raises:
            ValueError: an unknown name, a wrong hyperparameter, missing data, a device that is not there, a checkpoint
                that does not fit.
        """
        if spec.device == "auto":
            spec = spec.model_copy(update={"device": self.settings.device})
        record = self._describe(spec)
        if selection is not None:
            version = self._metric(selection).version
            key = digest_of([record.key, selection, version, "valid"])
            stages = (Stage(f"{VALID_PREFIX}{selection}", selection, key, "valid"),)
            return self.look_again(PlannedRun(record, "missing", stages))
        quality, speeds = self._stages(record)
        return self.look_again(PlannedRun(record, "missing", tuple(quality), tuple(speeds) if speed else ()))

    def _describe(self, spec: RunSpec) -> RunRecord:
        model_class = load_model_class(self.plugins, spec.model)
        hyperparameters = as_json(resolve(model_class, spec.hyperparameters))
        data, dataset_digest = self._dataset(spec.dataset)
        checkpoint = _file_digest(spec.checkpoint)
        self._check_weights(spec, data)
        code, _ = self._codes_of(spec.model)
        budget = str(Budget.parse(spec.budget or model_class.default_budget))
        key = digest_of(
            {
                "model": spec.model,
                "hyperparameters": hyperparameters,
                "dataset": spec.dataset,
                "data": dataset_digest,
                "budget": None if spec.checkpoint else budget,
                "seed": spec.seed,
                "precision": spec.precision,
                "threads": spec.threads,
                "code": code,
                "checkpoint": checkpoint,
            }
        )
        return RunRecord(
            run=f"{slug(spec.model)}-{slug(spec.dataset)[:40]}-s{spec.seed}-{key[:10]}",
            key=key,
            identity=identity_of(spec),
            spec=spec,
            hyperparameters=hyperparameters,
            provider=self.plugins.provider("model", spec.model).source,
            code=code,
            dataset_digest=dataset_digest,
            split_protocol=data.split_protocol,
            num_images={"train": len(data.train), "valid": len(data.valid), "test": len(data.test)},
            image_shape=(*data.spec.shape, data.spec.levels),
            status="pending",
        )

    def _stages(self, record: RunRecord) -> tuple[list[Stage], list[Stage]]:
        """Returns the figures that the model can be measured by: those of quality and cost, and speeds."""
        spec = record.spec
        model_class, (code, drawing) = load_model_class(self.plugins, spec.model), self._codes_of(spec.model)
        where = fingerprint(choose_device(spec.device), spec.threads)
        quality, speeds = list[Stage](), list[Stage]()
        for name in spec.metrics:
            metric = self._metric(name)
            if not issubclass(model_class, metric.requires):
                continue
            # a metric that asks for no likelihood may look at samples
            basis = [record.key, *([drawing] if metric.requires is Model and drawing != code else [])]
            parts = [*basis, name, metric.version, "test"]
            if metric.stage == "speed":
                speeds.append(Stage(f"{name}@{where}", name, digest_of([*parts, where])))
            else:
                quality.append(Stage(name, name, digest_of(parts)))
        return quality, speeds

    def look_again(self, planned: PlannedRun) -> PlannedRun:
        """Finds what is there of a run by now: another process may have done some of it in the meantime."""
        return inspect(planned, self.settings, retry_failed=self.retry_failed)

    def _check_weights(self, spec: RunSpec, data: Dataset) -> None:
        if spec.checkpoint is None:
            return
        device = torch.device("cpu")
        try:
            with isolated_rng(spec.seed, device):
                model = build_model(self.plugins, spec, data, device)
        except Unsupported:
            return  # the run says so
        load_weights(Path(spec.checkpoint), model)

    def check_names(self, rows: Sequence[Row]) -> None:
        """Checks every name of a suite before anything is loaded.

        Raises:
            ValueError: the first unknown dataset, model or metric.
        """
        for row in rows:
            self.plugins.find("dataset", row.dataset)
            self.plugins.find("model", row.model)
            for metric in row.configurations[0][0].metrics:
                self.plugins.find("metric", metric)

    def _selection_metric(self, row: Row) -> str:
        model_class = load_model_class(self.plugins, row.model)
        for name in row.configurations[0][0].metrics:
            metric = self._metric(name)
            if metric.can_choose and metric.stage == "quality" and issubclass(model_class, metric.requires):
                return name
        raise ValueError(
            f"{row.label!r}: a grid needs a quality metric that {row.model!r} can be scored by, to choose on"
        )

    def _dataset(self, name: str) -> tuple[Dataset, str]:
        if name not in self._datasets:
            data = load_dataset(self.plugins, name, self._data_folder)
            self._datasets[name] = (data, data.digest())
        return self._datasets[name]

    def _codes_of(self, model: str) -> tuple[str, str]:
        """Returns the digests of the code that a model's weights depend on, and its samples."""
        if model not in self._codes:
            self._codes[model] = model_code(self.plugins, model), drawing_code(self.plugins, model)
        return self._codes[model]

    def _metric(self, name: str) -> Metric:
        if name not in self._metrics:
            self._metrics[name] = load_metric(self.plugins, name)
        return self._metrics[name]


def _file_digest(path: str | None) -> str | None:
    if path is None:
        return None
    try:
        return hashlib.sha256(Path(path).read_bytes()).hexdigest()
    except OSError as error:
        raise ValueError(f"checkpoint {path!r}: cannot be read: {error.strerror}") from error
