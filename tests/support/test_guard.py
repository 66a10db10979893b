"""Code of a plugin in this process: whatever it does is an exception, and what others depend on stays as it was."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
import torch

from harness.support.guard import Escaped, describe_error, guarded, no_exit, shown, undisturbed


class Mute(Exception):
    def __str__(self):
        raise RuntimeError("no")

    __repr__ = __str__


def raises(error):
    raise error


@pytest.mark.parametrize(
    ("act", "said"),
    [
        (lambda: sys.exit(0), "it called sys.exit(0)"),
        (lambda: sys.exit("bye"), "it called sys.exit('bye')"),
        (lambda: os._exit(0), "it called os._exit(0)"),
        (lambda: raises(KeyboardInterrupt()), "it raised KeyboardInterrupt"),
        (lambda: raises(GeneratorExit("now")), "it raised GeneratorExit: now"),
        (lambda: raises(Mute()), "Mute: <Mute whose str() raises>"),
        (lambda: raises(SystemExit(Mute())), "it called sys.exit(<Mute whose repr() raises>)"),
        (lambda: raises(OSError("full")), "OSError: full"),
    ],
)
def test_whatever_ends_it_is_an_exception_that_is_told_in_one_line(act, said):
    with pytest.raises(Exception) as found, guarded("a test"):
        act()
    assert describe_error(found.value) == said


def test_os_exit_passes_by_whoever_catches_every_exception():
    def act():
        try:
            os._exit(0)
        except Exception:
            pytest.fail("it was caught on its way")

    with pytest.raises(Escaped), no_exit():
        act()


def test_os_exit_is_itself_again_afterwards():
    before = os._exit
    with guarded("a test"), no_exit():
        assert os._exit is not before
    assert os._exit is before


def test_threads_that_leave_in_any_order_leave_os_exit_as_it_was():
    before, entered, left = os._exit, threading.Event(), threading.Event()

    def first():
        with no_exit():
            entered.set()
            left.wait(10)

    thread = threading.Thread(target=first)
    thread.start()
    entered.wait(10)
    with no_exit():
        left.set()
        thread.join(10)
        assert os._exit is not before
    assert os._exit is before


def test_a_process_that_it_forks_ends_as_it_likes():
    code = """
import os
from harness.support.guard import guarded
with guarded("a test"):
    if (child := os.fork()) == 0:
        os._exit(7)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr == "7\n"  # and what it prints is no part of a command's output


def test_ctrl_c_interrupts_it():
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt), guarded("a test"):
            os.kill(os.getpid(), signal.SIGINT)
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, before)


def test_the_working_folder_is_put_back(tmp_path):
    before = Path.cwd()
    with guarded("a test"):
        os.chdir(tmp_path)
    assert Path.cwd() == before


def test_a_working_folder_that_is_gone_stops_nothing(tmp_path, monkeypatch):
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    with guarded("a test"):
        pass
    with pytest.raises(FileNotFoundError):  # it stays where it was
        Path.cwd()
    os.chdir(tmp_path)  # from where monkeypatch finds its way back


@pytest.mark.parametrize(
    ("what", "read", "change"),
    [
        ("default dtype", torch.get_default_dtype, lambda: torch.set_default_dtype(torch.float64)),
        ("default device", torch.get_default_device, lambda: torch.set_default_device("meta")),
        ("gradients", torch.is_grad_enabled, lambda: torch.set_grad_enabled(False)),
        ("number of threads", torch.get_num_threads, lambda: torch.set_num_threads(torch.get_num_threads() + 1)),
        (
            "deterministic algorithms",
            torch.get_deterministic_debug_mode,
            lambda: torch.use_deterministic_algorithms(True),
        ),
        (
            "precision of products",
            torch.get_float32_matmul_precision,
            lambda: torch.set_float32_matmul_precision("medium"),
        ),
        ("anomaly detection", torch.is_anomaly_enabled, lambda: torch.autograd.set_detect_anomaly(True)),
        ("autocast", lambda: torch.is_autocast_enabled("cpu"), lambda: torch.set_autocast_enabled("cpu", True)),
        (
            "mkldnn.enabled",
            lambda: torch.backends.mkldnn.enabled,
            lambda: setattr(torch.backends.mkldnn, "enabled", False),
        ),
    ],
)
@pytest.mark.filterwarnings("ignore:Anomaly Detection")
def test_a_global_setting_is_put_back_and_said(caplog, what, read, change):
    before = read()
    with undisturbed("plugin 'loud'"):
        change()
        assert read() != before
    assert read() == before
    [message] = caplog.messages
    assert message.startswith(f"plugin 'loud' changed torch's {what} from {before} to ")


def test_what_was_set_before_torch_was_there_is_put_back_too():
    code = """
from harness.support.guard import guarded
with guarded("a test"):
    import torch
    torch.set_default_dtype(torch.float64)
print(torch.get_default_dtype())
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "torch.float32\n"


@pytest.mark.parametrize(
    ("seed", "draw"),
    [(torch.manual_seed, lambda: torch.rand(1)), (random.seed, random.random), (np.random.seed, np.random.random)],
    ids=["torch", "random", "numpy"],
)
def test_random_numbers_go_on_as_if_nothing_had_been_drawn(seed, draw):
    seed(1)
    expected = draw()
    seed(1)
    with undisturbed("a test"):
        seed(0)
        draw()
    assert draw() == expected


def test_a_value_whose_text_raises_is_shown_by_its_type():
    assert shown(Mute()) == "<Mute whose repr() raises>"
    assert shown(5) == "5"
