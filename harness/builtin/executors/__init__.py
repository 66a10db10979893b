"""Where runs are executed; built in: a fresh child process for each run on this machine."""

from collections.abc import Sequence

from harness import ExecutorEntry, hookimpl


@hookimpl
def register_executors() -> Sequence[ExecutorEntry]:
    """Registers the executors of the core."""
    target = "harness.builtin.executors.local:LocalExecutor"
    return [ExecutorEntry("local", target, summary="a child process a run, on this machine")]
