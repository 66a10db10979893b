"""What a diffusion kernel of Deep Diffusion is: the forward process, the reverse process, and the bound's terms.

Steps are counted from 1 to T, as in the paper (Sohl-Dickstein et al. 2015, arXiv 1503.03585, table App.1).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

import torch
from torch import Tensor, nn

from harness import Dataset, ImageSpec


class Kernel(nn.Module, ABC):
    """A forward process, and the reverse process that has the same form.

    Class attributes:
        inputs, outputs: numbers for each entry that the network gets, and gives.
        first_step: the first step whose reverse is the network's.
    """

    inputs: ClassVar[int]
    outputs: ClassVar[int]
    first_step: ClassVar[int]

    def __init__(self, spec: ImageSpec, num_steps: int) -> None:
        super().__init__()
        self.spec, self.num_steps = spec, num_steps

    def fit(self, data: Dataset) -> None:
        """Learns from ``data.train`` what there is to be learned before the first step of a training: nothing."""

    @abstractmethod
    def start(self, images: Tensor, dtype: torch.dtype) -> Tensor:
        """Maps (N, C, H, W) uint8 to x_0 of the same shape."""

    @abstractmethod
    def finish(self, x: Tensor) -> Tensor:
        """Maps draws of x_0 (N, C, H, W) to images uint8, the inverse of ``start``."""

    @abstractmethod
    def ends(self, x: Tensor) -> Tensor:
        """Maps x_0 (N, C, H, W) to (N,) nats: all of the bound but the divergences of ``divergence``."""

    @abstractmethod
    def diffuse(self, x: Tensor, steps: Tensor) -> tuple[Tensor, Tensor]:
        """Maps x_0 (N, C, H, W) and steps (N,) to a draw of x_t, and what ``divergence`` wants to know of x_0."""

    @abstractmethod
    def features(self, noisy: Tensor, steps: Tensor) -> Tensor:
        """Maps x_t (N, C, H, W) and steps (N,) to the network's inputs (N, inputs * C, H, W)."""

    @abstractmethod
    def divergence(self, noisy: Tensor, known: Tensor, outputs: Tensor, steps: Tensor) -> Tensor:
        """Maps x_t, the rest of ``diffuse``, and outputs (N, outputs, C, H, W) to (N,) nats.

        It is KL(q(x_{t-1} | x_t, x_0) || p(x_{t-1} | x_t)), in closed form.
        """

    @abstractmethod
    def draw_noise(self, num_samples: int, like: Tensor) -> Tensor:
        """Draws x_T (num_samples, C, H, W) from p."""

    @abstractmethod
    def reverse(self, noisy: Tensor, outputs: Tensor, steps: Tensor) -> Tensor:
        """Draws x_{t-1} (N, C, H, W) from p(x_{t-1} | x_t), t >= ``first_step``."""

    def reverse_first(self, x: Tensor) -> Tensor:
        """Draws x_0 (N, C, H, W) where the network has come to the last step that is its own."""
        return x
