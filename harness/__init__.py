"""A plugin-based benchmark harness for generative image models.

The public names below load when they are used: ``import harness`` imports no torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from harness.entries import DatasetEntry, ExecutorEntry, MetricEntry, ModelEntry
from harness.hookspecs import hookimpl

if TYPE_CHECKING:
    from harness.api import load, run
    from harness.audit import AuditReport, Subject
    from harness.dataset import BernoulliSplit, Dataset, Split
    from harness.datasets.folder import DataFolder
    from harness.leaderboard import Leaderboard
    from harness.metric import DegenerateSamples, Evaluation, Metric, NonFiniteScore, Score
    from harness.model import (
        Autoregressive,
        ClassConditional,
        ExactLikelihood,
        ImportanceWeighted,
        Inference,
        Invertible,
        LatentVariable,
        Model,
        Unsupported,
        VariationalBound,
    )
    from harness.profiling import Certificate, certify
    from harness.record import RunRecord, ScoreRecord
    from harness.sampling import Noise, Sampler, SamplingTrace, clamp_known
    from harness.spec import Budget, ImageSpec, RunSpec
    from harness.training import Diverged, Trainer, mean_over

_LAZY = {
    "harness.api": ("load", "run"),
    "harness.audit": ("AuditReport", "Subject"),
    "harness.dataset": ("BernoulliSplit", "Dataset", "Split"),
    "harness.metric": ("DegenerateSamples", "Evaluation", "Metric", "NonFiniteScore", "Score"),
    "harness.model": (
        "Autoregressive",
        "ClassConditional",
        "ExactLikelihood",
        "ImportanceWeighted",
        "Inference",
        "Invertible",
        "LatentVariable",
        "Model",
        "Unsupported",
        "VariationalBound",
    ),
    "harness.sampling": ("Noise", "Sampler", "SamplingTrace", "clamp_known"),
    "harness.datasets.folder": ("DataFolder",),
    "harness.leaderboard": ("Leaderboard",),
    "harness.profiling": ("Certificate", "certify"),
    "harness.record": ("RunRecord", "ScoreRecord"),
    "harness.spec": ("Budget", "ImageSpec", "RunSpec"),
    "harness.training": ("Diverged", "Trainer", "mean_over"),
}
_HOME = {name: module for module, names in _LAZY.items() for name in names}

__all__ = [
    "AuditReport",
    "Autoregressive",
    "BernoulliSplit",
    "Budget",
    "Certificate",
    "ClassConditional",
    "DataFolder",
    "Dataset",
    "DatasetEntry",
    "DegenerateSamples",
    "Diverged",
    "Evaluation",
    "ExactLikelihood",
    "ExecutorEntry",
    "ImageSpec",
    "ImportanceWeighted",
    "Inference",
    "Invertible",
    "LatentVariable",
    "Leaderboard",
    "Metric",
    "MetricEntry",
    "Model",
    "ModelEntry",
    "Noise",
    "NonFiniteScore",
    "RunRecord",
    "RunSpec",
    "Sampler",
    "SamplingTrace",
    "Score",
    "ScoreRecord",
    "Split",
    "Subject",
    "Trainer",
    "Unsupported",
    "VariationalBound",
    "certify",
    "clamp_known",
    "hookimpl",
    "load",
    "mean_over",
    "run",
]


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(importlib.import_module(_HOME[name]), name)
    raise AttributeError(f"module 'harness' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
