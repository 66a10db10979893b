"""Settings: how runs are done, as a user asks for it. Planner, dispatcher and loader all take them."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from harness.records.store import Artifacts
from harness.support.limits import Limits


@dataclass(frozen=True)
class Settings:
    """How to run.

    Attributes:
        artifacts: where runs and store live.
        data: where data live; None takes ``HARNESS_DATA`` or the cache folder.
        jobs: how many child processes at a time; 0 chooses: one for each core and thread, one on an accelerator.
        device: ``auto`` or a device name, for every run that asks for none itself.
        executor: the executor's registered name.
        blocked: plugins that are not imported, in child processes neither.
        redo_stale: plan what is stale as missing; old runs and records stay until they are cleaned.
        retry_failed: plan what has failed as missing.
        limits: what a run may take; where they say nothing, the suite's count.
    """

    artifacts: Artifacts
    data: Path | None = None
    jobs: int = 0
    device: str = "auto"
    executor: str = "local"
    blocked: tuple[str, ...] = ()
    redo_stale: bool = False
    retry_failed: bool = False
    limits: Limits = field(default_factory=Limits)
