"""How a running suite looks: live bars on a terminal, a line a finished run elsewhere."""

from __future__ import annotations

from typing import Any

from rich import progress
from rich.console import Console

from harness.boards.audits import AUDIT, audit_of_score
from harness.records.record import FAILURES, RunRecord
from harness.running.ingest import Reporter
from harness.support.names import printable


class ConsoleReporter(Reporter):
    """Shows progress on standard error, while ``bars`` are entered."""

    def __init__(self) -> None:
        self._console = Console(stderr=True)
        done, times = progress.MofNCompleteColumn(), (progress.TimeElapsedColumn(), progress.TimeRemainingColumn())
        columns = ("{task.description}", progress.BarColumn(bar_width=24), done, "{task.fields[note]}", *times)
        silent = not self._console.is_terminal
        self.bars = progress.Progress(*columns, console=self._console, transient=True, disable=silent)
        self._tasks: dict[str, progress.TaskID] = {}
        self._phase: progress.TaskID | None = None
        self._done = self._total = 0

    def phase(self, name: str, jobs: int) -> None:
        """Starts a phase's overall bar."""
        if self._phase is not None:
            self.bars.remove_task(self._phase)
        self._done, self._total = 0, jobs
        self._phase = self.bars.add_task(name, total=jobs, note="")
        self._console.print(f"{name}: {jobs} run{'s' if jobs > 1 else ''}", highlight=False)

    def progress(self, run: str, values: dict[str, Any]) -> None:
        """Moves a run's bar."""
        if run not in self._tasks:
            self._tasks[run] = self.bars.add_task(f"  {run}", total=None, note="")
        note = str(values.get("stage", ""))
        if values.get("loss") is not None:
            note = f"loss {values['loss']:.4g}, {values['steps_per_second']:.3g} steps/s"
        if values.get("best_valid") is not None:
            note += f", valid {values['best_valid']:.4g}"
        done = values.get("step") or 0
        self.bars.update(self._tasks[run], completed=done, total=values.get("total_steps"), note=note)

    def finished(self, record: RunRecord) -> None:
        """Prints a line for a finished run."""
        if record.run in self._tasks:
            self.bars.remove_task(self._tasks.pop(record.run))
        self._done += 1
        if self._phase is not None:
            self.bars.update(self._phase, completed=self._done)
        what = summarise(record)
        self._print(f"[{self._done}/{self._total}] {record.run}: {outcome_of(record)}" + (f" ({what})" if what else ""))

    def note(self, text: str, kind: str = "note") -> None:
        """Prints a line."""
        self._print(f"{kind}: {text}")

    def _print(self, text: str) -> None:
        self._console.print(printable(text), highlight=False, markup=False, soft_wrap=True)


def outcome_of(record: RunRecord) -> str:
    """Returns a run's status; one that has trained, and that nothing could be measured on, is not just done."""
    figures = [score.status for name, score in record.scores.items() if name != AUDIT]
    nothing = record.status == "done" and figures and set(figures) == {"skipped"}
    return "done, nothing measured" if nothing else record.status


def summarise(record: RunRecord) -> str:
    """Returns a run's figures, or what stopped it, in a few words."""
    if record.failure is not None:
        return f"{record.failure.stage}: {record.failure.type}: {' '.join(record.failure.message.split())[:200]}"
    parts = [f"fit {record.fit.seconds:.1f} s"] if record.fit else []
    for name, score in record.scores.items():
        if name == AUDIT and score.status == "done":
            parts.append(f"audit {audit_of_score(score).cell}")
        elif score.status == "done" and score.stage == "quality" and score.value is not None:
            parts.append(f"{name} {score.value:.5g}")
        elif score.status in (*FAILURES, "skipped") and score.failure is not None:
            parts.append(f"{name} {score.status.upper()}: {' '.join(score.failure.message.split())[:120]}")
    return ", ".join(parts)
