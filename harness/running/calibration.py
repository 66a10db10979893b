"""Turns a training budget in minutes into steps, once, so that a resumed or repeated run is the same run."""

from __future__ import annotations

import copy
import time
from typing import NamedTuple

from torch.utils.benchmark import timer

from harness.interface.dataset import Dataset
from harness.interface.model import Model
from harness.interface.spec import Budget, Precision
from harness.interface.training import Interrupted, Trainer
from harness.support.randomness import derive_seed, isolated_rng

_MIN_STEPS = 10
_WARM_UP_STEPS = 3
_ENDLESS = Budget(1_000_000, "steps")


class _Mark(NamedTuple):
    seconds: float
    step: int
    validation_seconds: float


class _TimedTrainer(Trainer):
    """A trainer that knows how long its validations took."""

    validations: int = 0
    validation_seconds: float = 0.0

    @property
    def validates(self) -> bool:
        return self._validation is not None

    @property
    def validation_interval(self) -> int | None:
        """Steps between two validations."""
        return self._validation_interval(self._loop.steps_an_epoch)

    def _run_validation(self) -> None:
        start = timer()
        super()._run_validation()
        self.validation_seconds += timer() - start
        self.validations += 1

    def validate_now(self) -> None:
        """Runs a validation that is not due."""
        self._run_validation()


def calibrate_steps(
    model: Model,
    data: Dataset,
    minutes: float,
    *,
    seed: int = 0,
    precision: Precision = "float32",
    max_seconds: float = 8.0,
) -> int:
    """Returns how many training steps fit into ``minutes`` on this machine, validation and set-up included.

    The model's own ``fit`` runs on a throw-away copy for at least 10 steps and ``max_seconds`` / 2, but no longer than
    ``max_seconds``; its first 3 steps are not counted. With s seconds a step, v seconds a validation, a validation
    every e steps and u seconds before the end of the first step, the answer is (60 minutes - u) / (s + v / e), at
    least 1. Where no validation falls into that time, one is run. The global random numbers are left as they were.

    Args:
        model: is copied, not changed.
        data: what it will train on.
        minutes: the budget, positive.
        seed, precision: as the training will have them.
        max_seconds: how long the steps may take, in seconds.

    Returns:
        The number of steps; 1 for a model whose ``fit`` takes no steps, which no budget bounds.

    Raises:
        ValueError: ``minutes`` is not positive.
    """
    if not minutes > 0:
        raise ValueError(f"minutes must be positive, not {minutes}")
    copied = copy.deepcopy(model)
    marks: list[_Mark] = []  # after each step of warm-up, and at the end

    def should_stop() -> bool:
        elapsed = time.perf_counter() - marks[0].seconds if marks else 0.0
        enough = elapsed >= max_seconds or (trainer.step >= _MIN_STEPS and elapsed >= max_seconds / 2)
        if enough or trainer.step <= _WARM_UP_STEPS:
            marks.append(_Mark(timer(), trainer.step, trainer.validation_seconds))
        if enough and trainer.validates and trainer.validations == 0:
            trainer.validate_now()
        return enough

    trainer = _TimedTrainer(copied, data, budget=_ENDLESS, seed=seed, precision=precision, should_stop=should_stop)
    began, stopped = timer(), False
    with isolated_rng(derive_seed(seed, "calibration"), model.device):
        try:
            copied.fit(data, trainer)
        except Interrupted:
            stopped = True
    if not stopped:
        return max(1, trainer.step)
    set_up = marks[0].seconds - began - marks[0].validation_seconds
    start, end = marks[-2:]
    in_validation = end.validation_seconds - start.validation_seconds
    step_seconds = (end.seconds - start.seconds - in_validation) / (end.step - start.step)
    if interval := trainer.validation_interval:
        step_seconds += trainer.validation_seconds / trainer.validations / interval
    return max(1, int((60 * minutes - set_up) / step_seconds))
