"""RunRecord: everything that is known of one run, as a value that goes to JSON and back."""

import math
import re
from collections.abc import Iterable, Sequence
from functools import lru_cache, partial
from itertools import pairwise
from typing import Annotated, Any, Literal, Self, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, model_validator

from harness.interface.spec import RunSpec, ScoreKind, known_as
from harness.support.names import BOARD_NAME, digest_of, heading, in_texts

# By an exception; by a signal, or gone before its work was done; over the limit, or the allocator said so; over the
# limit of time; a loss that was not finite; samples that cannot be scored.
FailureStatus = Literal["failed", "killed", "out-of-memory", "timed-out", "diverged", "degenerate"]
RunStatus = Literal["pending", "running", "done", "interrupted", "skipped", FailureStatus]
ScoreStatus = Literal["done", "skipped", FailureStatus]
FAILURES: frozenset[str] = frozenset(get_args(FailureStatus))
UNFINISHED: frozenset[str] = frozenset({"pending", "running", "interrupted"})

# What a figure and its square can be, and a count that every table takes: a record may come from anywhere.
Number = Annotated[float, Field(ge=-1e100, le=1e100, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=0, le=2**53)]
Size = Annotated[int, Field(ge=1, le=2**20)]

RECORD_VERSION = 1
VALID_PREFIX = "valid--"  # of a figure on the validation split
OTHER = "other"  # the board of a metric that says none
MOST = 20_000  # characters of a text
MOST_POINTS = 100  # of a curve
_LONGEST = {"message": 2_000, "reason": 2_000}

# Board and header of the metrics that records name which were written before metrics said theirs. No header: the name.
_METRICS = (
    ("nll", "likelihood", "NLL"),
    ("entropy-gap", "likelihood", "Gap to the entropy"),
    ("bits-per-dim", "likelihood", ""),
    ("negative-elbo|bits-per-dim-bound", "bounds", "Negative ELBO"),
    (r"(?:bits-per-dim-)?iwae-(\d+)", "bounds", r"IWAE, K = \1"),
    ("active-units", "bounds", ""),
    ("fid(-.+)?", "sample-quality", "FID"),
    ("kid(-.+)?", "sample-quality", "KID"),
    ("parameters-training", "cost", "Parameters trained"),
    ("flops-(scoring|sampling|training)", "cost", r"FLOPs \1"),
    ("fit-seconds", "cost", "Training time"),
    (r"parameters-\w+|flops-\w+", "cost", ""),
    ("(training|scoring|sampling)-throughput|sampling-(latency)", "throughput", r"\1\2"),
    ("fastest-sampling", "throughput", "Fastest sampler"),
    (r"\w+-throughput|peak-memory", "throughput", ""),
    ("audit", "", ""),
)


@lru_cache(maxsize=1024)
def board_and_header(metric: str) -> tuple[str | None, str]:
    """Returns where a built-in metric stands, by its name; no board for any other metric."""
    for pattern, board, header in _METRICS:
        if found := re.fullmatch(pattern, metric):
            return board, heading(found.expand(header) or metric)
    return None, heading(metric)


class _Value(BaseModel):
    """Plugins make the texts in it: lone surrogates, which no file and no database takes, are spelled out, and what is
    too long is cut. What was read from JSON text has been through this.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    @model_validator(mode="after")
    def _can_be_stored(self, info: ValidationInfo) -> Self:
        if info.mode == "python":
            for name, value in vars(self).items():
                vars(self)[name] = in_texts(value, partial(_storable, most=_LONGEST.get(name, MOST)))
        return self


def _storable(text: str, most: int = MOST) -> str:
    if len(text) > most:
        text = f"{text[: most // 2]} [{len(text) - most:,} characters left out] {text[-most // 2 :]}"
    return text.encode(errors="backslashreplace").decode()


class Failure(_Value):
    """What stopped a stage, as far as it can be known."""

    stage: str  # set-up, fit, or a figure's name
    type: str  # the exception's; Died where there is none, Unsupported for what a model cannot do
    message: str  # in one line
    traceback: str | None = None
    status: FailureStatus = "failed"
    signal: str | None = None  # that ended the process, such as SIGKILL
    stack: str | None = None  # that faulthandler wrote when the process crashed, or was about to be killed
    log: str | None = None  # its last lines, where there is no traceback

    @property
    def is_temporary(self) -> bool:
        """Whether the same command tries again: what the run depends on was changed, or somebody ended the process."""
        ended = self.status == "killed" and self.signal in ("SIGKILL", "SIGTERM", "SIGHUP", "SIGINT")
        return ended or self.type == "Changed"


class Curve(_Value):
    """How a training went, point by point: at each validation, or of a model that does not validate, at its losses.

    The columns are equally long: the ``step``, ascending; passes over the training split; ``seconds`` of the training
    so far, validation and resumptions included; the mean training ``loss`` since the point before, None where none was
    logged; the ``valid`` score, lower is better, None without validation. Both are in the units of the model's ``fit``.
    """

    step: tuple[Count, ...] = Field(min_length=1, max_length=MOST_POINTS)
    epoch: tuple[Number, ...]
    seconds: tuple[Number, ...]
    loss: tuple[Number | None, ...]
    valid: tuple[Number | None, ...]

    @model_validator(mode="after")
    def _is_a_table(self) -> Self:
        lengths = {name: len(column) for name, column in self}
        if len(set(lengths.values())) > 1:
            raise ValueError(f"a curve's columns have different lengths: {lengths}")
        if any(later <= step for step, later in pairwise(self.step)):
            raise ValueError("a curve's steps do not ascend")
        return self


class FitRecord(_Value):
    """What came out of a training; see ``harness.interface.training.FitSummary``.

    The ``curve`` is None of what no ``Trainer`` trained, and of trainings before there were curves.
    """

    steps: Count
    epochs: Number
    seconds: Number
    checkpoint: str
    valid_score: Number | None = None
    valid_step: Count | None = None
    calibrated_steps: Count | None = None
    weights_sha256: str
    curve: Curve | None = None

    @model_validator(mode="after")
    def _curve_is_of_this_training(self) -> Self:
        if self.curve is None:
            return self
        if self.curve.step[-1] > self.steps:
            raise ValueError(f"the curve goes to step {self.curve.step[-1]}, the training had {self.steps}")
        scores = dict(zip(self.curve.step, self.curve.valid, strict=True))
        best = min((score for score in scores.values() if score is not None), default=None)
        said = None if self.valid_step is None else scores.get(self.valid_step)
        same = (best is None) == (self.valid_score is None) and best == said
        if not same or (best is not None and not math.isclose(best, self.valid_score or 0.0, rel_tol=1e-5)):
            best_said = f"{self.valid_score} at step {self.valid_step}"
            raise ValueError(f"the curve's best validation score is {best}, the training's {best_said}")
        return self


class ScoreRecord(_Value):
    """One figure; see ``harness.Score``. ``per_image`` names its array of per-image scores, if it has one.

    ``board``, ``header``, ``unit`` and ``higher_is_better`` are the metric's: boards need no metric's code. Records
    that were written before metrics said their board are completed here, whatever they are read from.

    Figures are finite: JSON has no other numbers, and one NaN would make a whole store unreadable.
    """

    metric: str
    key: str
    status: ScoreStatus = "done"
    board: str = Field(default=OTHER, pattern=f"^{BOARD_NAME.pattern}$", max_length=100)  # it names files
    header: str = ""
    stage: Literal["quality", "cost", "speed"] = "quality"
    unit: str = ""
    higher_is_better: bool = False
    value: Number | None = None
    standard_error: Number | None = None
    kind: ScoreKind | None = None
    num_images: Count | None = None
    per_image: str | None = None
    protocol: dict[str, str] = Field(default_factory=dict)
    details: dict[str, Number] = Field(default_factory=dict)
    fingerprint: str = ""
    hardware: str = ""
    seconds: Number | None = None
    failure: Failure | None = None

    @model_validator(mode="before")
    @classmethod
    def _complete(cls, fields: Any) -> Any:
        metric = fields.get("metric") if isinstance(fields, dict) else None
        if not isinstance(metric, str):
            return fields
        board, header = board_and_header(metric)
        return {"board": OTHER if board is None else board, "header": header, **fields}


class RunRecord(_Value):
    """One run: what was asked for, with all hyperparameters, defaults included, and what came of it.

    ``run`` is its name, unique in a store: model, dataset, seed and the head of ``key``, the digest of all that
    determines the training. ``identity`` is the digest of what was asked for alone: of two records of one identity and
    different keys, one is stale. ``code`` and ``dataset_digest`` are digests of content, ``provider`` is the plugin's
    distribution and version, ``num_images`` counts those of the train, valid and test splits, and what
    ``Dataset.caveats`` found.

    A run with a failed score has failed. It was chosen on the validation split among ``configurations_tried``. The
    ``environment`` is the training's machine and software; ``created`` is when the record was last written, ISO 8601,
    UTC.
    """

    version: int = RECORD_VERSION
    run: str
    key: str
    identity: str
    spec: RunSpec
    hyperparameters: dict[str, Any]
    provider: str
    code: str
    dataset_digest: str
    split_protocol: str = ""
    num_images: dict[str, Count] = Field(default_factory=dict)
    image_shape: tuple[Size, Size, Size, Annotated[int, Field(ge=2, le=256)]] | None = None
    status: RunStatus
    fit: FitRecord | None = None
    scores: dict[str, ScoreRecord] = Field(default_factory=dict)
    failure: Failure | None = None
    reason: str | None = None
    configurations_tried: Size = 1
    environment: dict[str, Any] = Field(default_factory=dict)
    created: str = ""

    @property
    def data_caveats(self) -> list[str]:
        """What figures on these data should not be read without, in sentences."""
        images, said = self.num_images, list[str]()
        for name, number in images.items():
            if found := re.fullmatch(r"(test|valid|samples:.+) in (train|valid|test)", name):
                said.append(f"{number:,} of {images.get(found[1], 0):,} {found[1]} images are also in {found[2]}.")
        if "levels used" in images and self.image_shape is not None:
            said.append(f"the images use {images['levels used']} of {self.image_shape[3]} levels.")
        return said

    @property
    def is_unfinished(self) -> bool:
        """Whether the run was not yet done, or was stopped before its end."""
        return self.status in UNFINISHED


_NOT_NOTED = set[str]()


def read_record(text: str | bytes) -> RunRecord:
    """Reads a record from JSON, without pydantic's notes of which fields were given: two thirds of its memory."""
    record = RunRecord.model_validate_json(text)
    curve = None if record.fit is None else record.fit.curve
    for part in filter(None, (record, record.spec, record.fit, curve, *record.scores.values())):
        object.__setattr__(part, "__pydantic_fields_set__", _NOT_NOTED)
    return record


def status_of_scores(scores: Iterable[ScoreRecord]) -> Literal["done"] | FailureStatus:
    """Returns the status of a trained run: ``done``, or that of its failed figures; ``failed`` where they differ."""
    failed: set[Any] = {score.status for score in scores if score.status in FAILURES}
    return "done" if not failed else failed.pop() if len(failed) == 1 else "failed"


def identity_of(spec: RunSpec) -> str:
    """Returns the digest of what determines a training as asked for: all of the spec but metrics and device."""
    content = spec.model_dump(mode="json", exclude={"metrics", "device"})
    return digest_of({**content, "dataset": known_as(spec.dataset), "model": known_as(spec.model)})


def best_configuration(configurations: Sequence[Sequence[RunRecord | None]]) -> int | None:
    """Returns the index of the configuration with the best mean validation score, of one that all its seeds have.

    For each combination of a grid come its records, one for each seed, None where a run is not finished. A single
    configuration needs no score.
    """
    if len(configurations) == 1:
        return 0
    means: dict[str, dict[int, float]] = {}
    for index, records in enumerate(configurations):
        losses = [_validation_losses(record) for record in records]
        for name in set.intersection(*map(set, losses)) if losses else ():
            means.setdefault(name, {})[index] = sum(of_seed[name] for of_seed in losses) / len(losses)
    if not means:
        return None
    # runs of an earlier suite may hold other figures as well: compare by the one that most configurations have
    chosen = max(sorted(means), key=lambda name: len(means[name]))
    return min(means[chosen], key=lambda index: means[chosen][index])


def _validation_losses(record: RunRecord | None) -> dict[str, float]:
    """By figure, with the sign that makes lower better."""
    return {
        name: -score.value if score.higher_is_better else score.value
        for name, score in (record.scores if record is not None else {}).items()
        if name.startswith(VALID_PREFIX) and score.status == "done" and score.value is not None
    }
