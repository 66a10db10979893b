"""From what is asked for to what there is to do: a spec becomes a run with a key and the figures it is to have, and
of these remains what is not there already.
"""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cache, partial
from itertools import chain
from pathlib import Path
from typing import Literal, NamedTuple, TypeVar

import torch

from harness.discovery import loading
from harness.discovery.manager import plugin_manager
from harness.interface.data_folder import DataFolder
from harness.interface.dataset import Dataset, Split
from harness.interface.entries import STORED
from harness.interface.executor import Stage
from harness.interface.metric import Metric, why_not
from harness.interface.model import ExactLikelihood, Model, StoredSamples, Unsupported, VariationalBound
from harness.interface.spec import ImageSpec, RunSpec, known_as, place_of
from harness.records.record import FAILURES, VALID_PREFIX, Failure, RunRecord, ScoreRecord, identity_of
from harness.records.run_folder import NewerRecord
from harness.records.store import Artifacts
from harness.running.keys import figure_key, named_by_content, run_key
from harness.suites.suite import AUDIT, Row
from harness.support.checkpoint import load_weights
from harness.support.environment import choose_device, fingerprint
from harness.support.limits import Limits
from harness.support.names import slug
from harness.support.randomness import isolated_rng

_T = TypeVar("_T")
RunState = Literal[
    "hit", "resume", "missing", "scores missing", "stale", "failed", "skipped", "elsewhere", "newer", "running"
]


@dataclass(frozen=True)
class Settings:
    """How to run."""

    artifacts: Artifacts
    data: Path | None = None  # None: HARNESS_DATA or the cache folder
    jobs: int = 0  # child processes at a time; 0: one for each core and thread, one on an accelerator
    device: str = "auto"  # for every run that asks for none itself
    executor: str = "local"
    blocked: tuple[str, ...] = ()  # plugins that are not imported, in child processes neither
    redo_stale: bool = False  # plan what is stale as missing; old runs and records stay until they are cleaned
    retry_failed: bool = False  # plan what has failed as missing
    only_looks: bool = False  # nothing is downloaded; data that are not here are taken to be those of the last records
    limits: Limits = field(default_factory=Limits)  # where they say nothing, the suite's count


@dataclass(frozen=True)
class PlannedRun:
    """One run of a plan: how it will be described (name, key, identity, spec), and what is there of it already.

    Of what another folder with this store has done, and a figure is missing, the weights are ``elsewhere``. ``newer``
    is what a newer version of the harness has done; ``running`` is said where somebody only looks.
    """

    record: RunRecord
    asked: RunSpec  # with the paths of data, samples and weights, which the record has not
    state: RunState = "missing"
    stages: tuple[Stage, ...] = ()  # quality and cost figures that are missing
    speed_stages: tuple[Stage, ...] = ()  # speeds that are missing; measured alone, after everything else
    stale_stages: tuple[str, ...] = ()  # figures that an older version of a metric computed
    stale_run: str | None = None  # of the same identity; its code or data have changed since
    damaged: tuple[str, ...] = ()  # files that cannot be used, and why: what they held is done again

    @property
    def run(self) -> str:
        """The run's name."""
        return self.record.run

    @property
    def wants_work(self) -> bool:
        """Whether there is something to do, speeds apart."""
        return self.state in ("missing", "resume") or (self.state == "scores missing" and bool(self.stages))


class _Facts(NamedTuple):
    """What a record says of a dataset."""

    dataset_digest: str
    split_protocol: str
    num_images: dict[str, int]
    image_shape: tuple[int, int, int, int] | None


class Plan:
    """What there is to do for rows, and the file of the suite that refers to their runs, if they are of one.

    What cannot be is a ValueError, unknown names before anything is loaded; each dataset and metric is loaded once.
    Names such as ``my_model.py:KDE`` are relative to ``code_folder``.
    """

    def __init__(self, rows: Sequence[Row], settings: Settings, code_folder: Path, suite: Path | None = None) -> None:
        self.settings, self.suite, self.plugins = settings, suite, plugin_manager(settings.blocked).at(code_folder)
        self.in_vain = dict[str, str]()  # what is asked of models that it cannot be measured on, and why
        self._metric: Callable[[str], Metric] = cache(partial(loading.load_metric, self.plugins))
        folder = DataFolder.resolve(settings.data, offline=settings.only_looks)
        self._dataset: Callable[[str], Dataset] = cache(partial(loading.load_dataset, self.plugins, folder=folder))
        self._facts = cache(self._facts_of)
        self._code = cache(self._code_of)
        self._drawing = cache(partial(loading.drawing_code, self.plugins))
        self.plugins.find("executor", settings.executor)
        for row in rows:
            asked = row.configurations[0][0]
            self._of_suite("datasets", self.plugins.find, "dataset", asked.dataset)
            self._of_suite("models", self.plugins.find, "model", row.model)
            for metric in asked.metrics:
                for other in self._of_suite("metrics", self._metric, metric).datasets:
                    self._of_suite(f"metrics: {metric!r}", self.plugins.find, "dataset", other)
        names = {row.dataset: row.configurations[0][0].dataset for row in rows}
        placed = {known: self._facts(name).dataset_digest for known, name in names.items() if place_of(name)}
        placed |= {row.model: self._code(row.model) for row in rows if row.model.startswith(STORED)}
        placed = {known: digest for known, digest in placed.items() if digest}
        for known, digest in placed.items():
            if (other := next(name for name in placed if placed[name] == digest)) != known:
                raise ValueError(f"{other!r} and {known!r} are the same images: leave one of them out")
        # for each row, for each configuration of its grid, the runs, one for each seed
        self.rows = [(row, self._configurations(row)) for row in rows]
        for stage in {stage for run in self.runs() for stage in run.stages if not settings.only_looks}:
            for other in self._metric(stage.metric).datasets:
                self._dataset(other)

    def _of_suite(self, key: str, look: Callable[..., _T], *names: str) -> _T:
        """Looks names up; of a suite, a ValueError on them says its file and key."""
        try:
            return look(*names)
        except ValueError as error:
            if self.suite is None:
                raise
            raise ValueError(f"{self.suite}: {key}: {error}") from error

    def labelled(self) -> list[tuple[Row, PlannedRun]]:
        """Returns all runs of all rows, with their rows."""
        return [(row, run) for row, configurations in self.rows for run in chain(*configurations)]

    def runs(self) -> list[PlannedRun]:
        """Returns all runs of all rows, each once: a grid may hold a configuration that is a row of its own."""
        found: dict[str, PlannedRun] = {}
        for _, run in self.labelled():
            if (known := found.get(run.run)) is not None:
                run = replace(
                    known if known.state == "scores missing" else run,
                    stages=tuple(dict.fromkeys((*known.stages, *run.stages))),
                    speed_stages=tuple(dict.fromkeys((*known.speed_stages, *run.speed_stages))),
                )
            found[run.run] = run
        return list(found.values())

    def _configurations(self, row: Row) -> list[list[PlannedRun]]:
        """Plans a row; with a grid, configurations get one figure on the validation split, and no other yet."""
        metric = self._selection_metric(row) if len(row.configurations) > 1 else None
        return [
            [self.plan_run(spec, speed=index == 0, selection=metric) for index, spec in enumerate(configuration)]
            for configuration in row.configurations
        ]

    def plan_run(self, spec: RunSpec, *, speed: bool = True, selection: str | None = None) -> PlannedRun:
        """Plans a run, with or without speeds, or with one metric of ``selection`` on the validation split alone."""
        if spec.device == "auto":
            spec = spec.model_copy(update={"device": self.settings.device})
        record = self._describe(spec)
        if selection is not None:
            stages = (self._stage(record, spec.model, selection, "valid"),)
            return self._seen(PlannedRun(record, spec, stages=stages))
        quality, speeds = self._stages(record, spec.model)
        return self._seen(PlannedRun(record, spec, stages=quality, speed_stages=speeds if speed else ()))

    def _seen(self, planned: PlannedRun) -> PlannedRun:
        planned = self.look_again(planned)
        unfinished = self.settings.only_looks and planned.state in ("missing", "resume", "scores missing")
        is_held = unfinished and self.settings.artifacts.folder(planned.run).is_held()
        return replace(planned, state="running") if is_held else planned

    def look_again(self, planned: PlannedRun) -> PlannedRun:
        """Finds what is there of a run by now: another process may have done some of it in the meantime."""
        folder, store = self.settings.artifacts.folder(planned.run), self.settings.artifacts.store
        try:
            planned = replace(planned, damaged=tuple(f"{file.name}: {why}" for file, why in folder.damage().items()))
        except NewerRecord:
            return replace(planned, state="newer", stages=(), speed_stages=())
        is_here = folder.description() is not None
        record = store.get(planned.run) if store.keeps_arrays and not is_here and not planned.damaged else None
        if record is not None and record.is_unfinished:
            record = None
        failure = folder.failure() if record is None else record.failure
        if failure is not None and (failure.type == "Unsupported" or not self._is_tried_again(failure)):
            state: RunState = "skipped" if failure.type == "Unsupported" else "failed"
            return replace(planned, state=state, stages=(), speed_stages=())
        if record is not None:
            if failure is not None:
                return planned
            found = self._without_scores(planned, record.scores.get)
            is_whole = found.state != "scores missing"
            return found if is_whole else replace(found, state="elsewhere", stages=(), speed_stages=())
        if folder.fit() is not None:
            return self._without_scores(planned, folder.score)
        if not is_here and not self.settings.redo_stale and (stale := self._stale_twin(planned.record)) is not None:
            return replace(planned, state="stale", stale_run=stale)
        return replace(planned, state="resume" if folder.has_state() else "missing")

    def _is_tried_again(self, failure: Failure | None) -> bool:
        return self.settings.retry_failed or (failure is not None and failure.is_temporary)

    def _without_scores(self, planned: PlannedRun, find: Callable[[str], ScoreRecord | None]) -> PlannedRun:
        """Returns a trained run with the figures that are still to be measured."""
        there: dict[Stage, ScoreRecord] = {}
        for stage in (*planned.stages, *planned.speed_stages):
            score = find(stage.name)
            if score is None or (score.key != stage.key and self.settings.redo_stale):
                continue
            if score.status not in FAILURES or not self._is_tried_again(score.failure):
                there[stage] = score
        stages, speeds = (
            tuple(stage for stage in wanted if stage not in there) for wanted in (planned.stages, planned.speed_stages)
        )
        stale = tuple(stage.name for stage, score in there.items() if score.key != stage.key)
        failed = any(score.status in FAILURES for stage, score in there.items() if score.key == stage.key)
        state: RunState = "scores missing" if stages or speeds else "failed" if failed else "stale" if stale else "hit"
        return replace(planned, state=state, stages=stages, speed_stages=speeds, stale_stages=stale)

    def _stale_twin(self, record: RunRecord) -> str | None:
        """Returns the newest trained run of the same identity and another key."""
        twins = self.settings.artifacts.store.records(identities=[record.identity])
        trained = [twin for twin in twins if twin.key != record.key and twin.fit is not None]
        return max(trained, key=lambda twin: twin.created).run if trained else None

    def _last_of(self, noun: str, name: str, error: Exception) -> RunRecord | None:
        """Returns the newest record of data or samples that cannot be read, where the plan only looks."""
        if not self.settings.only_looks:
            raise error
        self.in_vain[f"{known_as(name)} cannot be loaded, and is taken to be that of the last records"] = str(error)
        records = (item for item in self.settings.artifacts.store.each() if getattr(item.spec, noun) == known_as(name))
        return max(records, key=lambda record: record.created, default=None)

    def _code_of(self, model: str) -> str:
        try:
            return loading.model_code(self.plugins, model)
        except (ValueError, OSError) as error:
            if not model.startswith(STORED):
                raise
            return getattr(self._last_of("model", model, error), "code", "")

    def _facts_of(self, dataset: str) -> _Facts:
        try:
            data = self._dataset(dataset)
        except (ValueError, OSError) as error:
            last, nothing = self._last_of("dataset", dataset, error), _Facts("", "", {}, None)
            return _Facts(*(getattr(last, name) for name in _Facts._fields)) if last is not None else nothing
        sizes = {name: len(getattr(data, name)) for name in ("train", "valid", "test")} | data.caveats()
        return _Facts(data.digest(), data.split_protocol, sizes, (*data.spec.shape, data.spec.levels))

    def _describe(self, spec: RunSpec) -> RunRecord:
        model_class = loading.load_model_class(self.plugins, spec.model)
        hyperparameters = loading.as_json(loading.resolve(model_class, spec.hyperparameters))
        facts, dataset_digest = self._facts(spec.dataset), self._facts(spec.dataset).dataset_digest
        num_images = facts.num_images
        if issubclass(model_class, StoredSamples) and not self.settings.only_looks:
            data, name = self._dataset(spec.dataset), known_as(spec.model)
            samples = Split(model_class.as_of(data.spec))
            num_images = {**num_images, name: len(samples), **data.caveats({name: samples})}
        checkpoint, code = self._checked_weights(spec), self._code(spec.model)
        spec = spec.model_copy(update={"checkpoint": checkpoint and f"sha256:{checkpoint[:12]}"})
        named = named_by_content(spec, dataset_digest, code)
        key = run_key(named, model_class, data=dataset_digest, code=code, checkpoint=checkpoint)
        return RunRecord(
            run=f"{slug(named.model)}-{slug(named.dataset)[:40]}-s{spec.seed}-{key[:10]}",
            key=key,
            identity=identity_of(named),
            spec=spec.model_copy(update={"dataset": known_as(spec.dataset), "model": known_as(spec.model)}),
            hyperparameters=hyperparameters,
            provider=self.plugins.provider("model", spec.model).source,
            code=code,
            dataset_digest=dataset_digest,
            split_protocol=facts.split_protocol,
            num_images=num_images,
            image_shape=facts.image_shape,
            status="pending",
        )

    def _stages(self, record: RunRecord, model: str) -> tuple[tuple[Stage, ...], tuple[Stage, ...]]:
        """Returns the figures that the model can be measured by: those of quality and cost, and speeds."""
        spec = record.spec
        model_class = loading.load_model_class(self.plugins, model)
        quality, speeds = list[Stage](), list[Stage]()
        fitting = [name for name in spec.metrics if why_not(self._metric(name), model_class) is None]
        has_likelihood = issubclass(model_class, (ExactLikelihood, VariationalBound))
        has_none_measured = has_likelihood and all(self._metric(name).requires is Model for name in fitting)
        if not {*fitting} - {AUDIT} or has_none_measured or issubclass(model_class, StoredSamples):
            fitting = list(spec.metrics)  # what would be left out without a word becomes a figure that is skipped
        for name in fitting:
            metric = self._metric(name)
            if (reason := why_not(metric, model_class)) is not None:
                self.in_vain[f"{spec.model}: {name} is left out"] = reason
            shape, most = record.image_shape, record.num_images.get(spec.model)
            if shape is not None and reason is None and (wrong := metric.objection(ImageSpec(*shape), most)):
                raise ValueError(f"{spec.model}: {name} {wrong}")
            (speeds if metric.stage == "speed" else quality).append(self._stage(record, model, name))
        return tuple(quality), tuple(speeds)

    def _stage(self, record: RunRecord, model: str, name: str, split: Literal["test", "valid"] = "test") -> Stage:
        metric, spec = self._metric(name), record.spec
        where = fingerprint(choose_device(spec.device), spec.threads)
        drawing = record.code if model.startswith(STORED) else self._drawing(model)  # samples have no samplers
        key = figure_key(record, metric, name, drawing=drawing, split=split, where=where)
        shown = f"{VALID_PREFIX}{name}" if split == "valid" else f"{name}@{where}" if metric.stage == "speed" else name
        return Stage(shown, name, key, split, self.plugins.provider("metric", name).name)

    def needs(self, planned: PlannedRun) -> tuple[str, ...]:
        """Returns the plugins that a run needs to be trained: its child process imports no others."""
        provider, spec = self.plugins.provider, planned.asked
        return provider("dataset", spec.dataset).name, provider("model", spec.model).name

    def _checked_weights(self, spec: RunSpec) -> str | None:
        """Returns the digest of the checkpoint that a spec names, once it has been seen to fit the model."""
        if spec.checkpoint is None:
            return None
        path, device = Path(spec.checkpoint), torch.device("cpu")
        try:
            digest = hashlib.sha256(path.read_bytes()).hexdigest()
        except OSError as error:
            raise ValueError(f"checkpoint {spec.checkpoint!r}: cannot be read: {error.strerror}") from error
        try:
            with isolated_rng(spec.seed, device):
                model = loading.build_model(self.plugins, spec, self._dataset(spec.dataset), device)
        except Unsupported:
            return digest  # the run says so
        load_weights(path, model)
        return digest

    def _selection_metric(self, row: Row) -> str:
        model_class = loading.load_model_class(self.plugins, row.model)
        for name in row.configurations[0][0].metrics:
            metric = self._metric(name)
            if metric.can_choose and metric.stage == "quality" and issubclass(model_class, metric.requires):
                return name
        raise ValueError(
            f"{row.label!r}: a grid needs a quality metric that {row.model!r} can be scored by, to choose on"
        )
