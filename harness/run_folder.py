"""A run's own folder: what a worker leaves there, file by file, and the record that it adds up to.

    run.json               what the run is (a record without results), written before it starts
    log.txt                everything that the child process printed
    progress.json          where a running stage stands
    training.safetensors   the trainer's state, while it trains
    model.safetensors      the weights; fit.json beside it, written last, says that the training is complete
    scores/NAME.json       one file a figure, and NAME.safetensors with its per-image scores
    failure.json           what stopped the run, if something did

Every file is written atomically. The store is made from these folders, never the other way round.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from harness.files import write_atomically
from harness.record import Failure, FitRecord, RunRecord, RunStatus, ScoreRecord


def slug(name: str) -> str:
    """Returns a name as a file name: letters, digits, dot, hyphen, at-sign; nothing that leaves the folder."""
    return re.sub(r"[^A-Za-z0-9@._-]+", "-", name).strip("-.") or "x"


@dataclass(frozen=True)
class RunFolder:
    """The folder of one run."""

    path: Path

    @property
    def run(self) -> str:
        """The run's name."""
        return self.path.name

    @property
    def weights(self) -> Path:
        """The trained weights."""
        return self.path / "model.safetensors"

    @property
    def log(self) -> Path:
        """What the child process printed."""
        return self.path / "log.txt"

    @property
    def lock(self) -> Path:
        """Held by the process that works on the run."""
        return self.path / ".lock"

    def score_file(self, name: str) -> Path:
        """Returns where the score ``name`` (a metric, or ``metric@fingerprint``) is kept."""
        return self.path / "scores" / f"{slug(name)}.json"

    def per_image_file(self, name: str) -> Path:
        """Returns where its per-image scores are kept."""
        return self.score_file(name).with_suffix(".safetensors")

    def begin(self, record: RunRecord) -> None:
        """Writes what the run is."""
        self._write("run.json", record.model_dump(mode="json"))

    def description(self) -> RunRecord | None:
        """Returns what ``begin`` wrote, or None."""
        content = self._read("run.json")
        return None if content is None else RunRecord.model_validate(content)

    def fit(self) -> FitRecord | None:
        """Returns the training's result once it is complete, None before."""
        content = self._read("fit.json")
        return None if content is None else FitRecord.model_validate(content["fit"])

    def write_fit(self, fit: FitRecord, environment: Mapping[str, Any]) -> None:
        """Marks the training as complete; the weights are there already."""
        self._write("fit.json", {"fit": fit.model_dump(mode="json"), "environment": dict(environment)})

    def score(self, name: str) -> ScoreRecord | None:
        """Returns a score, or None."""
        content = self._read(f"scores/{slug(name)}.json")
        return None if content is None else ScoreRecord.model_validate(content)

    def write_score(self, name: str, score: ScoreRecord) -> None:
        """Writes a score; its per-image file is there already."""
        self._write(f"scores/{slug(name)}.json", score.model_dump(mode="json"))

    def failure(self) -> Failure | None:
        """Returns what stopped the run, or None."""
        content = self._read("failure.json")
        return None if content is None else Failure.model_validate(content)

    def write_failure(self, failure: Failure) -> None:
        """Notes what stopped the run."""
        self._write("failure.json", failure.model_dump(mode="json"))

    def forget_failures(self) -> None:
        """Removes what failed, so that it is tried again; what a model cannot do stays."""
        failure = self.failure()
        if failure is not None and failure.type != "Unsupported":
            (self.path / "failure.json").unlink()
        for file in (self.path / "scores").glob("*.json"):
            score = self._read(f"scores/{file.name}")
            if score is None or score.get("status") == "failed":
                file.unlink()

    def write_progress(self, **values: Any) -> None:
        """Says where the running stage stands."""
        self._write("progress.json", values)

    def progress(self) -> dict[str, Any]:
        """Returns what ``write_progress`` said last."""
        return self._read("progress.json") or {}

    def collect(self) -> RunRecord:
        """Returns the record that the folder's files add up to."""
        record = self.description()
        if record is None:
            raise FileNotFoundError(f"{self.path}: no run.json: not the folder of a run")
        content = self._read("fit.json")
        failure = self.failure()
        scores = {}
        for file in sorted((self.path / "scores").glob("*.json")):
            found = self._read(f"scores/{file.name}")
            if found is not None:
                scores[file.stem] = ScoreRecord.model_validate(found)
        status: RunStatus = "pending"
        if failure is not None:
            status = "skipped" if failure.type == "Unsupported" else "failed"
        elif content is not None:
            status = "failed" if any(score.status == "failed" for score in scores.values()) else "done"
        elif (self.path / "training.safetensors").exists() or self.log.exists():
            status = "interrupted"
        return record.model_copy(
            update={
                "status": status,
                "fit": None if content is None else FitRecord.model_validate(content["fit"]),
                "environment": {} if content is None else content["environment"],
                "scores": scores,
                "failure": failure,
                "reason": failure.message if failure is not None and status == "skipped" else None,
                "created": datetime.now(UTC).isoformat(timespec="seconds"),
            }
        )

    def _write(self, name: str, content: Any) -> None:
        write_atomically(self.path / name, json.dumps(content, indent=1, sort_keys=True).encode())

    def _read(self, name: str) -> dict[str, Any] | None:
        try:
            content = json.loads((self.path / name).read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            raise ValueError(
                f"{self.path / name}: cannot be read ({error}); remove the file to redo its stage"
            ) from error
        assert isinstance(content, dict)
        return content


def is_readable(folder: RunFolder) -> bool:
    """Tells whether a folder holds a run that this version can read."""
    try:
        return folder.description() is not None
    except (ValidationError, ValueError):
        return False
