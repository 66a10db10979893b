"""Objective: what the two players minimise, whatever their networks are."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor, nn


class Penalty(Protocol):
    """A term of the discriminator's loss that looks at the discriminator itself, such as ``GradientPenalty``."""

    def __call__(self, discriminator: nn.Module, real: Tensor, fake: Tensor) -> Tensor:
        """Maps images (N, C, H, W) float, real and generated, to a scalar."""
        ...


@dataclass(frozen=True)
class Objective:
    """What the two players minimise.

    Attributes:
        discriminator_loss: maps the outputs (N,) on real and (M,) on generated images to a scalar.
        generator_loss: maps the outputs (M,) on generated images to a scalar.
        penalties: further terms of the discriminator's loss.
        batch_norm: whether the discriminator may judge the images of a batch together; not where a penalty is defined
            image by image.
    """

    discriminator_loss: Callable[[Tensor, Tensor], Tensor]
    generator_loss: Callable[[Tensor], Tensor]
    penalties: tuple[Penalty, ...] = ()
    batch_norm: bool = True
