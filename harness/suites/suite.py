"""Suite: what a user writes in TOML, and what a board is regenerated from; and its expansion into rows of runs."""

import itertools
import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator
from pydantic.json_schema import SkipJsonSchema

from harness.interface.entries import STORED
from harness.interface.spec import BudgetText, CodeName, Precision, RunSpec, known_as
from harness.suites.toml import read_toml, toml_value
from harness.support.limits import Limits
from harness.support.names import did_you_mean, what_is_wrong

_NOT_IN_FILE = ("name", "checkpoint", "file")
AUDIT = "audit"
_MOST_COMBINATIONS = 10_000
Role = Literal["model", "reference"]
Seed = Annotated[int, Field(strict=True, ge=0, lt=2**31)]


def _says_something(text: str) -> str:
    if not text.strip():
        raise ValueError(f"it must not be empty, not {text!r}")
    return text


Text = Annotated[str, AfterValidator(_says_something), Field(json_schema_extra={"minLength": 1})]
_UNIQUE: dict[str, Any] = {"uniqueItems": True}


class SuiteError(ValueError):
    """A suite that cannot be used; the message names the file, the key and what would be right."""


class SuiteModel(BaseModel):
    """One ``[[models]]`` table: a row of the boards for every dataset."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    name: CodeName
    """The model's registered name, or where its code is, relative to the suite: ``my_model.py:KDE``. ``samples:PATH``,
    or ``samples:PATH as NAME``, are images that somebody else made, a folder or an .npz, relative to the suite."""
    label: Text | None = None
    """The row's name on the boards; by default made from name and hyperparameters."""
    published: str | None = None
    """The row of ``published.toml`` to stand beside."""
    hyperparameters: dict[str, Any] = Field(default_factory=dict)
    """What differs from the model's defaults."""
    grid: dict[str, Annotated[list[Any], Field(min_length=1)]] = Field(default_factory=dict)
    """Lists of values: every combination is trained, and the best on the validation split is the row."""
    budget: BudgetText | None = None
    """How long to train; overrides the suite's."""
    datasets: tuple[str, ...] | None = None
    """The datasets that this row is for; all of the suite's by default."""
    without: tuple[str, ...] = ()
    """Which of the suite's metrics this row is spared, such as one that would take it hours."""
    role: Role = "model"
    """``reference`` for a floor or a ceiling, such as real images: it is shown, and not ranked."""

    @model_validator(mode="after")
    def _grid_is_no_hyperparameter(self) -> Self:
        if twice := sorted(self.grid.keys() & self.hyperparameters.keys()):
            raise ValueError(f"{twice[0]!r} stands in hyperparameters and in grid; it can have one value or a grid")
        if (number := math.prod(map(len, self.grid.values()))) > _MOST_COMBINATIONS:
            raise ValueError(f"the grid has {number:,} combinations; {_MOST_COMBINATIONS:,} are allowed")
        for name, values in self.grid.items():
            if equal := [value for value in values if values.count(value) > 1]:
                raise ValueError(f"{equal[0]!r} stands twice in the grid of {name!r}; name each value once")
        return self

    @property
    def row_label(self) -> str:
        """The row's name."""
        shown = ", ".join(f"{name}={value}" for name, value in sorted(self.hyperparameters.items()))
        return self.label or (f"{self.name} ({shown})" if shown else known_as(self.name))

    def configurations(self) -> list[dict[str, Any]]:
        """Returns the hyperparameters of every combination of the grid; one combination without a grid."""
        combinations = itertools.product(*self.grid.values())
        return [{**self.hyperparameters, **dict(zip(self.grid, values, strict=True))} for values in combinations]


@dataclass(frozen=True)
class Row:
    """A row of a board: one model on one dataset; for each combination of the grid, one spec a seed."""

    label: str
    dataset: str
    model: str
    published: str | None
    configurations: tuple[tuple[RunSpec, ...], ...]
    role: Role = "model"


class Suite(BaseModel):
    """A benchmark: which models, on which datasets, with which seeds, measured how."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    title: Text
    """What the boards are headed by."""
    description: str = ""
    """What a reader of the boards should know."""
    datasets: tuple[CodeName, ...] = Field(min_length=1, json_schema_extra=_UNIQUE)
    """Registered names, where the code is, relative to the suite: ``my_data.py:stripes``, or where images are, relative
    to the working folder or the data folder: ``images:PATH``, or ``images:PATH as NAME``."""
    seeds: tuple[Seed, ...] = Field(default=(0,), min_length=1, json_schema_extra=_UNIQUE)
    """Every model is trained once for each seed."""
    metrics: tuple[str, ...] = Field(default=(), min_length=1, json_schema_extra=_UNIQUE)
    """What is measured, by registered names: ``nll``, ``iwae-500``, ``fid``."""
    budget: BudgetText | None = None
    """How long to train; each model's own default without it."""
    precision: Precision = "float32"
    """Of weights and arithmetic."""
    threads: int = Field(default=1, strict=True, ge=1, le=1024)
    """Processor threads of each run."""
    time_limit: str | None = Field(default=None, json_schema_extra={"examples": ["90 s", "30 minutes", "2 hours"]})
    """What a run may take before it is ended; no part of what a run is."""
    memory_limit: str | None = Field(default=None, json_schema_extra={"examples": ["512 MiB", "4 GB"]})
    """What a run may have resident before it is ended; no part of what a run is."""
    audit: bool = Field(default=True, strict=True)
    """Whether models are audited, once for their code and hyperparameters on a sample space; references never are."""
    table: str | None = None
    """The printed table of ``published.toml`` to stand beside, row by row, on a board of its own."""
    models: tuple[SuiteModel, ...] = Field(min_length=1)
    """The rows of the boards."""
    checkpoint: SkipJsonSchema[str | None] = Field(default=None, exclude=True)
    name: SkipJsonSchema[str] = Field(default="", exclude=True)
    file: SkipJsonSchema[Path | None] = Field(default=None, exclude=True)

    @property
    def limits(self) -> Limits:
        """What a run may take."""
        return Limits.parse(self.time_limit, self.memory_limit)

    @model_validator(mode="after")
    def _limits_parse(self) -> Self:
        assert self.limits
        return self

    @field_validator("datasets", "seeds", "metrics")
    @classmethod
    def _no_duplicates(cls, value: tuple[Any, ...]) -> tuple[Any, ...]:
        if twice := [item for item, count in Counter(value).items() if count > 1]:
            raise ValueError(f"{twice[0]!r} stands twice; name each once")
        return value

    @classmethod
    def read(cls, path: Path) -> Self:
        """Reads a suite from a TOML file; its name is the file's."""
        content = read_toml(path, "suite", SuiteError)
        return cls.parse(content, name=path.stem, source=str(path)).model_copy(update={"file": path})

    @classmethod
    def parse(cls, content: dict[str, Any], *, name: str, source: str) -> Self:
        """Makes a suite from a TOML document; ``source`` stands in messages."""
        if "profile" in content:
            advice = f"'harness profile generation --suite {source}' measures it"
            raise SuiteError(f"{source} is a profile of generation speed: {advice}")
        for key in filter(_NOT_IN_FILE.__contains__, content):
            raise SuiteError(f"{source}: unknown key {key!r}{did_you_mean(key, _keys(cls))}")
        try:
            suite = cls.model_validate({**content, "name": name})
        except ValidationError as error:
            first = error.errors()[0]
            keys = list(SuiteModel.model_fields) if "models" in first["loc"] else _keys(cls)
            raise SuiteError(f"{source}: {what_is_wrong(first, keys)}") from error
        written = [*suite.datasets, *dict.fromkeys(model.name for model in suite.models)]
        names = Counter(map(known_as, written))
        for name in written:
            if names[known := known_as(name)] > 1:
                what = "datasets" if name in suite.datasets else "models"
                raise SuiteError(f"{source}: two {what} are called {known!r}; name one, such as '{name} as NAME'")
        labels = Counter(model.row_label for model in suite.models)
        for model in suite.models:
            if labels[label := model.row_label] > 1:
                raise SuiteError(f"{source}: two rows are labelled {label!r}; give one of them a label of its own")
            for dataset in model.datasets or ():
                if dataset not in suite.datasets:
                    hint = did_you_mean(dataset, suite.datasets)
                    raise SuiteError(f"{source}: {label!r} names the dataset {dataset!r}, the suite does not{hint}")
            for metric in model.without:
                if metric not in suite.metrics:
                    hint = did_you_mean(metric, suite.metrics)
                    raise SuiteError(f"{source}: {label!r} is without {metric!r}, the suite is too{hint}")
            if suite.metrics and not {*suite.metrics} - {*model.without}:
                raise SuiteError(f"{source}: {label!r} is without every metric of the suite; leave it at least one")
        return suite

    def rows(self) -> list[Row]:
        """Returns the rows, dataset by dataset, in the order of the file."""
        pairs = itertools.product(self.datasets, self.models)
        return [self._row(model, name) for name, model in pairs if model.datasets is None or name in model.datasets]

    def _row(self, model: SuiteModel, dataset: str) -> Row:
        is_stored = model.name.startswith(STORED)  # images from a file: nothing is audited or trained, in one run
        audited = self.audit and model.role == "model" and AUDIT not in self.metrics and not is_stored
        asked = tuple(metric for metric in self.metrics if metric not in model.without)
        metrics = (*asked, AUDIT) if audited else asked
        budget, seeds = (None, (0,)) if is_stored else (model.budget or self.budget, self.seeds)
        shared = {name: getattr(self, name) for name in ("precision", "threads", "checkpoint")}
        spec = RunSpec(model=model.name, dataset=dataset, metrics=metrics, budget=budget, **shared)
        configurations = tuple(
            tuple(spec.model_copy(update={"hyperparameters": chosen, "seed": seed}) for seed in seeds)
            for chosen in model.configurations()
        )
        return Row(model.row_label, known_as(dataset), model.name, model.published, configurations, model.role)

    def select(self, only: Sequence[str] = (), seeds: Sequence[int] | None = None) -> Self:
        """Returns the suite with the models and datasets named by ``only`` (all, if it names none), and other seeds."""
        models = tuple(item for item in self.models if {item.name, item.row_label} & set(only))
        datasets = tuple(item for item in self.datasets if {item, known_as(item)} & set(only))
        known = self._owners() | set(self.datasets) | set(map(known_as, self.datasets))
        for name in only:
            if name not in known:
                hint = did_you_mean(name, known)
                raise SuiteError(f"--only {name!r}: no such model, label or dataset in the suite{hint}")
        for seed in seeds or ():
            if not 0 <= seed < 2**31:
                raise SuiteError(f"seed {seed} is not in [0, 2**31)")
        chosen = self.seeds if seeds is None else tuple(dict.fromkeys(seeds))
        changes = {"models": models or self.models, "datasets": datasets or self.datasets, "seeds": chosen}
        return self.model_copy(update=changes)

    def scoring(self, checkpoint: Path) -> Self:
        """Returns the suite, of one row, with one seed, whose weights come from ``checkpoint`` instead of training."""
        rows = self.rows()
        if len(rows) != 1:
            found = f"{len(rows)} ({', '.join(f'{row.label} on {row.dataset}' for row in rows[:4])})"
            raise SuiteError(f"a checkpoint belongs to one row, this is {found}: name a model and a dataset by --only")
        if (number := len(rows[0].configurations)) > 1:
            grid = f"{rows[0].label!r} has a grid of {number}: choose one of its values by --set"
            raise SuiteError(f"a checkpoint belongs to one configuration, {grid}")
        return self.model_copy(update={"checkpoint": str(checkpoint.resolve()), "seeds": self.seeds[:1]})

    def _owners(self) -> set[str]:
        return {name for item in self.models for name in (item.name, item.row_label)}

    def override(self, settings: Iterable[str]) -> Self:
        """Returns the suite with ``MODEL.HYPERPARAMETER=VALUE`` and ``KEY=VALUE`` (such as ``budget="2 epochs"``) set.

        Values are written as in TOML; a bare word is a string.
        """
        suite = self
        for setting in settings:
            # a row's default label holds equals signs of its own
            labels = [item.row_label for item in self.models if setting.startswith(f"{item.row_label}.")]
            label = max(labels, key=len, default="")
            target, separator, text = setting[len(label) :].partition("=")
            owner, _, key = f"{label}{target}".strip().rpartition(".")
            if not separator or not key.strip():
                raise SuiteError(f"--set {setting!r}: write MODEL.HYPERPARAMETER=VALUE or KEY=VALUE")
            suite = suite._set(owner, key, toml_value(text.strip()), f"--set {setting!r}")
        return suite

    def _set(self, owner: str, key: str, value: Any, source: str) -> Self:
        content = {name: item for name, item in self.model_dump(mode="json").items() if item != []}
        known = self._owners() if owner else {*_keys(type(self))} - {"models"}
        if (owner or key) not in known:
            what = f"no model {owner!r} in the suite" if owner else f"the suite has no key {key!r}"
            raise SuiteError(f"{source}: {what}{did_you_mean(owner or key, known)}")
        if not owner:
            content[key] = value
        for item, table in zip(self.models, content["models"], strict=True):
            if owner in (item.name, item.row_label) and key == "budget":
                table["budget"] = value
            elif owner in (item.name, item.row_label):
                table["hyperparameters"][key] = value
                table["grid"].pop(key, None)
        changed = self.parse(content, name=self.name, source=source)
        return changed.model_copy(update={"checkpoint": self.checkpoint, "file": self.file})


def _keys(suite: type[Suite]) -> list[str]:
    return [name for name in suite.model_fields if name not in _NOT_IN_FILE]
