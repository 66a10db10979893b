"""A plugin-based benchmark harness for generative image models.

The public names below load when they are used: ``import harness`` imports no torch.
"""

from __future__ import annotations

TYPE_CHECKING = False  # not typing's: importing this costs nothing, so that Ctrl-C is listened to from the first
# isort: off
if TYPE_CHECKING:  # the one list of public names: type checkers read it, and so does ``__getattr__`` below
    # what a plugin registers
    from harness.interface.hooks import hookimpl as hookimpl
    from harness.interface.entries import BoardEntry as BoardEntry, DatasetEntry as DatasetEntry
    from harness.interface.entries import ExecutorEntry as ExecutorEntry, FigureEntry as FigureEntry
    from harness.interface.entries import MetricEntry as MetricEntry, ModelEntry as ModelEntry
    from harness.interface.entries import NetworkEntry as NetworkEntry, SamplerEntry as SamplerEntry

    # datasets
    from harness.interface.spec import ImageSpec as ImageSpec
    from harness.interface.dataset import BernoulliSplit as BernoulliSplit, Dataset as Dataset
    from harness.interface.dataset import KnownDataset as KnownDataset, KnownDistribution as KnownDistribution
    from harness.interface.dataset import Split as Split
    from harness.interface.data_folder import CanonicalDigest as CanonicalDigest, DataCorrupt as DataCorrupt
    from harness.interface.data_folder import DataFolder as DataFolder, DataUnavailable as DataUnavailable
    from harness.interface.data_folder import RemoteFile as RemoteFile

    # models: what they promise, and their training
    from harness.interface.model import Autoregressive as Autoregressive, ClassConditional as ClassConditional
    from harness.interface.model import ExactLikelihood as ExactLikelihood, ImportanceWeighted as ImportanceWeighted
    from harness.interface.model import Inference as Inference, Invertible as Invertible
    from harness.interface.model import LatentVariable as LatentVariable, Model as Model, Unsupported as Unsupported
    from harness.interface.model import StoredSamples as StoredSamples, VariationalBound as VariationalBound
    from harness.interface.training import Diverged as Diverged, Trainer as Trainer, mean_over as mean_over

    # samplers, and whether a fast one draws what a plain one does
    from harness.interface.sampling import BoundSampler as BoundSampler, Noise as Noise, Sampler as Sampler
    from harness.interface.sampling import SamplingTrace as SamplingTrace, clamp_known as clamp_known
    from harness.interface.sampling import raster_sample as raster_sample
    from harness.profiling.certificate import Certificate as Certificate, certify as certify

    # metrics
    from harness.interface.spec import ScoreKind as ScoreKind
    from harness.interface.metric import DegenerateSamples as DegenerateSamples, Evaluation as Evaluation
    from harness.interface.metric import FeatureNetwork as FeatureNetwork, Metric as Metric
    from harness.interface.metric import NonFiniteScore as NonFiniteScore, Origin as Origin, Score as Score
    from harness.builtin.features.network import TorchFeatures as TorchFeatures
    from harness.builtin.metrics.feature_metric import FeatureMetric as FeatureMetric, SampleMetric as SampleMetric
    from harness.builtin.metrics.feature_metric import jackknife_error as jackknife_error
    from harness.builtin.metrics.feature_metric import jackknife_groups as jackknife_groups

    # boards
    from harness.interface.board import Board as Board, Cell as Cell, Column as Column
    from harness.boards.rows import Rows as Rows
    from harness.boards.figures import Group as Group
    from harness.boards.published import PublishedFigure as PublishedFigure
    from harness.boards.row import BoardRow as BoardRow
    from harness.boards.table import Table as Table
    from harness.boards.rank_agreement import Agreement as Agreement, agreement_along as agreement_along
    from harness.boards.rank_agreement import agreement_between as agreement_between

    # figures
    from harness.interface.figure import ShownModel as ShownModel, image_grid as image_grid

    # executors
    from harness.interface.executor import INTERRUPTED as INTERRUPTED, NO_SPACE as NO_SPACE, Ended as Ended
    from harness.interface.executor import STORE_SECRETS as STORE_SECRETS
    from harness.interface.executor import Executor as Executor, Handle as Handle, Job as Job, Stage as Stage
    from harness.support.limits import Limits as Limits
    from harness.running.worker import work as work

    # what a user does: run, load, audit, code, rank
    from harness.interface.spec import Budget as Budget, RunSpec as RunSpec
    from harness.api import load as load, run as run, with_samplers as with_samplers
    from harness.auditing.engine import audit as audit
    from harness.auditing.checks.dependence import probe_dependence as probe_dependence
    from harness.auditing.subject import Subject as Subject
    from harness.records.verdict import AUDIT_VERSION as AUDIT_VERSION, AuditReport as AuditReport
    from harness.records.verdict import CheckResult as CheckResult
    from harness.auditing.coding import Receipt as Receipt, code_images as code_images
    from harness.records.record import RunRecord as RunRecord, ScoreRecord as ScoreRecord
    from harness.boards.leaderboard import Leaderboard as Leaderboard

    # tools: random numbers, files, weights
    from harness.support.randomness import derive_seed as derive_seed, generator as generator
    from harness.support.randomness import isolated_rng as isolated_rng
    from harness.support.names import digest_of as digest_of, slug as slug
    from harness.support.files import one_at_a_time as one_at_a_time, write_atomically as write_atomically
    from harness.support.checkpoint import CheckpointError as CheckpointError, load_weights as load_weights
    from harness.support.checkpoint import put_weights as put_weights, read_tensors as read_tensors
    from harness.support.checkpoint import save_weights as save_weights

    # tools: what a computation takes
    from harness.support.environment import on_threads as on_threads
    from harness.support.observers import OthersLoad as OthersLoad
    from harness.support.observers import TouchedStorages as TouchedStorages, unique_tensors as unique_tensors
    from harness.support.flops import count_flops as count_flops
    from harness.profiling.resources import WorkingMemory as WorkingMemory
    from harness.profiling.resources import has_statistics as has_statistics, state_bytes as state_bytes
    from harness.profiling.resources import step_flops as step_flops, working_memory as working_memory
    from harness.profiling.timing import Sweep as Sweep, Timing as Timing, default_sampler as default_sampler
    from harness.profiling.timing import scorer as scorer, speed_protocol as speed_protocol
    from harness.profiling.timing import step_seconds as step_seconds, sweep_batch_sizes as sweep_batch_sizes
    from harness.profiling.timing import time_calls as time_calls
# isort: on


_modules: dict[str, str] = {}


def _module_of(name: str) -> str | None:
    """Returns where a public name is defined, None if it is none."""
    if not _modules:
        import ast
        from pathlib import Path

        tree = ast.parse(Path(__file__).read_text(encoding="utf-8"))
        listed = next(node for node in tree.body if isinstance(node, ast.If))
        for node in listed.body:
            if isinstance(node, ast.ImportFrom):
                _modules.update((alias.name, str(node.module)) for alias in node.names)
    return _modules.get(name)


if not TYPE_CHECKING:  # a type checker would take every misspelt name for one that this knows

    def __getattr__(name: str) -> object:
        if name == "__all__":
            return __dir__()
        if name.startswith("_") or (module := _module_of(name)) is None:
            raise AttributeError(f"module 'harness' has no attribute {name!r}")
        import importlib

        return getattr(importlib.import_module(module), name)


def __dir__() -> list[str]:
    _module_of("")
    return sorted(_modules)
