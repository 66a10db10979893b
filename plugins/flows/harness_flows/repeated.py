"""A flow of one kind of step, repeated: what planar and radial flows share."""

from __future__ import annotations

from abc import abstractmethod

from torch import nn

from harness import ImageSpec
from harness_flows.flow import Flow
from harness_flows.permutations import ActNorm
from harness_flows.preprocessing import preprocessing as prepare
from harness_layers.checks import check_positive
from harness_layers.descent import Descent
from harness_layers.schedules import Schedule


class RepeatedFlow(Flow):
    """Steps of one kind from images to latents, an actnorm before each.

    Args:
        spec: the sample space.
        layers: K, the number of steps.
        preprocessing, alpha: see ``harness_flows.preprocessing``.
        learning_rate, batch_size, schedule: of Adam, see ``harness_layers.descent.Descent``.

    Raises:
        ValueError: a hyperparameter out of its range.
    """

    def __init__(self, spec: ImageSpec, *, layers: int = 32, preprocessing: str = "logit", alpha: float = 0.05,
                 learning_rate: float = 1e-2, batch_size: int = 200, schedule: Schedule = "cosine",
                 validate_every: str = "1 epoch") -> None:  # fmt: skip
        check_positive(layers=layers)
        descent = Descent(
            learning_rate=learning_rate, batch_size=batch_size, schedule=schedule, validate_every=validate_every
        )
        size = spec.num_dimensions
        steps = [step for _ in range(layers) for step in (ActNorm([size], [size]), self._step(size))]
        super().__init__(spec, steps, preprocessing=prepare(preprocessing, spec.levels, alpha=alpha), descent=descent)

    @staticmethod
    @abstractmethod
    def _step(size: int) -> nn.Module:
        """Builds a step of ``size`` entries."""
