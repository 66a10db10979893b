"""Models that fail, each in a way of its own."""

from __future__ import annotations

import os
import signal
import sys
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
