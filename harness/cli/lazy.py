"""What commands use, each imported when it is first used: to say what there is, and what it takes, loads no torch."""
# mypy: implicit-reexport
# ruff: noqa: F401

import ast
import importlib
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

# isort: off
if TYPE_CHECKING:  # the one list: type checkers read it, and so does ``__getattr__`` below
    from harness.api import load_model
    from harness.auditing.coding import HEADER_BYTES, TOLERANCE, Receipt, code_images
    from harness.auditing.engine import CHECKS, audit, explain
    from harness.auditing.subject import Subject, describe
    from harness.auditing.trial import NOT_DECIDED, NOT_REACHED
    from harness.boards.audits import AUDIT, audit_of_score, in_words
    from harness.boards.comparison import Difference, NotComparable, NotFound, Side, Source, compare_rows, find_pair
    from harness.boards.history import History, Step, follow
    from harness.boards.leaderboard import Leaderboard
    from harness.boards.pair_tests import ALPHA
    from harness.boards.published import PublishedFigure, published_beside
    from harness.boards.rows import rows_of
    from harness.cli.context import Context
    from harness.cli.progress import ConsoleReporter, doing, outcome_of, summarise, telling
    from harness.cli.scaffold import write_plugin
    from harness.discovery.loading import as_json, load_dataset, load_model_class, model_code, origin_of, parameters_of
    from harness.discovery.loading import resolve, sampler_codes, type_of, with_samplers
    from harness.discovery.manager import KINDS, Kind, PluginManager, plugin_manager
    from harness.interface.data_folder import DataFolder, cache_folder
    from harness.interface.dataset import Dataset
    from harness.interface.figure import ShownModel, save_grid, save_images
    from harness.interface.metric import Evaluation
    from harness.interface.model import Model, StoredSamples, Unsupported
    from harness.interface.spec import ImageSpec, known_as
    from harness.profiling.files import check_profile, machine_section, outcome_line, render_profile, write_profile
    from harness.profiling.generation import NUM_CLASSES, GenerationRun, Profiled
    from harness.profiling.profile import MEASUREMENTS_FILE, GenerationProfile, Measurement, ProfiledRow
    from harness.profiling.profile import append_measurement, merge_measurements, read_measurements, write_measurements
    from harness.profiling.resources import random_data, record_trace
    from harness.profiling.tables import MachineTables, tables_of
    from harness.records.archive import PER_IMAGE_FILE, RECORDS_FILE, Archive, collect, collect_all, identities_of
    from harness.records.archive import own_archive, read_archive, write_archive
    from harness.records.merging import MergeConflicts, is_news, merge
    from harness.records.record import FAILURES, VALID_PREFIX, RunRecord, ScoreRecord, read_record
    from harness.records.store import Artifacts, StoreError, store_file
    from harness.records.untrusted import read_untrusted
    from harness.records.verdict import AuditReport, CheckResult
    from harness.report.charts import FORMATS, write_picture
    from harness.report.files import check_boards, render_board, write_boards
    from harness.report.grid import best_rows, grid_of
    from harness.report.history import chart_of
    from harness.report.pages import FOLDER, QUALITY, STRIPS
    from harness.report.site.build import one_file, site_files, write_files
    from harness.report.site.serving import SiteServer
    from harness.report.site.suite import SuitePages
    from harness.running.coordinator import Outcome, plan_suite, run_plan
    from harness.running.estimates import Estimates
    from harness.running.failures import failure_from
    from harness.running.figures import Drawn, FigureMaker, draw_model
    from harness.running.leases import remove_runs
    from harness.running.planning import Plan, PlannedRun, Settings
    from harness.suites.suite import Suite, SuiteError
    from harness.suites.toml import schema_of, schema_of_tables, toml_value
    from harness.support.checkpoint import load_weights
    from harness.support.environment import choose_device, describe_environment, fingerprint, on_threads
    from harness.support.files import alone_in, write_atomically
    from harness.support.git import Commit, Repository
    from harness.support.limits import Limits
    from harness.support.names import digest_of, slug, type_in_words
    from harness.support.numbers import KIND_SIGNS, fixed
    from harness.support.randomness import isolated_rng
# isort: on


@cache
def _modules() -> dict[str, str]:
    tree = ast.parse(Path(__file__).read_text(encoding="utf-8"))
    listed = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    return {alias.name: str(node.module) for node in listed for alias in node.names}


if not TYPE_CHECKING:  # a type checker would take every misspelt name for one that this knows

    def __getattr__(name: str) -> object:
        if name not in _modules():
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return getattr(importlib.import_module(_modules()[name]), name)
