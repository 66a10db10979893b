"""A normalizing flow: a preprocessing and steps between dequantized images and a standard Gaussian.

    log p(x) = log N(z; 0, I) + sum over steps of log |det|,    z = step_K(... step_1(preprocessing(x)))

Every step is an ``nn.Module`` with ``forward(x)``, from (N, D) to (N, D) and the log-determinant (N,), and ``inverse``.
Entries start in the order of ``images.flatten(1)``. A step that looks at its first inputs before it is trained, as an
actnorm does, has ``start(x)`` too.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, cast, runtime_checkable

import torch
from torch import Tensor, nn

from harness import Dataset, ImageSpec, Invertible, Split, Trainer, mean_over
from harness_layers.descent import Descent, descend
from harness_layers.posteriors import standard_normal_log_prob

_STARTED_ON = 500  # training images
_CHUNK = 100  # latents that are mapped back at a time, so that activations stay small


class Step(Protocol):
    """An invertible map of (N, D), without randomness."""

    def __call__(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Maps (N, D), in the direction from images to latents, to (N, D) and log |det| (N,) nats."""
        ...

    def inverse(self, z: Tensor) -> Tensor:
        """Maps (N, D) to (N, D), in the direction from latents to images."""
        ...


@runtime_checkable
class Started(Protocol):
    """A step whose parameters start from data."""

    def start(self, x: Tensor) -> None:
        """Sets its parameters for inputs (N, D) of the first training images."""
        ...


class Dequantization(Protocol):
    """Noise for images that is drawn from a density of its own."""

    def __call__(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Maps (N, C, H, W) levels, floats, to noise (N, C, H, W) in (0, 1), and its log-density (N,) nats."""
        ...


class Flow(Invertible):
    """Steps in a row, trained on -log w under fresh dequantization noise; a subclass says which steps.

    Args:
        spec: the sample space.
        steps: from images to latents, each a ``Step``.
        preprocessing: the step before them, from levels.
        descent: how it is trained.
        dequantization: where the noise comes from; None takes uniform noise. It is trained with the steps.
    """

    def __init__(
        self,
        spec: ImageSpec,
        steps: Sequence[nn.Module],
        *,
        preprocessing: nn.Module,
        descent: Descent,
        dequantization: nn.Module | None = None,
    ) -> None:
        super().__init__(spec)
        self.descent = descent
        self.steps = nn.ModuleList([preprocessing, *steps])
        self.dequantization = dequantization

    def _steps(self) -> list[Step]:
        return [cast("Step", step) for step in self.steps]

    def dequantize(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Maps (N, C, H, W) uint8 to x (N, C, H, W) in [0, levels), and log q(x | image) (N,) nats."""
        if self.dequantization is None:
            return super().dequantize(images)
        levels = images.to(self.dtype)
        noise, log_q = cast("Dequantization", self.dequantization)(levels)
        return levels + noise, log_q

    def transform(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Maps x (N, C, H, W) in [0, levels) to latents (N, D) and log |det dz/dx| (N,) nats, all of it included."""
        values, log_det = x.flatten(1), x.new_zeros(len(x))
        for step in self._steps():
            values, added = step(values)
            log_det = log_det + added
        return values, log_det

    def inverse(self, latents: Tensor) -> Tensor:
        """Maps latents (N, D) to x (N, C, H, W): the inverse of ``transform``."""
        images = [self.trajectory(part)[-1] for part in torch.split(latents, _CHUNK)]
        return torch.cat(images).view(-1, *self.spec.shape)

    def trajectory(self, latents: Tensor) -> list[Tensor]:
        """Maps latents (N, D) to themselves and what the inverse of each step makes of them, (N, D) each.

        The last of these are images in levels; what stands before them is the input of the first step proper.
        """
        values = [latents]
        for step in reversed(self._steps()):
            values.append(step.inverse(values[-1]))
        return values

    def log_prior(self, latents: Tensor) -> Tensor:
        """Maps (N, D) to (N,) nats: independent standard Gaussians."""
        return standard_normal_log_prob(latents)

    def sample_prior(self, num_samples: int) -> Tensor:
        """Draws (num_samples, D) from the distribution that ``log_prior`` scores."""
        return torch.randn(num_samples, self.spec.num_dimensions, dtype=self.dtype, device=self.device)

    def fit(self, data: Dataset, trainer: Trainer) -> None:
        """Starts the steps on the first training images, then minimises the mean of -log w."""
        with torch.no_grad():
            self._start(data.train.draw(0).images[:_STARTED_ON].to(self.device))

        def loss(batch: Split) -> Tensor:
            return -self.elbo(batch.images)

        def score(split: Split) -> float:
            return mean_over(split, lambda images: -self.elbo(images), batch_size=_CHUNK)

        descend(self, data, trainer, self.descent, loss, score=score)

    def _start(self, images: Tensor) -> None:
        values = self.dequantize(images)[0].flatten(1)
        for step in self._steps():
            if isinstance(step, Started):
                step.start(values)
            values, _ = step(values)
