"""The audit of a run's model, as a metric: its class with the run's hyperparameters, not the trained weights."""

from __future__ import annotations

import contextlib
import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from pydantic import ValidationError

from harness import (
    AUDIT_VERSION,
    AuditReport,
    Evaluation,
    ImageSpec,
    Metric,
    Origin,
    Score,
    Unsupported,
    digest_of,
    slug,
    write_atomically,
)

log = logging.getLogger("harness")

SEED = 0
"""Of every audit of a board, so that ``harness audit`` repeats it."""

_PATIENCE_SECONDS = 300.0


class Audit(Metric):
    """How many checks of ``harness.audit`` a model fails; 0 is what a right model gets.

    What is audited is the model's class with the run's hyperparameters, on small sample spaces and on that of the run's
    dataset. Seeds, budgets and suites share one audit, which the audit folder keeps: it is made again when the model's
    code, its hyperparameters, the sample space or the audit itself change.
    """

    name = "audit"
    board = ""  # a verdict, which every board shows
    unit = "checks failed"
    version = AUDIT_VERSION
    can_choose = False

    def evaluate(self, evaluation: Evaluation) -> Score:
        """Returns the number of failed checks.

        The protocol has ``standing`` (``passed``, ``failed``, ``not enumerated``, ``no likelihood``), the audit's
        ``version`` and ``seed``, the model's ``capability``, the ``spaces``, and ``checks``: JSON, one object for each
        check as ``harness.CheckResult`` has it, without what is empty. ``report`` names the file in the audit folder.

        Raises:
            Unsupported: it is not known how the model was made.
        """
        origin = evaluation.origin
        if origin is None:
            raise Unsupported("it is not known how the model was made, and so it cannot be made for other spaces")
        report, file = _report(origin, evaluation.data.spec, evaluation.audit_folder)
        verdicts = [result.verdict for result in report.checks]
        details = {name.replace(" ", "_"): float(verdicts.count(name)) for name in ("pass", "fail", "not applicable")}
        protocol = {
            "standing": report.standing,
            "version": report.version,
            "seed": str(report.seed),
            "capability": report.capability,
            "spaces": "; ".join(report.spaces),
            "checks": json.dumps(_checks(report), ensure_ascii=False, sort_keys=True, separators=(",", ":")),
        }
        if file is not None:
            protocol["report"] = file.name
        return Score(float(len(report.failed)), None, "exact", protocol=protocol, details=details)


def _checks(report: AuditReport) -> list[dict[str, Any]]:
    """The verdicts as JSON, without times; statistics of four digits, which is what a board shows at most."""
    found = []
    for result in report.checks:
        values = result.model_dump(mode="json", exclude_defaults=True, exclude={"seconds", "seed"})
        for name in ("statistic", "threshold"):
            if isinstance(values.get(name), float):
                values[name] = float(f"{values[name]:.4g}")
        found.append(values)
    return found


def _report(origin: Origin, full: ImageSpec, folder: Path | None) -> tuple[AuditReport, Path | None]:
    """Returns the audit that the folder keeps, or makes it. Two processes that need one wait for each other."""
    if folder is None:
        return _audit(origin, full), None
    key = {
        "model": origin.name,
        "hyperparameters": dict(origin.hyperparameters),
        "code": origin.code,
        "spec": [*full.shape, full.levels, full.num_classes],
        "version": AUDIT_VERSION,
        "seed": SEED,
    }
    file = folder / f"{slug(origin.name)}-{digest_of(key)[:16]}.json"
    if (report := _read(file)) is not None:
        return report, file
    with _alone(file.with_suffix(".lock")):
        if (report := _read(file)) is None:
            report = _audit(origin, full)
            write_atomically(file, report.model_dump_json(indent=1).encode())
    return report, file


def _audit(origin: Origin, full: ImageSpec) -> AuditReport:
    from harness import CheckResult, Subject, audit  # most runs find their audit made

    def tell(result: CheckResult) -> None:
        log.info("audit: %s: %s (%.1f s)", result.check, result.verdict, result.seconds)

    return audit(Subject(origin.name, origin.construct, origin.changed, full), seed=SEED, on_check=tell)


def _read(file: Path) -> AuditReport | None:
    """A damaged file counts as not there: the audit is made again."""
    try:
        return AuditReport.model_validate_json(file.read_bytes())
    except (FileNotFoundError, ValidationError):
        return None


@contextlib.contextmanager
def _alone(lock: Path) -> Iterator[None]:
    """Holds a lock; whoever waits too long, or cannot lock here, goes on without: then at worst both audit."""
    lock.parent.mkdir(parents=True, exist_ok=True)
    held = FileLock(str(lock))
    try:
        held.acquire(timeout=_PATIENCE_SECONDS)
    except (Timeout, OSError, NotImplementedError) as error:
        log.warning("%s: %s; going on without it", lock.name, error)
    try:
        yield
    finally:
        held.release()
