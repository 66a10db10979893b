"""How a running suite looks: live bars on a terminal; elsewhere a line for each finished run, and one every 30 s."""

import contextlib
import logging
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from logging.handlers import BufferingHandler
from statistics import fmean
from typing import Any, Literal

from rich import progress
from rich.console import Console
from rich.table import Column
from rich.text import Text

from harness.boards.audits import AUDIT, audit_of_score
from harness.records.record import FAILURES, RunRecord
from harness.running.estimates import Estimates, seconds_of
from harness.running.ingest import SPEEDS, Reporter
from harness.running.planning import PlannedRun
from harness.support.names import printable
from harness.support.numbers import duration

EVERY_SECONDS = 30.0  # from one line of what goes on to the next, off a terminal
_LONG_SECONDS = 10.0  # from then on a stage says how long it has taken
_MOST_RUNS, _MOST_LETTERS = 3, 100  # in such a line, and of what a stage says


class ConsoleReporter(Reporter):
    """Shows progress on standard error, while ``bars`` are entered."""

    def __init__(self, estimates: Estimates) -> None:
        self._console, self._estimates = Console(stderr=True), estimates
        cut = Column(ratio=1, no_wrap=True, overflow="ellipsis")  # names and notes alone, where a terminal is narrow
        columns = (
            progress.TextColumn("{task.description}", table_column=cut),
            progress.TextColumn("{task.fields[note]}", markup=False, table_column=cut),
            *(progress.BarColumn(bar_width=10), progress.TaskProgressColumn(), progress.TimeElapsedColumn()),
            progress.TextColumn("{task.fields[left]}"),
        )
        silent = not self._console.is_terminal
        self.bars = progress.Progress(*columns, console=self._console, transient=True, disable=silent, expand=True)
        self._every, self._began = EVERY_SECONDS if silent else 0.5, time.monotonic()
        self._said, self._tasks = self._began, dict[str, progress.Task]()
        self._open: dict[str, tuple[PlannedRun, float | None]] = {}  # what is not finished, and what it took before
        self._took: list[tuple[float, float | None]] = []  # what is finished took now, and before

    def phase(self, name: str, runs: Sequence[PlannedRun], at_a_time: int) -> None:
        """Starts a phase's overall bar."""
        for task in self.bars.tasks:
            self.bars.remove_task(task.id)
        self._overall, self._at_a_time, self._speeds, self._took = self._add(name), at_a_time, name == SPEEDS, []
        self._overall.total = len(runs)
        self._open = {run.run: (run, self._estimates.seconds(run)) for run in runs}
        self._print(f"{name}: {len(runs)} run{'s' * (len(runs) > 1)}, {at_a_time} at a time")

    def _add(self, name: str) -> progress.Task:
        self.bars.add_task(name, total=None, note="", left="", stage="", since=0.0)
        return self.bars.tasks[-1]

    def progress(self, run: str, values: dict[str, Any]) -> None:
        """Notes what a run does, and moves its bar, which is called by its name without all of the digest."""
        task = self._tasks.get(run) or self._tasks.setdefault(run, self._add(f"  {run[:-6]}"))
        if (stage := values.get("stage")) != task.fields["stage"]:
            task.fields.update(stage=stage, since=time.monotonic())
        seconds, task.total = time.monotonic() - task.fields["since"], values.get("total_steps")
        note = doing(values) + f" ({duration(seconds)})" * (seconds >= _LONG_SECONDS)
        left = "" if task.time_remaining is None else duration(task.time_remaining)
        self.bars.update(task.id, completed=values.get("step") or 0, note=note, left=left)

    def tick(self) -> None:
        """Moves the overall bar; off a terminal, says every so often what goes on."""
        if (now := time.monotonic()) - self._said < self._every:
            return
        seconds, self._said = self._left(), now
        left = "" if seconds is None else duration(seconds)
        self.bars.update(self._overall.id, note=self._counted, left=left)
        if self.bars.disable:
            what = [f"{run}: {task.fields['note']}" for run, task in self._tasks.items()]
            what[_MOST_RUNS:] = [f"{len(what) - _MOST_RUNS} more"] * (len(what) > _MOST_RUNS)
            times = f"{duration(now - self._began)}, {f'about {left} left' if left else 'time left not known'}"
            self._print(f"[{self._counted}] {times}; {'; '.join(what) or 'waiting for another process'}")

    @property
    def _counted(self) -> str:
        return f"{self._overall.completed:.0f}/{self._overall.total:.0f}"

    def _left(self) -> float | None:
        """Seconds, as far as it is known what each run and the speeds took before, or others of this phase take now."""
        usual = fmean(took for took, _ in self._took) if self._took else None
        gone = {run: task.elapsed or 0.0 for run, task in self._tasks.items()}
        late = [(gone.get(run, 0.0), before) for run, (_, before) in self._open.items()]
        known = [(took, before) for took, before in self._took if before]
        known += [(took, before) for took, before in late if before and took > before]
        pace = sum(took for took, _ in known) / sum(before for _, before in known) if known else 1.0
        later, left = 0.0 if self._speeds else self._estimates.speeds, [0.0]
        for run, (_, before) in self._open.items():
            whole = usual if before is None else pace * before
            if whole is None or later is None:
                return None
            left.append(max(0.0, whole - gone.get(run, 0.0)))
        return max(*left, sum(left) / self._at_a_time) + (later or 0.0)

    def finished(self, record: RunRecord) -> None:
        """Prints a line for a finished run."""
        if record.run in self._tasks:
            self.bars.remove_task(self._tasks.pop(record.run).id)
        self.bars.update(self._overall.id, advance=1)
        run, before = self._open.pop(record.run, (None, None))
        if run is not None and (took := seconds_of(run, [record])) is not None:
            self._took.append((took, before))
        what = summarise(record, "speed" if self._speeds else "quality")
        self._print(f"[{self._counted}] {record.run}: {outcome_of(record)}" + (f" ({what})" if what else ""))

    def note(self, text: str, kind: str = "note") -> None:
        """Prints a line."""
        self._print(f"{kind}: {text}")

    def _print(self, text: str) -> None:
        self._console.print(printable(text), highlight=False, markup=False, soft_wrap=True)


def doing(values: Mapping[str, Any]) -> str:
    """Returns what a running job does, by its ``progress.json``, in a few words."""
    parts = [str(values.get("stage", "starting")).partition("@")[0]]
    for key, name in (("loss", "loss"), ("best_valid", "valid")):
        parts += [f"{name} {values[key]:.4g}"] if values.get(key) is not None else []
    if values.get("total_steps"):  # last: a bar, which has a percentage, may cut it
        parts.append(f"step {values['step']} of {values['total_steps']}")
    return printable(": ".join(filter(None, (", ".join(parts), values.get("doing")))))[:_MOST_LETTERS]


def outcome_of(record: RunRecord) -> str:
    """Returns a run's status; one that has trained, and that nothing could be measured on, is not just done."""
    figures = [score.status for name, score in record.scores.items() if name != AUDIT]
    nothing = record.status == "done" and figures and set(figures) == {"skipped"}
    return "done, nothing measured" if nothing else record.status


def summarise(record: RunRecord, stage: Literal["quality", "speed"] = "quality") -> str:
    """Returns a run's figures of quality, or its speeds, or what stopped it, in a few words."""
    if record.failure is not None:
        return f"{record.failure.stage}: {record.failure.type}: {' '.join(record.failure.message.split())[:200]}"
    parts = [f"fit {record.fit.seconds:.1f} s"] if record.fit and stage == "quality" else []
    for name, score in record.scores.items():
        belongs = score.stage == stage or (stage == "quality" and score.status != "done")
        if name == AUDIT and score.status == "done" and belongs:
            parts.append(f"audit {audit_of_score(score).cell}")
        elif score.status == "done" and belongs and score.value is not None:
            parts.append(
                f"{score.metric} {score.value:.5g} {score.unit}" if stage == "speed" else f"{name} {score.value:.5g}"
            )
        elif score.failure is not None and (belongs or score.status in FAILURES):
            parts.append(f"{name} {score.status.upper()}: {' '.join(score.failure.message.split())[:120]}")
    return ", ".join(parts)


@contextlib.contextmanager
def telling(what: str) -> Iterator[Callable[[str], None]]:
    """Says on standard error what ``harness.progress`` is told, and what is printed; gives what a terminal prints."""
    console, logger, ended = Console(stderr=True), logging.getLogger("harness.progress"), threading.Event()
    status, told, began = console.status(what), BufferingHandler(2**30), time.monotonic()

    def say() -> None:
        while not ended.wait(0.2 if console.is_terminal else EVERY_SECONDS):
            doing = ": ".join([what, *(record.getMessage() for record in told.buffer[-1:])])
            words = Text(printable(f"{doing} ({duration(time.monotonic() - began)})"))
            (status.update if console.is_terminal else console.print)(words)

    logger.addHandler(told)
    logger.setLevel(logging.INFO)
    threading.Thread(target=say, daemon=True).start()
    try:
        with contextlib.redirect_stdout(sys.stderr), status:
            yield (lambda text: console.print(Text(text))) if console.is_terminal else (lambda text: None)
    finally:
        ended.set()
        logger.removeHandler(told)
        logger.setLevel(logging.NOTSET)
