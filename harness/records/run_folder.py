"""A run's own folder: what a worker leaves there, file by file, and the record that it adds up to.

    run.json               what the run is (a record without results), written before it starts
    code.json              what names such as ``my_model.py:KDE`` are relative to, itself relative to this folder, and
                           where the data are, if they are named by that
    log.txt                everything that the child process printed
    progress.json          where a running stage stands
    training.safetensors   the trainer's state, while it trains
    model.safetensors      the weights; fit.json beside it, written last, says that the training is complete
    scores/NAME.json       one file a figure, and NAME.safetensors with its per-image scores
    failure.json           what stopped the run, if something did

Every file is written atomically. The store is made from these folders, never the other way round. A file that is
damaged all the same, by a full disk or by hand, counts as not there, so that its stage is done again.
"""

import contextlib
import json
import os
import shutil
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

from filelock import FileLock, Timeout
from pydantic import BaseModel, TypeAdapter, ValidationError

from harness.interface.entries import STORED
from harness.interface.executor import LOG_FILE
from harness.interface.spec import RunSpec, place_of
from harness.records.curve import curve_of
from harness.records.record import RECORD_VERSION, Curve, Failure, FitRecord, RunRecord, ScoreRecord, status_of_scores
from harness.support.files import safetensors_problem, write_atomically
from harness.support.names import slug, what_is_wrong

_T = TypeVar("_T")


class NewerRecord(ValueError):
    """A run's folder that a newer version of the harness wrote: it is neither read nor replaced."""


class _Finished(BaseModel):
    fit: FitRecord
    environment: dict[str, Any]


class RunFolder:
    """The folder of one run; its ``lock`` is held by the process that works on it."""

    def __init__(self, path: Path) -> None:
        self.path, self.run = path, path.name
        self.weights, self.state = path / "model.safetensors", path / "training.safetensors"
        self.log, self.lock = path / LOG_FILE, path / ".lock"

    def is_held(self) -> bool:
        """Tells whether a process works on the run now."""
        if not self.path.exists():
            return False
        try:
            with FileLock(str(self.lock), timeout=0):
                return False
        except (Timeout, OSError):  # where it cannot be asked, as in a folder that is read-only, nobody may remove it
            return True

    def score_file(self, name: str) -> Path:
        """Returns where the score ``name`` (a metric, or ``metric@fingerprint``) is kept."""
        return self.path / "scores" / f"{slug(name)}.json"

    def per_image_file(self, name: str) -> Path:
        """Returns where its per-image scores are kept."""
        return self.score_file(name).with_suffix(".safetensors")

    def has_state(self) -> bool:
        """Whether a training can go on from a saved state."""
        return safetensors_problem(self.state) is None

    def begin(self, record: RunRecord) -> None:
        """Writes what the run is."""
        self._write("run.json", record)

    def description(self) -> RunRecord | None:
        """Returns what ``begin`` wrote, or None."""
        return self._read("run.json", RunRecord)

    def write_sources(self, code_folder: Path, asked: RunSpec) -> None:
        """Notes what ``my_model.py:KDE`` is relative to, and where data and weights are; no record says where."""
        place, noted = place_of(asked.dataset), {"folder": os.path.relpath(code_folder, self.path)}
        if place is not None:
            noted["dataset"] = "{}:{}{}".format(*place) if Path(place[1]).exists() else asked.dataset
        if asked.checkpoint is not None:
            noted["checkpoint"] = str(Path(asked.checkpoint).resolve())
        if asked.model.startswith(STORED):
            noted["model"] = asked.model
        if noted != self._sources():
            self._write("code.json", noted)

    def _sources(self) -> dict[str, str]:
        return self._read("code.json", dict[str, str]) or {}

    def located(self, spec: RunSpec) -> RunSpec:
        """Returns a spec with the places of data and samples that ``write_sources`` noted: a record has names alone."""
        noted = self._sources()
        return spec.model_copy(update={name: noted[name] for name in ("dataset", "model") if name in noted})

    def checkpoint(self) -> Path | None:
        """Returns where the weights are that are scored in place of a training, if ``write_sources`` noted any."""
        return Path(found) if (found := self._sources().get("checkpoint")) else None

    def code_folder(self) -> Path:
        """Returns what ``write_sources`` noted, or the working folder."""
        found = self._sources()
        return (self.path / found["folder"]).resolve() if "folder" in found else Path()

    def fit(self) -> FitRecord | None:
        """Returns the training's result once it is complete, None before."""
        found: FitRecord | None = self._trained()["fit"]
        return found

    def _trained(self) -> dict[str, Any]:
        found = self._read("fit.json", _Finished) if safetensors_problem(self.weights) is None else None
        return dict(found or {"fit": None, "environment": {}})

    def curve(self) -> Curve | None:
        """Returns how the training that has just ended went, None if its trainer noted nothing."""
        file = self.path / "curves.jsonl"
        return curve_of(file.read_text().splitlines()) if file.exists() else None

    def write_fit(self, fit: FitRecord, environment: Mapping[str, Any]) -> None:
        """Marks the training as complete; the weights are there already."""
        self._write("fit.json", {"fit": fit.model_dump(mode="json"), "environment": dict(environment)})

    def score(self, name: str) -> ScoreRecord | None:
        """Returns a score, or None."""
        score = self._read(f"scores/{slug(name)}.json", ScoreRecord)
        damaged = score is not None and score.per_image is not None and safetensors_problem(self.per_image_file(name))
        return None if damaged else score

    def write_score(self, name: str, score: ScoreRecord) -> None:
        """Writes a score; its per-image file is there already."""
        self._write(f"scores/{slug(name)}.json", score)

    def failure(self) -> Failure | None:
        """Returns what stopped the run, or None."""
        return self._read("failure.json", Failure)

    def write_failure(self, failure: Failure) -> None:
        """Notes what stopped the run."""
        self._write("failure.json", failure)

    def forget(self, scores: Iterable[str] | None = None, *, only_temporary: bool = False) -> None:
        """Removes what failed, so that it is tried again: of the scores, all or some, and what stopped the run.

        What a model cannot do stays, and where ``only_temporary`` what stopped the run unless somebody ended it.
        """
        failure = self.failure()
        if failure is not None and failure.type != "Unsupported" and (failure.is_temporary or not only_temporary):
            (self.path / "failure.json").unlink()
        for name in self._scored() if scores is None else scores:
            score = self.score(name)
            if score is not None and score.status not in ("done", "skipped"):
                self.score_file(name).unlink()

    def damage(self) -> dict[Path, str]:
        """Returns what cannot be used, and why: files that are cut off, or are not what they should be."""
        found: dict[Path, str] = {}
        whole = [self.weights] if (self.path / "fit.json").exists() else []
        whole += [self.state] if self.state.exists() else []
        kinds: dict[str, type[BaseModel]] = {"run.json": RunRecord, "fit.json": _Finished, "failure.json": Failure}
        kinds |= {f"scores/{name}.json": ScoreRecord for name in self._scored()}
        for name, kind in kinds.items():
            content, problem = self._parsed(name, kind)
            if problem is not None:
                found[self.path / name] = problem
            elif isinstance(content, ScoreRecord) and content.per_image is not None:
                whole.append((self.path / name).with_suffix(".safetensors"))
        return found | {file: problem for file in whole if (problem := safetensors_problem(file)) is not None}

    def set_damage_aside(self) -> None:
        """Renames what cannot be used to ``NAME.damaged``: it is done again, and can still be looked at."""
        for file in self.damage():
            with contextlib.suppress(FileNotFoundError):
                aside = file.with_name(f"{file.name}.damaged")
                shutil.rmtree(aside, ignore_errors=True)  # no file can be put in a folder's place
                if file.is_dir():
                    aside.unlink(missing_ok=True)
                file.replace(aside)

    def remove(self) -> None:
        """Deletes the folder."""
        shutil.rmtree(self.path, ignore_errors=True)

    def write_progress(self, **values: Any) -> None:
        """Says where the running stage stands."""
        self._write("progress.json", values)

    def progress(self) -> dict[str, Any]:
        """Returns what ``write_progress`` said last."""
        return self._read("progress.json", dict[str, Any]) or {}

    def collect(self) -> RunRecord:
        """Returns the record that the folder's files add up to."""
        record = self.description()
        if record is None:
            raise FileNotFoundError(f"{self.path}: no run.json: not the folder of a run")
        trained, failure = self._trained(), self.failure()
        scores = {name: score for name in self._scored() if (score := self.score(name)) is not None}
        status = "pending"
        if failure is not None:
            status = "skipped" if failure.type == "Unsupported" else failure.status
        elif trained["fit"] is not None:
            status = status_of_scores(scores.values())
        elif self.state.exists() or self.log.exists():
            status = "interrupted"
        reason = failure.message if failure is not None and status == "skipped" else None
        created = datetime.now(UTC).isoformat(timespec="seconds")
        found = {"status": status, "scores": scores, "failure": failure, "reason": reason, "created": created}
        return RunRecord(**vars(record) | trained | found)

    def is_told_by(self, record: RunRecord | None) -> bool:
        """Tells whether a record is of what this folder holds, and of no other training of the same run."""
        with contextlib.suppress(NewerRecord):
            if record is None or self.description() is None:
                return False
            own = self.collect()
            return (own.fit, own.failure, own.scores) == (record.fit, record.failure, record.scores)
        return False

    def _scored(self) -> list[str]:
        return sorted(file.stem for file in (self.path / "scores").glob("*.json"))

    def _write(self, name: str, content: BaseModel | dict[str, Any]) -> None:
        values = content.model_dump(mode="json") if isinstance(content, BaseModel) else content
        write_atomically(self.path / name, json.dumps(values, indent=1, sort_keys=True).encode())

    def _read(self, name: str, kind: type[_T]) -> _T | None:
        return self._parsed(name, kind)[0]

    def _parsed(self, name: str, kind: type[_T]) -> tuple[_T | None, str | None]:
        """Returns what a file holds, or why it cannot be used; what a newer version wrote is a ``ValueError``."""
        try:
            content = json.loads((self.path / name).read_bytes())
            if not isinstance(content, dict):
                return None, "it is no JSON object"
            version = content.get("version")
            if not isinstance(version, int) or version <= RECORD_VERSION:
                return TypeAdapter(kind).validate_python(content), None
        except FileNotFoundError:
            return None, None
        except OSError as error:
            return None, f"it cannot be read ({error.strerror})"
        except ValidationError as error:
            return None, what_is_wrong(error.errors()[0])
        except ValueError:
            return None, "it is not JSON"
        which = f"of version {version}, this genharness knows {RECORD_VERSION}: update genharness"
        raise NewerRecord(f"{self.path / name} is a record {which}")
