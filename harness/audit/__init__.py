"""Audits: a likelihood is checked before it is ranked."""

from harness.audit.engine import ERROR_RATE, Check, audit
from harness.audit.subject import Laboratory, Specimen, Subject
from harness.audit.trial import NotApplicable, Note, Trial
from harness.audit.verdict import AUDIT_VERSION, AuditReport, CheckResult

__all__ = [
    "AUDIT_VERSION",
    "ERROR_RATE",
    "AuditReport",
    "Check",
    "CheckResult",
    "Laboratory",
    "NotApplicable",
    "Note",
    "Specimen",
    "Subject",
    "Trial",
    "audit",
]
