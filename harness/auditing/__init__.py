"""Audits: is a likelihood one, do samples follow it, does a model behave? A model is checked before it is ranked.

In comes a ``Subject``: a model's class with hyperparameters. Out go an ``AuditReport``, values that go to JSON and
back, and from ``coding`` a file of coded images with its receipt. Imported here are models, datasets and metrics as a
plugin sees them (``interface``), ``records.verdict`` and ``support``.

>>> from harness import Subject, audit
>>> report = audit(Subject("mine", MyModel))  # doctest: +SKIP
>>> report.symbol, [result.check for result in report.failed]  # doctest: +SKIP
"""
