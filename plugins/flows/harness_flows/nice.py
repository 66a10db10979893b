"""NICE: additive couplings and one diagonal scaling, under a logistic prior.

    log p(x) = sum of log scales - sum of softplus(z) + softplus(-z),    z = couplings(scaling(x))

Dinh, Krueger & Bengio 2015, arXiv 1410.8516. The scaling comes first here, and starts from data: couplings that are
additive are the same maps on either side of it, with networks in other units.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from harness import ImageSpec
from harness_flows.couplings import Coupling, DenseNetwork, alternate
from harness_flows.flow import Flow
from harness_flows.permutations import ActNorm
from harness_flows.preprocessing import Linear
from harness_layers.checks import check_positive, check_widths
from harness_layers.descent import Descent
from harness_layers.schedules import Schedule

_NEAREST = 1e-6  # a distance; levels are dequantized, so that none is nearer


class Scaling(ActNorm):
    """y = (x - shift) exp(log scale) for every entry, which starts with median 0 and the standard logistic's spread."""

    @torch.no_grad()
    def start(self, x: Tensor) -> None:
        """Sets shift and scale for inputs (N, D): the mean distance from the median is 2 log 2, in units of 1/scale.

        Where an entry hardly ever varies, its deviation is that of a few images, and would be far too wide a scale.
        """
        self.shift.copy_(x.median(0).values)
        distance = (x - self.shift).abs().mean(0)
        self.log_scale.copy_((2 * math.log(2) / distance.clamp_min(_NEAREST)).log())


class NICE(Flow):
    """Additive couplings of the even entries by the odd ones, and the other way around, in turn.

    Args:
        spec: the sample space; levels are scaled to [0, 1).
        hidden: widths of the ReLU layers of each coupling's network.
        couplings: how many there are.
        learning_rate: of Adam (0.9, 0.999), at its highest.
        schedule: how it falls: ``cosine``, ``linear``, ``stages`` or ``constant``.
        batch_size: images in each step.
        max_gradient_norm: where gradients are clipped, in nats an image.
        validate_every: how often the validation split is scored, such as ``1 epoch`` or ``500 steps``.

    Raises:
        ValueError: a hyperparameter out of its range.
    """

    default_budget: ClassVar[str] = "25 epochs"

    def __init__(
        self,
        spec: ImageSpec,
        *,
        hidden: Sequence[int] = (1000, 1000, 1000, 1000, 1000),
        couplings: int = 4,
        learning_rate: float = 1e-3,
        schedule: Schedule = "cosine",
        batch_size: int = 200,
        max_gradient_norm: float = 500.0,
        validate_every: str = "1 epoch",
    ) -> None:
        check_widths(hidden=hidden)
        check_positive(couplings=couplings)
        size = (spec.num_dimensions,)
        moves = [
            Coupling(alternate(size, parity=parity), DenseNetwork(size, size[0], hidden=hidden), additive=True)
            for parity in range(couplings)
        ]
        super().__init__(
            spec,
            [Scaling(size, size), *moves],
            preprocessing=Linear(spec.levels, low=0.0),
            descent=Descent(
                learning_rate=learning_rate,
                batch_size=batch_size,
                schedule=schedule,
                warm_up_steps=200,
                max_gradient_norm=max_gradient_norm,
                validate_every=validate_every,
            ),
        )

    def log_prior(self, latents: Tensor) -> Tensor:
        """Maps (N, D) to (N,) nats: independent standard logistic variables."""
        return -(F.softplus(latents) + F.softplus(-latents)).sum(1)

    def sample_prior(self, num_samples: int) -> Tensor:
        """Draws (num_samples, D) from the distribution that ``log_prior`` scores."""
        shape = (num_samples, self.spec.num_dimensions)
        uniform = torch.rand(shape, dtype=torch.float64, device=self.device).clamp_min(torch.finfo(torch.float64).tiny)
        return (uniform.log() - (-uniform).log1p()).to(self.dtype)
