"""What there is to do for a set of runs: hit, resume, missing, stale, failed. Plans; does nothing."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Literal

import torch

from harness.checkpoint import load_weights
from harness.code_digest import code_digest
from harness.dataset import Dataset
from harness.datasets.folder import DataFolder
from harness.environment import choose_device, fingerprint
from harness.hyperparameters import as_json, resolve
from harness.metric import Metric
from harness.model import Model, Unsupported
from harness.plugins import PluginManager
from harness.randomness import isolated_rng
from harness.record import RunRecord, identity_of
from harness.run_folder import RunFolder, slug
from harness.runner import Stage, build_model, load_dataset, load_metric, load_model_class
from harness.selection import VALID_PREFIX
from harness.spec import Budget, RunSpec, digest_of
from harness.store import Store
from harness.suite import Row

RunState = Literal["hit", "resume", "missing", "scores missing", "stale", "failed", "skipped"]


@dataclass(frozen=True)
class Artifacts:
    """The folder that holds runs and store."""

    root: Path

    def folder(self, run: str) -> RunFolder:
        """Returns a run's folder."""
        return RunFolder(self.root / "runs" / run)

    @cached_property
    def store(self) -> Store:
        """The records."""
        return Store.in_folder(self.root)


@dataclass(frozen=True)
class PlannedRun:
    """One run of a plan.

    Attributes:
        record: the run as it will be described: name, key, identity, spec; no results.
        state: what is there already.
        stages: quality and cost figures that are missing.
        speed_stages: speeds that are missing; measured alone, after everything else.
        stale_stages: figures that an older version of a metric computed.
        stale_run: for state ``stale``, the run of the same identity whose code or data have changed since.
    """

    record: RunRecord
    state: RunState
    stages: tuple[Stage, ...] = ()
    speed_stages: tuple[Stage, ...] = ()
    stale_stages: tuple[str, ...] = ()
    stale_run: str | None = None

    @property
    def run(self) -> str:
        """The run's name."""
        return self.record.run


@dataclass(frozen=True)
class PlannedRow:
    """A row of a board: for each configuration of its grid, its runs, one a seed."""

    row: Row
    configurations: tuple[tuple[PlannedRun, ...], ...]
    selection_metric: str | None = None

    def runs(self) -> list[PlannedRun]:
        """Returns all runs of all configurations."""
        return [run for configuration in self.configurations for run in configuration]


class Planner:
    """Turns specs into planned runs; loads each dataset, model class and metric once.

    Args:
        plugins: what is installed.
        artifacts: where runs live.
        data_folder: where data live.
        redo_stale: plan what is stale as missing; old runs and records stay until they are cleaned.
        retry_failed: plan what failed as missing; may be changed between plans.
    """

    def __init__(
        self,
        plugins: PluginManager,
        artifacts: Artifacts,
        data_folder: DataFolder,
        *,
        redo_stale: bool = False,
        retry_failed: bool = False,
    ) -> None:
        self.plugins, self.artifacts, self.data_folder = plugins, artifacts, data_folder
        self._redo_stale, self.retry_failed = redo_stale, retry_failed
        self._datasets: dict[str, tuple[Dataset, str]] = {}
        self._metrics: dict[str, Metric] = {}

    def plan_row(self, row: Row) -> PlannedRow:
        """Plans a row; with a grid, configurations get one figure on the validation split, and no other yet."""
        grid = len(row.configurations) > 1
        metric = self._selection_metric(row) if grid else None
        planned = []
        for configuration in row.configurations:
            runs = []
            for index, spec in enumerate(configuration):
                runs.append(self.plan_run(spec, speed=index == 0, selection=metric))
            planned.append(tuple(runs))
        return PlannedRow(row, tuple(planned), metric)

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
        model_class = load_model_class(self.plugins, spec.model)
        record = self._describe(spec, model_class)
        stages, speeds = self._stages(spec, model_class, record.key, selection)
        return self._inspect(PlannedRun(record, "missing", stages, speeds if speed else ()))

    def _describe(self, spec: RunSpec, model_class: type[Model]) -> RunRecord:
        hyperparameters = as_json(resolve(model_class, spec.hyperparameters))
        data, dataset_digest = self._dataset(spec.dataset)
        checkpoint = _file_digest(spec.checkpoint)
        self._check_weights(spec, data)
        code = code_digest(self.plugins.find("model", spec.model)[0].module, self.plugins.packages())
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

    def _stages(
        self, spec: RunSpec, model_class: type[Model], key: str, selection: str | None
    ) -> tuple[tuple[Stage, ...], tuple[Stage, ...]]:
        if selection is not None:
            version = self._metric(selection).version
            name = f"{VALID_PREFIX}{selection}"
            return (Stage(name, selection, digest_of([key, selection, version, "valid"]), "valid"),), ()
        where = fingerprint(choose_device(spec.device), spec.threads)
        quality, speed = [], []
        for name in spec.metrics:
            metric = self._metric(name)
            if not issubclass(model_class, metric.requires):
                continue
            if metric.stage == "speed":
                speed.append(Stage(f"{name}@{where}", name, digest_of([key, name, metric.version, "test", where])))
            else:
                quality.append(Stage(name, name, digest_of([key, name, metric.version, "test"])))
        return tuple(quality), tuple(speed)

    def _inspect(self, planned: PlannedRun) -> PlannedRun:
        folder = self.artifacts.folder(planned.run)
        failure = folder.failure()
        if failure is not None and failure.type == "Unsupported":
            return replace(planned, state="skipped", stages=(), speed_stages=())
        if failure is not None and not self.retry_failed:
            return replace(planned, state="failed", stages=(), speed_stages=())
        if folder.fit() is None:
            stale = None if self._redo_stale or folder.description() else self._stale_twin(planned.record)
            if stale is not None:
                return replace(planned, state="stale", stale_run=stale)
            return replace(planned, state="resume" if (folder.path / "training.safetensors").exists() else "missing")
        missing: list[Stage] = []
        speeds: list[Stage] = []
        stale_stages: list[str] = []
        failed = False
        for stage in (*planned.stages, *planned.speed_stages):
            score = folder.score(stage.name)
            again = score is not None and (
                (self._redo_stale and score.key != stage.key) or (self.retry_failed and score.status == "failed")
            )
            if score is None or again:
                (missing if stage in planned.stages else speeds).append(stage)
            elif score.key != stage.key:
                stale_stages.append(stage.name)
            else:
                failed |= score.status == "failed"
        state: RunState = "scores missing" if missing or speeds else "failed" if failed else "hit"
        if state == "hit" and stale_stages:
            state = "stale"
        return replace(
            planned, state=state, stages=tuple(missing), speed_stages=tuple(speeds), stale_stages=tuple(stale_stages)
        )

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

    def _stale_twin(self, record: RunRecord) -> str | None:
        twins = self.artifacts.store.records(identities=[record.identity])
        others = [twin for twin in twins if twin.key != record.key and twin.fit is not None]
        return max(others, key=lambda twin: twin.created).run if others else None

    def _selection_metric(self, row: Row) -> str:
        model_class = load_model_class(self.plugins, row.model)
        for name in row.configurations[0][0].metrics:
            metric = self._metric(name)
            if metric.stage == "quality" and issubclass(model_class, metric.requires):
                return name
        raise ValueError(
            f"{row.label!r}: a grid needs a quality metric that {row.model!r} can be scored by, to choose on"
        )

    def _dataset(self, name: str) -> tuple[Dataset, str]:
        if name not in self._datasets:
            data = load_dataset(self.plugins, name, self.data_folder)
            self._datasets[name] = (data, data.digest())
        return self._datasets[name]

    def _metric(self, name: str) -> Metric:
        if name not in self._metrics:
            self._metrics[name] = load_metric(self.plugins, name)
        return self._metrics[name]


def check_names(plugins: PluginManager, rows: Sequence[Row]) -> None:
    """Checks every name of a suite before anything is loaded.

    Raises:
        ValueError: the first unknown dataset, model or metric.
    """
    for row in rows:
        plugins.find("dataset", row.dataset)
        plugins.find("model", row.model)
        for metric in row.configurations[0][0].metrics:
            plugins.find("metric", metric)


def _file_digest(path: str | None) -> str | None:
    if path is None:
        return None
    try:
        return hashlib.sha256(Path(path).read_bytes()).hexdigest()
    except OSError as error:
        raise ValueError(f"checkpoint {path!r}: cannot be read: {error.strerror}") from error
