"""Somebody else's code in this process: whatever it does is an exception, and what others depend on stays as it was."""

import contextlib
import ctypes
import logging
import multiprocessing
import os
import random
import signal
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from multiprocessing import resource_tracker
from pathlib import Path
from typing import Any, NoReturn

_IMPORT_SECONDS = 300.0
_SET_PARENT_DEATH_SIGNAL = 1  # prctl(2)
_leave = os._exit
_bodies: list[int] = []  # the process of each body of ``no_exit`` that is being run


class Escaped(RuntimeError):
    """Code of a plugin was about to end the process, or raised what only the process itself may."""


class _Exit(BaseException):
    """Stands for ``os._exit``, so that no ``except Exception`` on its way stops it."""


@contextmanager
def no_exit() -> Iterator[None]:
    """Makes ``sys.exit`` and ``os._exit`` in its body an ``Escaped``: a plugin never ends a command, in silence least.

    A process that the body forks ends as it likes. Several threads may be in such bodies, and leave them in any order.
    """
    _bodies.append(os.getpid())
    os._exit = _end
    try:
        yield
    except (_Exit, SystemExit) as error:
        raise Escaped(describe_error(error)) from error
    finally:
        _bodies.pop()
        if not _bodies:
            os._exit = _leave


def _end(status: int = 0) -> NoReturn:
    if os.getpid() not in _bodies:
        _leave(status)
    raise _Exit(f"it called os._exit({status!r})")


@contextmanager
def guarded(who: str) -> Iterator[None]:
    """Runs code of a plugin: what it raises is an Exception, what it prints no part of a command's output.

    Beyond ``no_exit``: a KeyboardInterrupt counts only if Ctrl-C was pressed. Working folder and global settings are
    put back. ``who`` is named in warnings.
    """
    pressed, folder = False, Path()
    with contextlib.suppress(OSError):  # a working folder that has been removed
        folder = Path.cwd()

    def note(before: Callable[..., object], *arguments: Any) -> None:
        nonlocal pressed
        pressed = True
        before(*arguments)

    try:
        with at_ctrl_c(note), no_exit(), undisturbed(who), contextlib.redirect_stdout(sys.stderr):
            yield
    except Exception:
        raise
    except BaseException as error:
        if pressed:
            raise
        raise Escaped(describe_error(error)) from error
    finally:
        with contextlib.suppress(OSError):
            os.chdir(folder)


def survive(load: Callable[[], object]) -> None:
    """Tries an import in a process of its own first: an ``Escaped`` if that is killed, as by a crash, or never ends.

    Where it is cheap, on Linux, and not in a child process of an executor, which somebody watches.
    """
    if sys.platform != "linux" or multiprocessing.parent_process() is not None:
        return
    with warnings.catch_warnings(action="ignore"):  # of threads, of which the child has none
        pid, deadline = os.fork(), time.monotonic() + _IMPORT_SECONDS
    if pid == 0:
        try:
            os.setsid()
            ctypes.CDLL(None).prctl(_SET_PARENT_DEATH_SIGNAL, signal.SIGKILL)
            if (torch := sys.modules.get("torch")) is not None:
                torch.set_num_threads(1)  # a pool of threads that has worked is not there after a fork
            for descriptor in range(3):
                os.dup2(os.open(os.devnull, os.O_RDWR), descriptor)
            load()
        finally:
            end_children()
            _leave(0)  # what it raised it raises again
    try:
        while (ended := os.waitpid(pid, os.WNOHANG))[0] == 0 and time.monotonic() < deadline:
            time.sleep(0.001)
    except ChildProcessError:  # SIGCHLD is ignored, or somebody else waits for all children
        return
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(pid, signal.SIGKILL)
    if ended[0] == 0:
        os.waitpid(pid, 0)
        raise Escaped(f"it takes more than {_IMPORT_SECONDS:g} s")
    if (code := os.waitstatus_to_exitcode(ended[1])) < 0:
        raise Escaped(f"it ends the process by {signal.Signals(-code).name}")


def end_with_main_thread() -> None:
    """Makes this process end with its main thread, and its children too: what plugins left there may never end."""
    own, wait = os.getpid(), vars(threading)["_shutdown"]  # a process that is forked waits for its threads as ever
    vars(threading)["_shutdown"] = lambda: end_children() if os.getpid() == own else wait()


def end_children() -> None:
    """Ends what this process has started, in whatever session, and what that started."""
    with contextlib.suppress(ChildProcessError, AttributeError):  # there is none, or no such call
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        import psutil

        for process in psutil.Process().children(recursive=True):
            if process.pid != vars(resource_tracker)["_resource_tracker"]._pid:  # it ends last, and tidies up
                with contextlib.suppress(psutil.Error):
                    process.kill()


@contextmanager
def at_ctrl_c(note: Callable[..., object]) -> Iterator[None]:
    """Within it, Ctrl-C calls ``note``, with the handler before it: in the main thread, unless Ctrl-C is ignored."""
    before = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or not callable(before):
        yield
        return
    signal.signal(signal.SIGINT, partial(note, before))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


@contextmanager
def undisturbed(who: str) -> Iterator[None]:
    """Puts torch's global settings and all global random numbers back after its body, and says what was changed."""
    torch, before, states = sys.modules.get("torch"), dict[str, Any](), list[tuple[Callable[[Any], object], Any]]()
    if torch is not None:
        import numpy as np

        before = {name: get() for name, (get, _, _) in _settings(torch).items()}
        drawn = ((np.random.set_state, np.random.get_state()), (random.setstate, random.getstate()))
        states = [(torch.set_rng_state, torch.get_rng_state()), *drawn]
    try:
        yield
    finally:
        for put, state in states:
            put(state)
        if (loaded := torch or sys.modules.get("torch")) is not None:
            for name, (get, put, fresh) in _settings(loaded).items():
                if (value := get()) != (was := before.get(name, value if fresh is None else fresh)):
                    put(was)
                    told = "%s changed torch's %s from %s to %s, for others too: it was put back"
                    logging.getLogger("harness").warning(told, who, name, was, value)


def _settings(torch: Any) -> dict[str, tuple[Callable[[], Any], Callable[[Any], object], Any]]:
    """Returns what figures depend on: how each is read, how it is set, and what it is in a fresh process."""
    cpu, put_device = torch.device("cpu"), torch.set_default_device
    found = {
        "default dtype": (torch.get_default_dtype, torch.set_default_dtype, torch.float32),
        "default device": (torch.get_default_device, lambda it: put_device(None if it == cpu else it), cpu),
        "gradients": (torch.is_grad_enabled, torch.set_grad_enabled, True),
        "number of threads": (torch.get_num_threads, torch.set_num_threads, None),
        "deterministic algorithms": (torch.get_deterministic_debug_mode, torch.set_deterministic_debug_mode, 0),
        "precision of products": (torch.get_float32_matmul_precision, torch.set_float32_matmul_precision, None),
        "anomaly detection": (torch.is_anomaly_enabled, torch.autograd.set_detect_anomaly, False),
        "autocast": (partial(torch.is_autocast_enabled, "cpu"), partial(torch.set_autocast_enabled, "cpu"), False),
    }
    for flag in ("cudnn.benchmark", "cudnn.deterministic", "cudnn.enabled", "mkldnn.enabled"):
        module, _, name = flag.partition(".")
        backend = getattr(torch.backends, module)
        found[flag] = (partial(getattr, backend, name), partial(setattr, backend, name), None)
    return found


def describe_error(error: BaseException) -> str:
    """Returns an exception in one line, whatever its ``str`` does; an attempt to end the process in words."""
    if isinstance(error, SystemExit):
        return f"it called sys.exit({shown(error.code)})"
    if isinstance(error, Escaped | _Exit):
        return str(error)
    said = f"{type(error).__name__}: {shown(error, str)}"
    return said if isinstance(error, Exception) else f"it raised {said}".removesuffix(": ")


def shown(value: object, how: Callable[[Any], str] = repr) -> str:
    """Returns a value as text, also where its own ``repr`` or ``str`` raises."""
    try:
        return how(value)
    except BaseException:
        return f"<{type(value).__name__} whose {how.__name__}() raises>"
