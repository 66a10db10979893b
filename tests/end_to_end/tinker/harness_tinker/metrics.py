"""Metrics that take no time."""

from __future__ import annotations

import os
import signal
import time

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
