"""What there is to do for a set of runs: hit, resume, missing, stale, failed, ... Plans; does nothing.

A run that another artifact folder with the same store has done is a ``hit``; where a figure of it is missing, it is
``elsewhere``: its weights are not here.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Literal

import torch

from harness.discovery.hyperparameters import as_json, resolve
from harness.discovery.loading import (
    build_model,
    drawing_code,
    load_dataset,
    load_metric,
    load_model_class,
    model_code,
)
from harness.discovery.manager import PluginManager
from harness.interface.data_folder import DataFolder
from harness.interface.dataset import Dataset
from harness.interface.executor import Stage
from harness.interface.metric import Metric
from harness.interface.model import Model, Unsupported
from harness.interface.spec import Budget, RunSpec
from harness.records.record import FAILURES, Failure, RunRecord, ScoreRecord, identity_of
from harness.records.run_folder import RunFolder
from harness.records.selection import VALID_PREFIX
from harness.records.store import Store, is_store_of
from harness.suites.suite import Row
from harness.support.checkpoint import load_weights
from harness.support.digest import digest_of
from harness.support.environment import choose_device, fingerprint
from harness.support.names import is_plain_name, slug
from harness.support.randomness import isolated_rng

RunState = Literal["hit", "resume", "missing", "scores missing", "stale", "failed", "skipped", "elsewhere"]


@dataclass(frozen=True)
class Artifacts:
    """The folder that holds runs, and where their records are.

    Attributes:
        root: the folder.
        store_url: the database that holds the records, perhaps those of other folders too; None: one in the folder.
    """

    root: Path
    store_url: str | None = field(default=None, repr=False)  # it may have a password

    def folder(self, run: str) -> RunFolder:
        """Returns a run's folder.

        Raises:
            ValueError: a name that is no plain name; a record may come from anywhere, and its name is a path here.
        """
        if not is_plain_name(run):
            raise ValueError(f"{run!r:.120} is no run's name: letters, digits, '@', '.', '_' and '-', and no path")
        return RunFolder(self.root / "runs" / run)

    @cached_property
    def store(self) -> Store:
        """The records.

        Raises:
            StoreError: the database cannot be opened.
        """
        if self.store_url is None or is_store_of(self.store_url, self.root):
            return Store.in_folder(self.root)
        return Store(self.store_url)


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
        damaged: files of the run that cannot be used, and why: what they held is done again.
    """

    record: RunRecord
    state: RunState
    stages: tuple[Stage, ...] = ()
    speed_stages: tuple[Stage, ...] = ()
    stale_stages: tuple[str, ...] = ()
    stale_run: str | None = None
    damaged: tuple[str, ...] = ()

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
        data_root: where data live; None takes ``HARNESS_DATA`` or the cache folder.
        redo_stale: plan what is stale as missing; old runs and records stay until they are cleaned.
        retry_failed: plan what failed as missing; may be changed between plans.
        blocked: plugins that are not imported, in child processes neither.
    """

    def __init__(
        self,
        plugins: PluginManager,
        artifacts: Artifacts,
        data_root: Path | None = None,
        *,
        redo_stale: bool = False,
        retry_failed: bool = False,
        blocked: tuple[str, ...] = (),
    ) -> None:
        self.plugins, self.artifacts, self.data_root, self.blocked = plugins, artifacts, data_root, blocked
        self._data_folder = DataFolder.resolve(data_root)
        self._redo_stale, self.retry_failed = redo_stale, retry_failed
        self._datasets: dict[str, tuple[Dataset, str]] = {}
        self._metrics: dict[str, Metric] = {}
        self._codes: dict[str, str] = {}

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
        code = self._code(spec.model)
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
            # a metric that asks for no likelihood may look at samples
            basis = [key, *self._drawing(spec.model)] if metric.requires is Model else [key]
            if metric.stage == "speed":
                speed.append(Stage(f"{name}@{where}", name, digest_of([*basis, name, metric.version, "test", where])))
            else:
                quality.append(Stage(name, name, digest_of([*basis, name, metric.version, "test"])))
        return tuple(quality), tuple(speed)

    def look_again(self, planned: PlannedRun) -> PlannedRun:
        """Plans a run anew: another process may have done some of it in the meantime."""
        return self._inspect(planned)

    def _inspect(self, planned: PlannedRun) -> PlannedRun:
        folder, store = self.artifacts.folder(planned.run), self.artifacts.store
        planned = replace(planned, damaged=tuple(f"{file.name}: {why}" for file, why in folder.damage().items()))
        if store.keeps_arrays and folder.description() is None and not planned.damaged:
            record = store.get(planned.run)
            if record is not None and record.status not in ("pending", "running", "interrupted"):
                return self._inspect_record(planned, record)
        failure = folder.failure()
        if failure is not None and (state := self._closed(failure)) is not None:
            return replace(planned, state=state, stages=(), speed_stages=())
        if folder.fit() is None:
            stale = None if self._redo_stale or folder.description() else self._stale_twin(planned.record)
            if stale is not None:
                return replace(planned, state="stale", stale_run=stale)
            return replace(planned, state="resume" if folder.has_state() else "missing")
        return self._inspect_scores(planned, folder.score)

    def _inspect_record(self, planned: PlannedRun, record: RunRecord) -> PlannedRun:
        """Plans a run that was done with another artifact folder, which shares this one's store."""
        if record.failure is not None:
            state = self._closed(record.failure)
            return planned if state is None else replace(planned, state=state, stages=(), speed_stages=())
        planned = self._inspect_scores(planned, record.scores.get)
        if planned.state == "scores missing":
            return replace(planned, state="elsewhere", stages=(), speed_stages=())
        return planned

    def _closed(self, failure: Failure) -> Literal["skipped", "failed"] | None:
        """Whether a run that failed stays as it is; None: it is tried again."""
        if failure.type == "Unsupported":
            return "skipped"
        return None if self.retry_failed or failure.is_temporary else "failed"

    def _inspect_scores(self, planned: PlannedRun, find: Callable[[str], ScoreRecord | None]) -> PlannedRun:
        missing: list[Stage] = []
        speeds: list[Stage] = []
        stale_stages: list[str] = []
        failed = False
        for stage in (*planned.stages, *planned.speed_stages):
            score = find(stage.name)
            if score is None or self._is_wanted_again(score, stage):
                (missing if stage in planned.stages else speeds).append(stage)
            elif score.key != stage.key:
                stale_stages.append(stage.name)
            else:
                failed |= score.status in FAILURES
        state: RunState = "scores missing" if missing or speeds else "failed" if failed else "hit"
        if state == "hit" and stale_stages:
            state = "stale"
        return replace(
            planned, state=state, stages=tuple(missing), speed_stages=tuple(speeds), stale_stages=tuple(stale_stages)
        )

    def _is_wanted_again(self, score: ScoreRecord, stage: Stage) -> bool:
        if score.key != stage.key:
            return self._redo_stale
        if score.status not in FAILURES:
            return False
        return self.retry_failed or (score.failure is not None and score.failure.is_temporary)

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

    def _code(self, model: str) -> str:
        if model not in self._codes:
            self._codes[model] = model_code(self.plugins, model)
        return self._codes[model]

    def _drawing(self, model: str) -> list[str]:
        """Returns the digest of the model's code with that of its samplers, where these have code of their own."""
        drawing = drawing_code(self.plugins, model)
        return [] if drawing == self._code(model) else [drawing]

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
