"""The audit of a run's model, as a metric: its class with the run's hyperparameters, not the trained weights."""

import json
import logging
from pathlib import Path
from typing import Any

from pydantic import ValidationError

import harness
from harness import AUDIT_VERSION, AuditReport, CheckResult, Evaluation, ImageSpec, Metric, Origin, Score, Unsupported

log = logging.getLogger("harness")

SEED = 0  # of every audit of a board, so that ``harness audit`` repeats it
_PATIENCE_SECONDS = 3600.0


class Audit(Metric):
    """How many checks of ``harness.audit`` a model fails; 0 is what a right model gets.

    What is audited is the class with the run's hyperparameters, on small sample spaces and that of the run's dataset.
    Seeds, budgets and suites share one audit, kept in the audit folder until code, hyperparameters, space or it change.
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
        """
        origin = evaluation.origin
        if isinstance(evaluation.model, harness.StoredSamples):
            raise Unsupported("samples from a file have no code to audit")
        if origin is None:
            raise Unsupported("it is not known how the model was made, and so it cannot be made for other spaces")
        report, kept = _report(origin, evaluation.data.spec, evaluation.audit_folder)
        verdicts = [result.verdict for result in report.checks]
        details = {name.replace(" ", "_"): float(verdicts.count(name)) for name in ("pass", "fail", "not applicable")}
        protocol = {
            "standing": report.standing,
            "version": report.version,
            "seed": str(report.seed),
            "capability": report.capability,
            "spaces": "; ".join(report.spaces),
            "checks": json.dumps(_checks(report), ensure_ascii=False, sort_keys=True, separators=(",", ":")),
            **kept,
        }
        return Score(float(len(report.failed)), None, "exact", protocol=protocol, details=details)


def _checks(report: AuditReport) -> list[dict[str, Any]]:
    """The verdicts as JSON, without times; statistics of four digits, which is what a board shows at most."""
    found = []
    for result in report.checks:
        values = result.model_dump(mode="json", exclude_defaults=True, exclude={"seconds", "seed"})
        for name in {"statistic", "threshold"} & values.keys():
            if isinstance(values[name], float):
                values[name] = float(f"{values[name]:.4g}")
        found.append(values)
    return found


def _report(origin: Origin, full: ImageSpec, folder: Path | None) -> tuple[AuditReport, dict[str, str]]:
    """Returns the audit that the folder keeps, or makes it, and its file. Two that need one wait for each other."""
    if folder is None:
        return _audit(origin, full), {}
    key = {
        "model": origin.name,
        "hyperparameters": dict(origin.hyperparameters),
        "code": origin.code,
        "spec": [*full.shape, full.levels, full.num_classes],
        "version": AUDIT_VERSION,
        "seed": SEED,
    }
    file = folder / f"{harness.slug(origin.name)}-{harness.digest_of(key)[:16]}.json"
    if (report := _read(file)) is None:
        what = f"the audit of {origin.name}"
        with harness.one_at_a_time(file.with_suffix(".lock"), what, seconds=_PATIENCE_SECONDS):
            if (report := _read(file)) is None:
                report = _audit(origin, full)
                harness.write_atomically(file, report.model_dump_json(indent=1).encode())
    return report, {"report": file.name}


def _audit(origin: Origin, full: ImageSpec) -> AuditReport:
    def tell(result: CheckResult) -> None:
        log.info("audit: %s: %s (%.1f s)", result.check, result.verdict, result.seconds)

    subject = harness.Subject(origin.name, origin.construct, origin.changed, full)
    return harness.audit(subject, seed=SEED, on_check=tell)


def _read(file: Path) -> AuditReport | None:
    """A damaged file counts as not there: the audit is made again."""
    try:
        return AuditReport.model_validate_json(file.read_bytes())
    except (FileNotFoundError, ValidationError):
        return None
