"""Trainer: the minibatch loop as a library, so that a model's ``fit`` reads like the algorithm in its paper.

    def fit(self, data, trainer):
        optimizer = torch.optim.Adam(self.parameters(), lr=self.learning_rate)
        trainer.track(optimizer=optimizer)
        trainer.validate(lambda split: -mean_over(split, self.log_prob), every="1 epoch")
        for batch in trainer.batches(data.train, batch_size=100):
            loss = -self.log_prob(batch.images).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            trainer.log(loss=loss)

The loop ends with the budget, saves itself every so often, and goes on where it was: a resumed training gives, on the
same hardware and number of threads, bit for bit the weights of an uninterrupted one. What a ``fit`` does before its
first ``batches`` is done again on resumption, and is then overwritten by the saved state.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from harness.interface.dataset import Dataset, Split
from harness.interface.spec import Budget, Precision
from harness.support.checkpoint import load_state, put_weights, save_state, write_atomically
from harness.support.randomness import derive_seed, generator, isolated_rng, rng_states, set_rng_states

_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float64": torch.float64}
_MAX_RESIDENT_BYTES = 4 * 2**30


class Stateful(Protocol):
    """What ``Trainer.track`` takes: optimizers, schedulers, averaged models."""

    def state_dict(self) -> dict[str, Any]:
        """Returns tensors, numbers and strings in mappings and lists."""
        ...

    def load_state_dict(self, state_dict: dict[str, Any]) -> Any:
        """Takes them back."""
        ...


class Diverged(RuntimeError):
    """The loss, or a validation score, was not finite."""


class Interrupted(RuntimeError):
    """The training was asked to stop; its state is saved, and the same run goes on from there."""


@dataclass(frozen=True)
class Progress:
    """Where a training stands: ``loss`` is the mean over the last second or so, None before the first."""

    step: int
    total_steps: int
    loss: float | None
    steps_per_second: float
    best_valid: float | None = None


@dataclass(frozen=True)
class FitSummary:
    """What came out of a training: batches trained on, passes over the training split, seconds over all resumptions.

    ``checkpoint`` is ``best-on-valid`` or ``last``; ``valid_score`` and ``valid_step`` are the best validation score
    (lower is better), and when; None without validation.
    """

    steps: int
    epochs: float
    seconds: float
    checkpoint: str
    valid_score: float | None
    valid_step: int | None


@dataclass(frozen=True)
class _Loop:
    """One loop from step ``start`` on; earlier ones did ``epochs`` and spent ``before`` of ``total`` of its steps."""

    start: int
    steps_an_epoch: int
    epochs: Fraction
    before: Fraction | int
    total: int

    def epochs_at(self, step: int) -> Fraction:
        """Returns how many epochs were done by a step."""
        return self.epochs + Fraction(step - self.start, self.steps_an_epoch)


@torch.no_grad()
def mean_over(split: Split, per_image: Callable[[Tensor], Tensor], *, batch_size: int = 500) -> float:
    """Returns the mean over a ``split`` of ``per_image``, which maps (B, C, H, W) uint8 to (B,).

    Random data count all draws; ``batch_size`` images are scored at a time.
    """
    total = 0.0
    for draw in range(split.num_draws):
        images = split.draw(draw).images
        for start in range(0, len(images), batch_size):
            total += per_image(images[start : start + batch_size]).double().sum().item()
    return total / (split.num_draws * len(split))


class Trainer:
    """The loop, the budget, and everything that has to survive a crash.

    Args:
        model: the model that is trained; its parameters and buffers are saved.
        data: its dataset; ``data.valid`` is what ``validate`` scores.
        budget: in epochs or steps (minutes are turned into steps before).
        seed: of batch order and random data.
        precision: ``float32``, ``float64``, or ``bfloat16`` by autocast.
        folder: where state and curves go; None keeps nothing.
        checkpoint_seconds: how often the state is saved.
        should_stop: asked after every step; True saves the state and raises ``Interrupted``.
        on_progress: called about twice a second.
    """

    def __init__(
        self,
        model: nn.Module,
        data: Dataset,
        *,
        budget: Budget,
        seed: int = 0,
        precision: Precision = "float32",
        folder: Path | None = None,
        checkpoint_seconds: float = 20.0,
        should_stop: Callable[[], bool] = lambda: False,
        on_progress: Callable[[Progress], None] = lambda progress: None,
    ) -> None:
        self.model, self.data, self.budget, self.seed, self.precision = model, data, budget, seed, precision
        own = getattr(model, "device", torch.device("cpu"))
        self.device: torch.device = next((tensor.device for tensor in model.parameters()), own)
        self.step, self.total_steps = 0, 1
        self._loop = _Loop(0, 1, Fraction(0), 0, 1)
        self._folder, self._checkpoint_seconds = folder, checkpoint_seconds
        self._should_stop, self._on_progress = should_stop, on_progress
        self._tracked: dict[str, Stateful] = {}
        self._validation: tuple[Callable[[Split], float], Budget] | None = None
        self._best: tuple[float, int, dict[str, Tensor]] | None = None
        self._phase = 0
        self._seconds_before, self._started = 0.0, time.monotonic()
        self._saved_at = self._reported_at = self._started
        self._reported_step = 0
        self._losses: list[Tensor] = []
        self._curve: dict[str, tuple[Tensor, int]] = {}
        self._last_loss: float | None = None
        self._resume = load_state(self._state_file) if folder is not None and self._state_file.exists() else None
        if folder is not None and self._resume is None:
            (folder / "curves.jsonl").unlink(missing_ok=True)  # of a training that was never saved
        self._writer = _tensorboard(folder)

    @property
    def _state_file(self) -> Path:
        assert self._folder is not None
        return self._folder / "training.safetensors"

    @property
    def fraction(self) -> float:
        """The fraction of the budget spent, in [0, 1], for schedules; 0 before the first batch."""
        return min(1.0, float(self._loop.before + self.step - self._loop.start) / self._loop.total)

    @property
    def epochs(self) -> float:
        """The number of passes over the training split so far."""
        return float(self._loop.epochs_at(self.step))

    @property
    def seconds(self) -> float:
        """Seconds spent in this training, over all resumptions."""
        return self._seconds_before + time.monotonic() - self._started

    def autocast(self) -> AbstractContextManager[Any]:
        """Returns the context in which the forward pass runs: autocast for ``bfloat16``, nothing otherwise."""
        if self.precision == "bfloat16":
            return torch.autocast(self.device.type, dtype=_DTYPES[self.precision])
        return nullcontext()

    def track(self, **stateful: Stateful) -> None:
        """Names optimizers, averages and schedulers that are saved and restored with the model."""
        self._tracked.update(stateful)

    def validate(self, score: Callable[[Split], float], *, every: str = "1 epoch") -> None:
        """Scores ``data.valid`` every so often and at the end, and keeps the best weights; training is not disturbed.

        ``score`` maps a split to a float, lower is better, of the model in evaluation mode; ``every`` is ``"1 epoch"``
        or ``"500 steps"``.
        """
        interval = Budget.parse(every)
        if interval.unit == "minutes":
            raise ValueError(
                f"every={every!r}: validate by epochs or steps, so that a resumed training is the same one"
            )
        self._validation = (score, interval)

    def batches(self, split: Split, *, batch_size: int, until: float = 1.0) -> Iterator[Split]:
        """Yields shuffled batches of a split on the model's device until the budget is spent.

        Every image is seen once in each epoch; an epoch's last batch may be smaller; random data are redrawn each
        epoch. A step is one batch. A second loop in the same ``fit`` goes on with what the first left of the budget.
        When a loop ends, or is left by ``break``, a model that validates has its best weights. ``until`` is the
        fraction of the whole budget at which this loop ends; images are (``batch_size``, C, H, W) uint8.
        """
        if batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, not {batch_size}")
        self._phase += 1
        batch_size = min(batch_size, len(split))
        steps_an_epoch = math.ceil(len(split) / batch_size)
        total = self.budget.num_steps(steps_an_epoch)
        if self._resume is not None and self._phase < self._resume["phase"]:
            return
        if self._resume is not None:
            start, epochs = self._restore(self._resume)
        else:
            start, epochs = self.step, self._loop.epochs_at(self.step)
        before = start if self.budget.unit == "steps" else epochs * steps_an_epoch
        self._loop = loop = _Loop(start, steps_an_epoch, epochs, before, total)
        self.total_steps = start + math.ceil(total - before)
        end = start + math.ceil(math.ceil(until * total) - before)
        every = self._validation_interval(steps_an_epoch)
        order, images, epoch = torch.empty(0, dtype=torch.int64), split, -1
        try:
            while self.step < end:
                wanted, position = divmod(self.step - loop.start, steps_an_epoch)
                if wanted != epoch:
                    epoch = wanted
                    shuffle = generator(self.seed, "batches", self._phase, epoch)
                    order = torch.randperm(len(split), generator=shuffle)
                    images = self._resident(split.draw(epoch))
                index = order[position * batch_size : (position + 1) * batch_size].to(images.images.device)
                self.model.train()
                yield images.take(index).to(self.device)
                self.step += 1
                if every is not None and (self.step % every == 0 or self.step == end):
                    self._run_validation()
                self._after_step()
            self._check_losses()
        except GeneratorExit:
            self._put_best_weights()
            raise
        self._put_best_weights()

    def _put_best_weights(self) -> None:
        if self._best is not None:
            put_weights(self._best[2], self.model, source="the best weights on the validation split")

    def log(self, *, loss: Tensor | float, **scalars: Tensor | float) -> None:
        """Records the loss and other scalars of this step.

        A loss that is not finite ends the training as ``Diverged``, within 50 steps and before it is saved.
        """
        named = {"loss": loss, **scalars}
        for name, value in named.items():
            tensor = value.detach() if isinstance(value, Tensor) else torch.tensor(float(value))
            total, count = self._curve.get(name, (torch.zeros((), device=tensor.device), 0))
            self._curve[name] = (total + tensor, count + 1)
            if name == "loss":
                self._losses.append(tensor)
        if len(self._losses) >= 50 or self.device.type == "cpu":
            self._check_losses()

    def summary(self) -> FitSummary:
        """Returns what came out of the training so far."""
        self._check_losses()  # a loop that was left by ``break`` has not looked at its last ones
        valid, step = (None, None) if self._best is None else self._best[:2]
        return FitSummary(
            self.step, round(self.epochs, 6), self.seconds, "last" if valid is None else "best-on-valid", valid, step
        )

    def _resident(self, split: Split) -> Split:
        small = split.images.numel() <= _MAX_RESIDENT_BYTES
        return split.to(self.device) if small else split

    def _validation_interval(self, steps_an_epoch: int) -> int | None:
        return None if self._validation is None else self._validation[1].num_steps(steps_an_epoch)

    def _run_validation(self) -> None:
        assert self._validation is not None
        self._check_losses()
        self.model.eval()
        with isolated_rng(derive_seed(self.seed, "validation"), self.device), torch.no_grad():
            score = float(self._validation[0](self._resident_valid()))
        self.model.train()
        if not math.isfinite(score):
            raise Diverged(f"the validation score is {score} at step {self.step}")
        self._write_curve({"valid": score})
        if self._best is None or score < self._best[0]:
            state = {name: value.detach().clone() for name, value in self.model.state_dict().items()}
            self._best = (score, self.step, state)

    def _resident_valid(self) -> Split:
        return self.data.valid.draw(0).to(self.device)

    def _check_losses(self) -> None:
        if not self._losses:
            return
        losses = torch.stack([loss.double() for loss in self._losses])
        self._losses.clear()
        if not bool(torch.isfinite(losses).all()):
            first = int((~torch.isfinite(losses)).nonzero()[0])
            raise Diverged(f"the loss is {losses[first].item()} near step {self.step - len(losses) + first + 2}")
        self._last_loss = losses.mean().item()

    def _after_step(self) -> None:
        if self.step % max(1, self.total_steps // 500) == 0 and self._curve:
            self._check_losses()
            means = {name: (total / count).item() for name, (total, count) in self._curve.items()}
            self._curve.clear()
            self._write_curve(means)
        now = time.monotonic()
        if now - self._reported_at > 0.5:
            speed = (self.step - max(self._loop.start, self._reported_step)) / (now - self._reported_at)
            best = None if self._best is None else self._best[0]
            self._on_progress(Progress(self.step, self.total_steps, self._last_loss, speed, best))
            self._reported_at, self._reported_step = now, self.step
        stop = self._should_stop()
        if self._folder is not None and (stop or now - self._saved_at > self._checkpoint_seconds):
            self._save()
        if stop:
            raise Interrupted(f"stopped at step {self.step} of {self.total_steps}")

    def _write_curve(self, scalars: dict[str, float]) -> None:
        if self._folder is not None:
            with (self._folder / "curves.jsonl").open("a") as file:
                file.write(json.dumps({"step": self.step, **scalars}) + "\n")
        if self._writer is not None:
            for name, value in scalars.items():
                self._writer.add_scalar(name, value, self.step)

    def _forget_curve_after(self, step: int) -> None:
        assert self._folder is not None
        file = self._folder / "curves.jsonl"
        lines = file.read_text().splitlines(keepends=True) if file.exists() else []
        kept = [line for line in lines if line.endswith("\n") and json.loads(line)["step"] <= step]
        write_atomically(file, "".join(kept).encode())

    def _save(self) -> None:
        self._check_losses()
        best = None if self._best is None else list(self._best)
        state = {
            "phase": self._phase,
            "phase_start": self._loop.start,
            "epochs_before": list(self._loop.epochs.as_integer_ratio()),
            "step": self.step,
            "seconds": self.seconds,
            "model": dict(self.model.state_dict()),
            "best": best,
            "rng": rng_states(self.device),
            "tracked": {name: item.state_dict() for name, item in self._tracked.items()},
            "curve": {name: list(pair) for name, pair in self._curve.items()},
        }
        save_state(self._state_file, state)
        self._saved_at = time.monotonic()

    def _restore(self, state: dict[str, Any]) -> tuple[int, Fraction]:
        """Takes a saved state; returns the step at which its loop began, and the epochs before that."""
        self._resume = None
        put_weights(state["model"], self.model, source=str(self._state_file))
        if sorted(state["tracked"]) != sorted(self._tracked):
            raise ValueError(f"saved state tracks {sorted(state['tracked'])}, fit now tracks {sorted(self._tracked)}")
        for name, item in self._tracked.items():
            item.load_state_dict(state["tracked"][name])
        set_rng_states(state["rng"], self.device)
        if state["best"] is not None:
            score, step, weights = state["best"]
            self._best = (score, step, {name: value.to(self.device) for name, value in weights.items()})
        self._curve = {name: (total.to(self.device), count) for name, (total, count) in state["curve"].items()}
        self.step, self._seconds_before = state["step"], state["seconds"]
        self._started = time.monotonic()
        self._reported_step = self.step
        self._forget_curve_after(self.step)
        return int(state["phase_start"]), Fraction(*state["epochs_before"])


def _tensorboard(folder: Path | None) -> Any:
    if folder is None:
        return None
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        return None
    return SummaryWriter(str(folder / "tensorboard"))
