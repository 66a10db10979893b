"""What an executor is, and what it is given: it starts a job somewhere and can be asked how it goes."""

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from harness.support.limits import Limits

INTERRUPTED = 75  # the exit status of a job that saved its state and stopped
NO_SPACE = 74  # of one that could not write its results, not even why
STORE_SECRETS = ("HARNESS_STORE", "PGPASSWORD")  # variables that open a store: no process that does a job has them
LOG_FILE = "log.txt"


@dataclass(frozen=True)
class Stage:
    """One figure to measure: the name it is kept under, the metric, its cache key, the split that is scored."""

    name: str
    metric: str
    key: str
    split: Literal["test", "valid"] = "test"
    plugin: str = ""  # which registers the metric


@dataclass(frozen=True)
class Job:
    """What a child process is told: the run's ``folder``, in which ``run.json`` is, and the figures wanted.

    Names such as ``my_model.py:KDE`` are relative to ``code_folder``. Plugins in ``blocked`` are not imported, and
    none but ``plugins``, if they are given, before a figure needs it. It works on ``device``, None is what the run asks
    for. The executor sees to the ``limits``.
    """

    folder: Path
    stages: tuple[Stage, ...] = ()
    data_folder: Path | None = None
    blocked: tuple[str, ...] = ()
    code_folder: Path = Path()
    device: str | None = None
    limits: Limits = field(default_factory=Limits)
    plugins: tuple[str, ...] | None = None

    @property
    def log(self) -> Path:
        """Where all goes that the child process prints."""
        return self.folder / LOG_FILE


@dataclass(frozen=True)
class Ended:
    """Why an executor ended a job itself: which limit, and what was found, in words."""

    status: Literal["timed-out", "out-of-memory"]
    message: str


class Handle(ABC):
    """A started job."""

    @abstractmethod
    def exit_code(self) -> int | None:
        """Returns the exit status once the job has ended (negative: killed by that signal), None while it runs.

        It is asked many times a second, and is where an executor enforces the job's limits.
        """

    def ended(self) -> Ended | None:
        """Returns why the executor ended the job, None if it did not."""
        return None

    @abstractmethod
    def stop(self) -> None:
        """Asks the job to save its state and to end."""

    @abstractmethod
    def kill(self) -> None:
        """Ends the job at once."""


class Executor(ABC):
    """Calls ``harness.work(job)`` in a fresh process, somewhere; results come back through the runs' folders alone."""

    @abstractmethod
    def start(self, job: Job) -> Handle:
        """Starts a job in a fresh process."""

    def close(self) -> None:  # noqa: B027 (optional)
        """Releases what the executor holds."""
