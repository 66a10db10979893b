"""Runs a suite: plans it, does what is missing in phases, returns the records. Only this process writes the store."""

from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from harness.boards.published import published_beside
from harness.boards.rows import published_of, table_of
from harness.records.record import RunRecord, best_configuration
from harness.records.run_folder import NewerRecord
from harness.records.store import Artifacts
from harness.running.dispatch import Dispatcher
from harness.running.estimates import speeds_of
from harness.running.ingest import SPEEDS, Reporter
from harness.running.planning import Plan, PlannedRun, Settings
from harness.suites.suite import Suite


class Outcome(NamedTuple):
    """What came of a suite: the records of all its runs, and whether it was interrupted."""

    records: list[RunRecord]
    interrupted: bool


def plan_suite(suite: Suite, settings: Settings) -> Plan:
    """Returns what there is to do for a suite, or raises ValueError for what is wrong with it."""
    settings = replace(settings, limits=settings.limits.or_else(suite.limits))
    folder, rows = Path() if suite.file is None else suite.file.parent, suite.rows()
    if any(row.published for row in rows) or suite.table:
        published = {} if suite.file is None else published_beside(suite.file)
        table_of(suite, published)
        for row in rows:
            published_of(row.label, row.published, published)
    return Plan(rows, settings, folder, suite.file)


def run_plan(plan: Plan, reporter: Reporter | None = None, *, partial: bool = False) -> Outcome:
    """Does what is missing, tells a reporter how it goes, and returns the records of all runs.

    ``partial``: the plan is of a part or a variation of its suite; its runs are added to what the suite refers to.
    Ctrl-C once: running jobs save their state and stop, and the outcome says ``interrupted``; twice: they are killed.
    """
    plan = _refer(plan, partial)
    artifacts, runs = plan.settings.artifacts, plan.runs()
    store = artifacts.store
    if plan.settings.retry_failed:
        for run in runs:
            artifacts.folder(run.run).forget()
        plan.settings = replace(plan.settings, retry_failed=False)  # what fails once more is not tried a third time
    dispatcher, interrupted = Dispatcher(plan, reporter or Reporter()), False
    with dispatcher.interrupts.noting():
        try:
            dispatcher.run_phase("fit and score", runs)
            chosen, grids = _choose(plan)
            dispatcher.run_phase("score the chosen", grids)
            late = [run for run in chosen if run.speed_stages and run.state == "scores missing"]
            dispatcher.run_phase(SPEEDS, list(map(speeds_of, late)), exclusive=True)
        except KeyboardInterrupt:
            interrupted = True
        finally:
            dispatcher.close()
    return Outcome([record for run in runs if (record := store.get(run.run)) is not None], interrupted)


def _refer(plan: Plan, partial: bool) -> Plan:
    """Notes which runs a suite refers to, and plans anew if some of them were cleaned away just before that."""
    artifacts, names = plan.settings.artifacts, {run.stale_run or run.run: run.state for run in plan.runs()}
    if plan.suite is None:
        return plan
    artifacts.store.refer(artifacts.reference_of(plan.suite), names, anew=not partial)
    there = [name for name, state in names.items() if state != "missing"]
    if all(artifacts.folder(name).path.exists() or artifacts.store.get(name) is not None for name in there):
        return plan
    return _refer(Plan([row for row, _ in plan.rows], plan.settings, plan.plugins.code_folder, plan.suite), partial)


def _choose(plan: Plan) -> tuple[list[PlannedRun], list[PlannedRun]]:
    """Plans anew the runs whose figures go on the boards; returns all of them, and those of grids.

    A run of a grid is told from how many configurations the best on the validation split was chosen.
    """
    chosen, grids, artifacts = list[PlannedRun](), list[PlannedRun](), plan.settings.artifacts
    for _, configurations in plan.rows:
        best = best_configuration([[_collected(artifacts, run.run) for run in runs] for runs in configurations])
        for index, run in enumerate(configurations[best] if best is not None else ()):
            planned = plan.plan_run(run.asked, speed=index == 0)
            chosen.append(planned)
            if len(configurations) > 1:
                grids.append(planned)
                folder, tried = artifacts.folder(run.run), {"configurations_tried": len(configurations)}
                if folder.description() is not None:
                    folder.begin(planned.record.model_copy(update=tried))
    return chosen, grids


def _collected(artifacts: Artifacts, run: str) -> RunRecord | None:
    folder = artifacts.folder(run)
    with suppress(NewerRecord):
        return folder.collect() if folder.description() is not None else artifacts.store.get(run)
    return None
