"""The local executor: a fresh child process for each run, forked from a server that has torch loaded but has never
computed.

The server keeps a start cheap and every child clean: no CUDA context, no thread pool and no state is inherited. A child
is watched: for how long it has worked, and how much memory it and what it started have resident.
"""

import contextlib
import ctypes
import faulthandler
import logging
import multiprocessing
import os
import signal
import sys
import tempfile
import threading
import time
import traceback
import types
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from io import TextIOWrapper
from multiprocessing import forkserver
from multiprocessing.context import ForkServerContext
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import NoReturn

import psutil

from harness import INTERRUPTED, STORE_SECRETS, Ended, Executor, Handle, Job, Limits, work

# All that is slow to import and that nearly every run needs; an optimizer's first step imports torch._dynamo.
_PRELOAD = [
    "torch",
    "torch._dynamo",
    "torch.utils.benchmark",
    "torch.utils.flop_counter",
    "torch.utils.tensorboard",
    "scipy.stats",
    "sklearn.datasets",
    "harness.running.worker",
    "harness.builtin.executors.local",
    "harness.builtin.executors.server",
]
_STACK_SIGNAL, _STACK_SECONDS = signal.SIGUSR1, 0.3
_GRACE_SECONDS = 5.0
_WATCH_SECONDS = 0.2
_SERVER_GONE = 255  # what multiprocessing says then
_LONGEST_FOLDER = 70  # a socket's address has 104 characters at most, and multiprocessing adds 32 to its folder
_SET_CHILD_SUBREAPER = 36  # prctl(2)
_starting = threading.Lock()  # while it is held, the server has no child that this process does not know
_exit = os._exit  # while code of a plugin runs, a guard stands before it


class LocalExecutor(Executor):
    """Runs jobs on this machine, and ends those that take more than their limits."""

    def __init__(self) -> None:
        self._context: ForkServerContext = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload(_PRELOAD)
        _start_server()

    def start(self, job: Job) -> Handle:
        """Starts a job in a child process; its output goes to the run's log."""
        process = self._context.Process(target=_child, args=(job, dict(os.environ), Path.cwd()), name=job.folder.name)
        with _without_main(), _starting:
            process.start()
        return _LocalHandle(process, job.limits)


class _LocalHandle(Handle):
    def __init__(self, process: BaseProcess, limits: Limits) -> None:
        assert process.pid is not None
        self._process, self._pid, self._watch = process, process.pid, Watch(process.pid, limits)
        self._ended: Ended | None = None

    def exit_code(self) -> int | None:
        code = self._process.exitcode
        if code == _SERVER_GONE:
            self.kill()  # somebody killed the fork server: nobody can tell any more how this child ends
            return -signal.SIGKILL
        if code is None and self._ended is None and (verdict := self._watch.verdict()) is not None:
            self._ended = verdict
            with contextlib.suppress(ProcessLookupError):
                # lets the child write, where it can, what it was doing; it may be deep inside a library
                os.kill(self._pid, _STACK_SIGNAL)
                self._process.join(_STACK_SECONDS)
            self.kill()
            self._process.join(_GRACE_SECONDS)
            code = self._process.exitcode
        if code is not None:
            _end_left(self._pid)
        return code

    def ended(self) -> Ended | None:
        return self._ended

    def stop(self) -> None:
        self._process.terminate()

    def kill(self) -> None:
        kill_all(family(self._pid))
        _end_left(self._pid)


class Watch:
    """Tells when a process is beyond its limits, by a ``clock`` of seconds that only grow.

    Memory is the sum over the process and all that it started; pages that they share count for each, so that a limit is
    never exceeded unseen.
    """

    def __init__(self, pid: int, limits: Limits, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._pid, self._limits, self._clock = pid, limits, clock
        self._started = self._looked_at = clock()

    def verdict(self) -> Ended | None:
        """Returns which limit is exceeded, None if none is. Looks at memory five times a second at most."""
        now, seconds, most = self._clock(), self._limits.seconds, self._limits.memory_bytes
        if seconds is not None and now - self._started > seconds:
            return Ended("timed-out", f"it worked for more than its limit of {seconds:g} s")
        if most is None or now - self._looked_at < _WATCH_SECONDS:
            return None
        self._looked_at = now
        if (resident := resident_bytes(self._pid)) <= most:
            return None
        return Ended("out-of-memory", f"{resident / 1e9:.2f} GB resident, more than its limit of {most / 1e9:.2f} GB")


def resident_bytes(pid: int) -> int:
    """Returns the memory that a process and its descendants have resident, in bytes; 0 for one that is gone."""
    total = 0
    for process in family(pid):
        with contextlib.suppress(psutil.Error):
            total += int(process.memory_info().rss)
    return total


def family(pid: int) -> list[psutil.Process]:
    """Returns a process and all that it started, itself last."""
    try:
        process = psutil.Process(pid)
        return [*process.children(recursive=True), process]
    except psutil.Error:
        return []


def kill_all(processes: Iterable[psutil.Process]) -> None:
    """Ends processes at once; those that are gone are gone."""
    for process in processes:
        with contextlib.suppress(psutil.Error):
            process.kill()


def _end_left(pid: int) -> None:
    """Ends what a child that has ended left behind: its group, and what the server inherited when it crashed."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)
    with _starting, contextlib.suppress(psutil.Error):
        server, own = vars(forkserver._forkserver)["_forkserver_pid"], multiprocessing.active_children()
        for orphan in psutil.Process(server).children():
            with contextlib.suppress(ProcessLookupError):  # what others of this process fork there is in its group
                if orphan.pid not in {child.pid for child in own} and os.getpgid(orphan.pid) != os.getpgid(server):
                    kill_all(family(orphan.pid))


def inherit_orphans() -> None:
    """Makes what a child of this process leaves behind, in whatever session, a child of this process. Linux alone."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(_SET_CHILD_SUBREAPER, 1)


@contextmanager
def _without_main() -> Iterator[None]:
    """Keeps a child from importing the caller's main script again: it needs nothing of it."""
    main = sys.modules["__main__"]
    sys.modules["__main__"] = types.ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main


def _start_server() -> None:
    """Starts the server deaf to Ctrl-C from its beginning, without what opens a store, and with a short address.

    What it ignores, its children ignore: the coordinator decides what Ctrl-C means. A child could read what the server
    was started with, whatever its own variables have.
    """
    with _without_main(), contextlib.ExitStack() as after:
        if threading.current_thread() is threading.main_thread():  # no other may set handlers
            before = signal.signal(signal.SIGINT, signal.SIG_IGN)
            after.callback(signal.signal, signal.SIGINT, signal.default_int_handler if before is None else before)
        after.callback(os.environ.update, {name: os.environ.pop(name) for name in STORE_SECRETS if name in os.environ})
        folder = tempfile.gettempdir()
        after.callback(setattr, tempfile, "tempdir", folder)
        if len(os.fsencode(folder)) > _LONGEST_FOLDER:
            tempfile.tempdir = next((short for short in ("/tmp", "/var/tmp") if os.access(short, os.W_OK)), folder)
        forkserver.ensure_running()


def _child(job: Job, environment: Mapping[str, str], working_folder: Path) -> None:
    os.setpgid(0, 0)
    inherit_orphans()
    # The server has what the caller had when it started; variables and folder may have changed since.
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(working_folder)
    descriptor = os.open(job.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(encoding="utf-8", errors="replace")  # the caller's terminal may know less than a log
    faulthandler.enable(file=descriptor)
    faulthandler.register(_STACK_SIGNAL, file=descriptor)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", stream=sys.stderr, force=True)
    stop = threading.Event()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    threading.Thread(target=_watch_parent, args=(stop,), daemon=True).start()
    status = 1
    try:
        status = work(job, should_stop=stop.is_set)
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        traceback.print_exc()
    _leave(status)


def _leave(status: int) -> NoReturn:
    """Ends the child with all that it started, at once: its threads, which may never end, are not waited for."""
    kill_all(psutil.Process().children(recursive=True))
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    _exit(status)


def _watch_parent(stop: threading.Event) -> None:
    """Ends the child soon after its coordinator: it saves its state if it trains, and is gone within seconds."""
    parent = multiprocessing.parent_process()
    if parent is None:
        return
    parent.join()
    stop.set()
    time.sleep(10)
    _leave(INTERRUPTED)
