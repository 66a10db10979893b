"""MAF: masked autoregressive flow (Papamakarios, Pavlakou & Murray 2017)."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from harness import ImageSpec
from harness_flows.autoregressive import MaskedAffine
from harness_flows.flow import Flow
from harness_flows.permutations import ActNorm
from harness_flows.preprocessing import preprocessing as prepare
from harness_layers.checks import check_positive
from harness_layers.descent import Descent
from harness_layers.schedules import Schedule


class MAF(Flow):
    """Masked autoregressive steps, whose order is reversed from one to the next, with an actnorm before each.

    Reference: Papamakarios, Pavlakou & Murray 2017, arXiv 1705.07057.

    Args:
        spec: the sample space.
        layers: the number of steps; 5 or 10 in the paper.
        hidden: the widths of the masked network of each; one or two of 512 or 1024 in the paper.
        preprocessing, alpha: see ``harness_flows.preprocessing``. The paper takes an alpha of 1e-6 for MNIST.
        learning_rate, batch_size, weight_decay, schedule, validate_every: see ``harness_layers.descent.Descent``.

    Raises:
        ValueError: a hyperparameter out of its range.
    """

    def __init__(self, spec: ImageSpec, *, layers: int = 5, hidden: Sequence[int] = (512,),
                 preprocessing: str = "logit", alpha: float = 1e-6, learning_rate: float = 1e-3,
                 batch_size: int = 100, weight_decay: float = 0.0, schedule: Schedule = "cosine",
                 validate_every: str = "1 epoch") -> None:  # fmt: skip
        check_positive(layers=layers)
        size, steps = spec.num_dimensions, list[nn.Module]()
        for layer in range(layers):
            steps += [ActNorm([size], [size]), self._step(MaskedAffine(size, hidden, reverse=layer % 2 == 1))]
        descent = Descent(
            learning_rate=learning_rate, batch_size=batch_size, weight_decay=weight_decay, schedule=schedule,
            validate_every=validate_every,
        )  # fmt: skip
        super().__init__(spec, steps, preprocessing=prepare(preprocessing, spec.levels, alpha=alpha), descent=descent)

    @staticmethod
    def _step(step: MaskedAffine) -> nn.Module:
        return step
