"""Metrics that take no time."""

from __future__ import annotations

import os
import signal
import time

import torch

from harness import Metric, Score


class Ink(Metric):
    name = "ink"
    unit = "levels"
    version = os.environ.get("TINKER_INK_VERSION", "1")

    def evaluate(self, evaluation):
        return Score(evaluation.model.sample(50).double().mean().item(), None, "estimate")


class Hardness(Metric):
    name = "hardness"
    unit = "mohs"
    stage = "speed"

    def evaluate(self, evaluation):
        return Score(7.0, None, "estimate")


class Dawdling(Metric):
    name = "dawdling"
    unit = "none"

    def evaluate(self, evaluation):
        time.sleep(20 * float(os.environ.get("TINKER_STEP_SECONDS", "0")))
        return Score(0.0, None, "exact")


class Vanishing(Metric):
    name = "vanishing"
    unit = "none"

    def evaluate(self, evaluation):
        os._exit(0)


class Deadly(Metric):
    name = "deadly"
    unit = "none"

    def evaluate(self, evaluation):
        os.kill(os.getpid(), signal.SIGKILL)


class Crooked(Metric):
    """Returns what no metric may; ``kind`` says what."""

    unit = "u"

    def __init__(self, *, kind):
        self.name = f"crooked-{kind}"
        self.unit = 5 if kind == "unit" else "u"
        self.kind = kind

    def evaluate(self, evaluation):
        number = len(evaluation.split)
        return {
            "surrogate": lambda: Score(1.0, None, "exact", protocol={"file": "a\udcff"}),
            "pairs": lambda: Score(1.0, None, "exact", per_image=torch.zeros(number, 2)),
            "whole": lambda: Score(1.0, None, "exact", per_image=torch.zeros(number, dtype=torch.int64)),
            "undefined": lambda: Score(1.0, None, "exact", per_image=torch.full((number,), torch.nan)),
            "complex": lambda: Score(1j, None, "exact"),
            "protocol": lambda: Score(1.0, None, "exact", protocol={"number": 5}),
            "number": lambda: 1.0,
        }[self.kind]()
