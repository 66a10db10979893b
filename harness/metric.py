"""Metric, Score and Evaluation: what is measured on a trained model, and what it takes for two figures to compare."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import ClassVar, Literal

import torch
from torch import Tensor

from harness.dataset import Dataset, Split
from harness.model import Model
from harness.randomness import derive_seed, isolated_rng
from harness.training import FitSummary

ScoreKind = Literal["exact", "upper bound", "lower bound", "estimate"]


class NonFiniteScore(ValueError):
    """A per-image score was NaN or infinite. It is never averaged away."""


@dataclass(frozen=True)
class Score:
    """One figure.

    Attributes:
        value: in the metric's unit.
        standard_error: over test images (or repetitions, for speeds), None where it has no meaning.
        kind: what the value is of the quantity that the metric's name promises.
        per_image: (N,) float64 in test-set order, for paired tests, or None.
        protocol: what makes two figures comparable, as text: K, number of samples, precision, device, ...
        details: further figures of the same measurement, such as quartiles or a batch-size sweep.
    """

    value: float
    standard_error: float | None
    kind: ScoreKind
    per_image: Tensor | None = None
    protocol: Mapping[str, str] = field(default_factory=dict)
    details: Mapping[str, float] = field(default_factory=dict)


class Metric(ABC):
    """A way to measure a model.

    Class attributes:
        name: as a suite writes it; a metric of a family, such as ``iwae-5000``, sets it when it is made.
        unit: what ``Score.value`` counts.
        higher_is_better: which way is up.
        requires: the capability that a model must derive from; others are recorded as skipped.
        version: part of the cache key: change it whenever a figure would change.
        stage: ``quality`` and ``cost`` figures do not depend on the hardware; ``speed`` figures do, are measured
            alone on the machine, for the first seed only.
    """

    name: str
    unit: str
    higher_is_better: bool = False
    requires: type = Model
    version: str = "1"
    stage: ClassVar[Literal["quality", "cost", "speed"]] = "quality"

    @abstractmethod
    def evaluate(self, evaluation: Evaluation) -> Score:
        """Measures ``evaluation.model`` on ``evaluation.split``."""


class Evaluation:
    """A trained model, ready to be measured: on its device, in evaluation mode, under seeds of its own.

    Args:
        model: the trained model.
        data: its dataset.
        split: which split is scored, ``test`` or ``valid``.
        fit: what is known of the training.
        seed: the run's seed; every computation derives its own from it.
        batch_size: images at a time.
    """

    def __init__(
        self,
        model: Model,
        data: Dataset,
        *,
        split: Literal["test", "valid"] = "test",
        fit: FitSummary | None = None,
        seed: int = 0,
        batch_size: int = 250,
    ) -> None:
        self.model, self.data, self.fit, self.seed, self.batch_size = model.eval(), data, fit, seed, batch_size
        self.split_name = split
        self.split: Split = data.test if split == "test" else data.valid
        self.device = model.device

    def per_image(self, function: Callable[[Tensor], Tensor], *, purpose: str, batch_size: int | None = None) -> Tensor:
        """Applies a function to the whole split.

        Args:
            function: maps (B, C, H, W) uint8 on the model's device to (B,).
            purpose: names the stream of random numbers, so that no metric depends on another having run.
            batch_size: images at a time, where the function needs fewer than the evaluation's.

        Returns:
            (num_draws, N) float64 on the CPU; one row unless the data are random.

        Raises:
            NonFiniteScore: an image's score is NaN or infinite; the message names the first such image.
            ValueError: the function returned another shape.
        """
        size = batch_size or self.batch_size
        rows = []
        with torch.no_grad(), isolated_rng(derive_seed(self.seed, self.split_name, purpose), self.device):
            for draw in range(self.split.num_draws):
                images = self.split.draw(draw).images
                parts = []
                for start in range(0, len(images), size):
                    batch = images[start : start + size].to(self.device)
                    values = function(batch)
                    if values.shape != (len(batch),):
                        raise ValueError(
                            f"{purpose}: expected {len(batch)} values, one an image, got {tuple(values.shape)}"
                        )
                    parts.append(values.double().cpu())
                row = torch.cat(parts)
                if not bool(torch.isfinite(row).all()):
                    bad = (~torch.isfinite(row)).nonzero().flatten()
                    raise NonFiniteScore(
                        f"{purpose}: {len(bad)} of {len(row)} images score {row[bad[0]].item()}, "
                        f"the first is image {int(bad[0])}"
                    )
                rows.append(row)
        return torch.stack(rows)
