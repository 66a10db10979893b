"""Turns a training budget in minutes into steps, once, so that a resumed or repeated run is the same run."""

import copy
import time

from torch.utils.benchmark import timer

from harness.interface.dataset import Dataset
from harness.interface.model import Model
from harness.interface.spec import Budget, Precision
from harness.interface.training import Interrupted, Trainer
from harness.support.randomness import derive_seed, isolated_rng

_MIN_STEPS = 10
_WARM_UP_STEPS = 3
_ENDLESS = Budget(1_000_000, "steps")


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
    A ``fit`` that takes no steps, which no budget bounds, has 1.
    """
    if not minutes > 0:
        raise ValueError(f"minutes must be positive, not {minutes}")
    copied = copy.deepcopy(model)
    trainer = _TimedTrainer(copied, data, seed, precision, max_seconds)
    with isolated_rng(derive_seed(seed, "calibration"), model.device):
        try:
            copied.fit(data, trainer)
        except Interrupted:
            return max(1, trainer.steps_in(60 * minutes))
    return max(1, trainer.step)


class _TimedTrainer(Trainer):
    """A trainer that stops after a while, and knows how long its steps and its validations took."""

    def __init__(self, model: Model, data: Dataset, seed: int, precision: Precision, max_seconds: float) -> None:
        super().__init__(
            model, data, budget=_ENDLESS, seed=seed, precision=precision, should_stop=self._has_seen_enough
        )
        self._max_seconds, self._began = max_seconds, timer()
        # time, steps and seconds in validations, after each step of warm-up, and at the end
        self._marks: list[tuple[float, int, float]] = []
        self._validations, self._validation_seconds = 0, 0.0

    def steps_in(self, seconds: float) -> int:
        """Returns how many steps fit into some seconds, set-up and validations included."""
        (warm, _, validated), (start, first, before), (end, last, after) = self._marks[0], *self._marks[-2:]
        set_up = warm - self._began - validated
        step_seconds = (end - start - (after - before)) / (last - first)
        if interval := self._validation_interval(self._loop.steps_an_epoch):
            step_seconds += self._validation_seconds / self._validations / interval
        return int((seconds - set_up) / step_seconds)

    def _run_validation(self) -> None:
        start = timer()
        super()._run_validation()
        self._validation_seconds += timer() - start
        self._validations += 1

    def _has_seen_enough(self) -> bool:
        elapsed = time.perf_counter() - self._marks[0][0] if self._marks else 0.0
        enough = elapsed >= self._max_seconds or (self.step >= _MIN_STEPS and elapsed >= self._max_seconds / 2)
        if enough or self.step <= _WARM_UP_STEPS:
            self._marks.append((timer(), self.step, self._validation_seconds))
        if enough and self._validation is not None and self._validations == 0:
            self._run_validation()
        return enough
