"""Models that fail, each in a way of its own."""

from __future__ import annotations

import ctypes
import errno
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import torch

from harness import Unsupported
from harness_tinker.tilted import Tilted


class Raises(Tilted):
    def fit(self, data, trainer):
        if not Path(os.environ["TINKER_GLUE"]).exists():
            raise RuntimeError("the handle\nhas come off")


class Diverges(Tilted):
    def fit(self, data, trainer):
        for _ in trainer.batches(data.train, batch_size=100):
            trainer.log(loss=float("nan"))


class Unable(Tilted):
    def __init__(self, spec):
        super().__init__(spec)
        raise Unsupported("it draws in colour only")


class Undefined(Tilted):
    def fit(self, data, trainer):
        pass

    def log_prob(self, images):
        values = super().log_prob(images)
        return torch.where(torch.arange(len(values)) == 7, torch.nan, values)


class Killed(Tilted):
    def fit(self, data, trainer):
        os.kill(os.getpid(), signal.SIGKILL)


class Exits(Tilted):
    def fit(self, data, trainer):
        sys.stdout.write("the last words of a model\n")
        sys.stdout.flush()
        os._exit(3)


class Stubborn(Tilted):
    def fit(self, data, trainer):
        time.sleep(60)


class Quits(Tilted):
    def fit(self, data, trainer):
        sys.exit(0)


class Crashes(Tilted):
    def fit(self, data, trainer):
        ctypes.string_at(0)


class Hungry(Tilted):
    """Takes 100 MB more every few milliseconds, as a leak does, and never more than 3 GB."""

    def fit(self, data, trainer):
        eaten = []
        for _ in range(30):
            eaten.append(torch.ones(25_000_000))
            time.sleep(0.1)


class Greedy(Tilted):
    def fit(self, data, trainer):
        torch.empty(1 << 48)


class Dreams(Tilted):
    def fit(self, data, trainer):
        self.sleep_deeply()

    def sleep_deeply(self):
        time.sleep(60)


class Overflows(Tilted):
    """Finds no space left when it saves itself."""

    def fit(self, data, trainer):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "training.safetensors")


class Backwards(Tilted):
    """Trains while the clock of the machine is set back an hour at every look."""

    def fit(self, data, trainer):
        real = time.time
        looks = iter(range(1 << 30))
        time.time = lambda: real() - 3600.0 * next(looks)
        super().fit(data, trainer)


class Constant(Tilted):
    def sample(self, num_samples):
        return torch.zeros(num_samples, *self.spec.shape, dtype=torch.uint8)


class NotANumber(Tilted):
    def sample(self, num_samples):
        return torch.full((num_samples, *self.spec.shape), torch.nan)


class Lingers(Tilted):
    """Leaves behind a thread and processes that would end in ten minutes."""

    def fit(self, data, trainer):
        super().fit(data, trainer)
        sleep = [sys.executable, "-c", "import time; time.sleep(600)", os.environ["TINKER_MARK"]]
        threading.Thread(target=time.sleep, args=(600,)).start()
        multiprocessing.get_context("fork").Process(target=time.sleep, args=(600,)).start()
        subprocess.Popen(sleep)
        subprocess.Popen(sleep, start_new_session=True)
        subprocess.run(["sh", "-c", 'setsid "$@" & exit', "sh", *sleep], check=True)


class Drops(Tilted):
    """Crashes, and leaves processes behind, two in sessions of their own, one of them without its parent."""

    def fit(self, data, trainer):
        sleep = [sys.executable, "-c", "import time; time.sleep(600)", os.environ["TINKER_MARK"]]
        subprocess.Popen(sleep)
        subprocess.Popen(sleep, start_new_session=True)
        subprocess.run(["sh", "-c", 'setsid "$@" & exit', "sh", *sleep], check=True)
        ctypes.string_at(0)


class Spies(Tilted):
    """Prints all that a process can know of its environment."""

    def fit(self, data, trainer):
        super().fit(data, trainer)
        parent = Path(f"/proc/{os.getppid()}/environ")
        for file in (Path("/proc/self/environ"), parent):
            sys.stdout.write(file.read_text() if file.exists() else "")
        sys.stdout.write(f"{dict(os.environ)} {sys.argv} all that it knows\n")
        sys.stdout.flush()


class Boastful(Tilted):
    def fit(self, data, trainer):
        pass

    def log_prob(self, images):
        return torch.full((len(images),), 5.0)


class Steering(Tilted):
    def fit(self, data, trainer):
        raise ValueError("\x1bc\x9b31m \x00 \u202egnp.exe \x07")


class Wordy(Tilted):
    def fit(self, data, trainer):
        raise ValueError("x" * 30_000_000)
