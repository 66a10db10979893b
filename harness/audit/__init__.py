"""Audits: a likelihood is checked before it is ranked. Names load when they are used.

>>> from harness.audit import Subject, audit
>>> report = audit(Subject("mine", MyModel))  # doctest: +SKIP
>>> report.symbol, [result.check for result in report.failed]  # doctest: +SKIP
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from harness.audit.engine import ERROR_RATE, Check, audit
    from harness.audit.laboratory import Laboratory
    from harness.audit.subject import Specimen, Subject
    from harness.audit.trial import NotApplicable, Note, Trial
    from harness.audit.verdict import AUDIT_VERSION, AuditReport, CheckResult

_LAZY = {
    "harness.audit.engine": ("ERROR_RATE", "Check", "audit"),
    "harness.audit.laboratory": ("Laboratory",),
    "harness.audit.subject": ("Specimen", "Subject"),
    "harness.audit.trial": ("NotApplicable", "Note", "Trial"),
    "harness.audit.verdict": ("AUDIT_VERSION", "AuditReport", "CheckResult"),
}
_HOME = {name: module for module, names in _LAZY.items() for name in names}

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


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(importlib.import_module(_HOME[name]), name)
    raise AttributeError(f"module 'harness.audit' has no attribute {name!r}")
