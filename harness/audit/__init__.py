"""Audits: is a likelihood one, do samples follow it, does a model behave? A model is checked before it is ranked.

In comes a ``Subject``: a model's class with hyperparameters. Out go an ``AuditReport``, values that go to JSON and
back, and from ``coding`` a file of coded images with its receipt. Imported here are models, datasets and metrics as a
plugin sees them (``interface``), and ``support``; ``verdict`` needs no torch. Names load when they are used.

>>> from harness.audit import Subject, audit
>>> report = audit(Subject("mine", MyModel))  # doctest: +SKIP
>>> report.symbol, [result.check for result in report.failed]  # doctest: +SKIP
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from harness.audit.engine import ERROR_RATE, audit
    from harness.audit.subject import Subject
    from harness.audit.verdict import AuditReport, CheckResult

__all__ = ["ERROR_RATE", "AuditReport", "CheckResult", "Subject", "audit"]

_MODULES = {"ERROR_RATE": "engine", "audit": "engine", "Subject": "subject"}


def __getattr__(name: str) -> Any:
    if name in __all__:
        return getattr(importlib.import_module(f"harness.audit.{_MODULES.get(name, 'verdict')}"), name)
    raise AttributeError(f"module 'harness.audit' has no attribute {name!r}")
