"""What the audits of a row's runs say: its standing on a board, and the verdicts in words. From records alone."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from pydantic import TypeAdapter, ValidationError

from harness.records.record import FAILURES, RunRecord, ScoreRecord
from harness.records.verdict import CheckResult

AUDIT = "audit"
Standing = Literal["failed", "not audited", "not enumerated", "no likelihood", "passed"]
_WORST_FIRST: tuple[Standing, ...] = get_args(Standing)
_CHECKS = TypeAdapter(tuple[CheckResult, ...])  # as the protocol of an ``audit`` score has them


@dataclass(frozen=True)
class RowAudit:
    """The worst of what the audits of a row's runs say."""

    standing: Standing  # ``not audited`` also where the code of a run is not that which was audited
    checks: tuple[CheckResult, ...] = ()  # the verdicts of that audit, in its order
    problem: str = ""  # why there is no audit, if something went wrong

    @property
    def failed(self) -> tuple[CheckResult, ...]:
        """The checks that failed."""
        return tuple(check for check in self.checks if check.verdict == "fail")

    @property
    def names(self) -> str:
        """The names of the failed checks."""
        return ", ".join(check.check for check in self.failed)

    @property
    def cell(self) -> str:
        """What stands in a board's cell."""
        return {"passed": "✓", "failed": f"✗ {self.names}"}.get(self.standing, self.standing)


def audit_of(records: Iterable[RunRecord]) -> RowAudit:
    """Returns the worst audit of a row's runs. A run without one is covered by another run's of the same code."""
    trained = [record for record in records if record.fit is not None]
    found = [(record.code, audit_of_score(record.scores.get(AUDIT))) for record in trained]
    covered = {code for code, audit in found if audit.standing != "not audited"}
    audits = [audit for code, audit in found if audit.standing != "not audited" or code not in covered]
    return min(audits, key=lambda audit: _WORST_FIRST.index(audit.standing), default=RowAudit("not audited"))


def audit_of_score(score: ScoreRecord | None) -> RowAudit:
    """Returns what an ``audit`` score says; ``not audited`` where there is none, or none that can be read."""
    if score is None:
        return RowAudit("not audited")
    if score.status != "done":
        why = "" if score.failure is None else f": {' '.join(score.failure.message.split())}"
        return RowAudit("not audited", problem=f"the audit is {score.status}{why}" * (score.status in FAILURES))
    standing = score.protocol.get("standing")
    if standing not in _WORST_FIRST:
        return RowAudit("not audited")
    try:
        return RowAudit(standing, _CHECKS.validate_json(score.protocol.get("checks", "[]")))
    except ValidationError:
        return RowAudit("not audited", problem="the audit's record cannot be read")


def audit_failures(rows: Sequence[tuple[str, RowAudit]]) -> list[str]:
    """Returns in words what failed in the audits of labels, and which audits there should be and are not."""
    notes = []
    for label, audit in rows:
        notes += [f"{label}: ✗ {in_words(check)}" for check in audit.failed]
        notes += [f"{label}: not audited, {_sentence(audit.problem)}"] if audit.problem else []
    return notes


def audit_notes(rows: Sequence[tuple[str, RowAudit]]) -> list[str]:
    """Returns what models of labels declare of themselves, and which checks they passed."""
    notes, alike = [], dict[str, list[str]]()
    for label, audit in rows:
        said: dict[str, list[str]] = {}
        for note in (note for check in audit.checks if check.check == "dependence" for note in check.notes):
            where, _, what = note.partition(": ")
            said.setdefault(what, []).append(where)
        words = "; ".join(f"{' and '.join(places)}: {what}" for what, places in said.items())
        notes += [f"{label}: dependence: {_sentence(words)}"] if words else []
        passed = ", ".join(check.check for check in audit.checks if check.verdict == "pass")
        alike.setdefault(passed, []).append(label)
    return notes + [f"Audit of {'; '.join(them)}: passed {passed}." for passed, them in alike.items() if passed]


def in_words(check: CheckResult) -> str:
    """A failure: where, what is wrong, the statistic against its threshold, and the smallest defect that is seen."""
    text = f"{check.check}{f' ({check.where})' if check.where else ''}: {_sentence(check.meaning)}"
    if check.statistic is None or check.threshold is None:
        return text
    relation = "<" if check.statistic < check.threshold else ">" if check.statistic > check.threshold else "="
    seen = f"; smallest defect seen: {check.smallest_defect}" if check.smallest_defect else ""
    return f"{text} {check.quantity}: {check.statistic:.3g} {relation} {check.threshold:.2g}{seen}."


def _sentence(text: str) -> str:
    """A text that ends in a full stop."""
    text = text.strip()
    return text if not text or re.search(r"[.!?]$", text) else f"{text}."
