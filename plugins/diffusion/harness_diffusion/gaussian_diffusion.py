"""What discrete-time Gaussian diffusions share: T steps, their bound, and the sampler that draws from what is scored.

An image is a point f, and becomes noise in T steps of growing gamma_0 < ... < gamma_T, its log noise-to-signal ratio:

    q(z_t | f) = N(alpha_t f, sigma_t^2),    alpha_t^2 = sigmoid(-gamma_t), sigma_t^2 = sigmoid(gamma_t)

The model goes back: p(z_T) = N(0, 1), and p(z_s | z_t), s = t - 1, has the mean of q(z_s | z_t, f) with an estimate of
f in its place, by an estimate of the noise in z_t (Ho et al. 2020, arXiv 2006.11239; Kingma et al. 2021, arXiv
2107.00630). The bound is

    E log p(image | z) - sum_t E KL(q(z_s | z_t, f), p(z_s | z_t)) - KL(q(z_T | f), p(z_T))

and images are drawn by the same p: nothing is clipped, and the last step is a draw.
"""

from __future__ import annotations

import copy
from abc import abstractmethod
from collections.abc import Iterator
from itertools import pairwise
from typing import ClassVar, Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from harness import Dataset, ImageSpec, Trainer, VariationalBound, mean_over
from harness_diffusion.averaged import descend_averaged
from harness_diffusion.unet import chunks
from harness_layers.checks import check_positive, check_share
from harness_layers.descent import Descent
from harness_layers.posteriors import standard_noise


class GaussianDiffusion(VariationalBound):
    """T steps from noise to images; a subclass says at which noise levels, and how an image is made of the last z.

    Args:
        spec: the sample space.
        network: what is trained.
        num_steps: T.
        scored_steps: K, how many KL divergences an estimate of the bound evaluates: one of each of K spans of steps,
            drawn anew for each image. All of them where K is T.
        averaging: the decay of the average of the weights, by which images are scored and drawn; 0 takes the last ones.
        descent: how the loss is minimised.

    Raises:
        ValueError: a hyperparameter out of its range.
    """

    default_budget: ClassVar[str] = "20 epochs"
    first_step: ClassVar[int] = 1  # the first t with a KL divergence; an image is made of z of the step before

    def __init__(self, spec: ImageSpec, network: nn.Module, *, num_steps: int, scored_steps: int, averaging: float,
                 descent: Descent) -> None:  # fmt: skip
        super().__init__(spec)
        check_positive(num_steps=num_steps, scored_steps=scored_steps)
        check_share(averaging=averaging)
        if scored_steps > num_steps:
            raise ValueError(f"scored_steps must be at most num_steps={num_steps}, not {scored_steps}")
        self.num_steps, self.scored_steps, self.averaging, self.descent = num_steps, scored_steps, averaging, descent
        self.network = network
        self.average = copy.deepcopy(network).requires_grad_(requires_grad=False) if averaging > 0 else None

    @property
    def weights(self) -> nn.Module:
        """The weights that images are scored and drawn by."""
        return self.network if self.average is None else self.average

    @abstractmethod
    def gammas(self) -> Tensor:
        """Returns gamma_0 to gamma_T, (T + 1,); those before ``first_step`` - 1 are not used."""

    @abstractmethod
    def points(self, images: Tensor) -> Tensor:
        """Maps (N, C, H, W) uint8 to f (N, C, H, W)."""

    @abstractmethod
    def predict(self, z: Tensor, gamma: Tensor) -> tuple[Tensor, Tensor]:
        """Maps z_t (N, C, H, W) and gamma_t (N,) or (1,) to the noise in it, (N, C, H, W), and shares of its shape.

        log Var p(z_s | z_t) is that of q(z_s | z_t, f) where the share is 0, that of q(z_t | z_s) where it is 1, and
        linear in between.
        """

    @abstractmethod
    def reconstruction(self, images: Tensor, noise: Tensor) -> Tensor:
        """Maps (N, C, H, W) uint8 and the noise in the last z to (N,) nats: log p(image | z)."""

    @abstractmethod
    def draw(self, z: Tensor) -> Tensor:
        """Maps the last z (N, C, H, W) to draws (N, C, H, W) uint8 from what ``reconstruction`` scores."""

    @abstractmethod
    def loss(self, images: Tensor) -> Tensor:
        """Maps (N, C, H, W) uint8 to (N,): what training minimises, with the weights that are trained."""

    @property
    def sampling_depth(self) -> int:
        """T."""
        return self.num_steps

    def with_steps(self, num_steps: int) -> Self:
        """Returns a model of the same weights with another T, its bound with all steps scored, and its sampler."""
        check_positive(num_steps=num_steps)
        other = copy.copy(self)
        other.num_steps = other.scored_steps = num_steps
        return other

    def fit(self, data: Dataset, trainer: Trainer) -> None:
        """Minimises the loss; the weights whose bound is best on the validation split are kept."""
        descend_averaged(
            self, data, trainer, self.descent, self.loss, network=self.network, average=self.average,
            decay=self.averaging, score=lambda split: -mean_over(split, self.elbo),
        )  # fmt: skip

    def diffuse(self, points: Tensor, gamma: Tensor, noise: Tensor) -> Tensor:
        """Maps f and noise (N, C, H, W), and gamma (N,) or (1,), to z (N, C, H, W)."""
        gamma = gamma[:, None, None, None]
        return (-gamma).sigmoid().sqrt() * points + gamma.sigmoid().sqrt() * noise

    def elbo(self, images: Tensor) -> Tensor:
        """Maps (N, C, H, W) uint8 to (N,) nats, an unbiased estimate of the bound: see ``scored_steps``."""
        return torch.cat([self._elbo(part) for part in torch.split(images, chunks(len(images), self.spec))])

    def _elbo(self, images: Tensor) -> Tensor:
        points, gammas = self.points(images), self.gammas()
        variance, signal = gammas[-1].sigmoid(), (-gammas[-1]).sigmoid() * points.square()
        total = -0.5 * (variance + signal - 1 - F.logsigmoid(gammas[-1])).flatten(1).sum(1)
        total = total + self.reconstruction(images, standard_noise(points.shape, points))
        count = self.num_steps + 1 - self.first_step
        edges = torch.linspace(0, count, min(self.scored_steps, count) + 1).round().int().tolist()
        for start, end in pairwise(edges):
            step = torch.randint(self.first_step + start, self.first_step + end, (len(images),), device=images.device)
            noise = standard_noise(points.shape, points)
            predicted, shares = self.predict(self.diffuse(points, gammas[step], noise), gammas[step])
            total = total - (end - start) * divergence(predicted - noise, shares, gammas[step - 1], gammas[step])
        return total

    @torch.no_grad()
    def sample(self, num_samples: int) -> Tensor:
        """Returns (num_samples, C, H, W) uint8, by all T steps of the model that ``elbo`` scores."""
        drawn = []
        for size in chunks(num_samples, self.spec):
            *_, last = self.ancestral(size)
            drawn.append(self.draw(last))
        return torch.cat(drawn)

    @torch.no_grad()
    def ancestral(self, num_samples: int) -> Iterator[Tensor]:
        """Yields z_T, z_{T-1}, ... (num_samples, C, H, W) from p, down to the last one, which an image is made of."""
        gammas = self.gammas()
        z = torch.randn(num_samples, *self.spec.shape, dtype=self.dtype, device=self.device)
        yield z
        for step in range(self.num_steps, self.first_step - 1, -1):
            before, after = gammas[step - 1 : step], gammas[step : step + 1]
            noise, shares = self.predict(z, after)
            removed = -torch.expm1(before - after)  # of the variance of z_t, by one step
            scale = ((-before).sigmoid() / (-after).sigmoid()).sqrt()
            log_variance = removed.log() + F.logsigmoid(before) + shares * _log_variance_ratio(before, after)
            mean = scale * (z - after.sigmoid().sqrt() * removed * noise)
            z = mean + (0.5 * log_variance).exp() * torch.randn_like(z)
            yield z


def divergence(error: Tensor, shares: Tensor, before: Tensor, after: Tensor) -> Tensor:
    """Maps an error of the noise in z_t to KL(q(z_s | z_t, f), p(z_s | z_t)), (N,) nats.

    ``error`` and ``shares`` are (N, C, H, W), see ``predict``; ``before`` and ``after`` are gamma_s and gamma_t, (N,).
    """
    squares = torch.expm1(after - before)[:, None, None, None] * error.square()  # of the means, in deviations of q
    log_ratio = shares * _log_variance_ratio(before, after)
    return 0.5 * (log_ratio + torch.exp(-log_ratio) * (1 + squares) - 1).flatten(1).sum(1)


def _log_variance_ratio(before: Tensor, after: Tensor) -> Tensor:
    """Returns log Var q(z_t | z_s) - log Var q(z_s | z_t, f) of gamma_s and gamma_t (N,) as (N, 1, 1, 1)."""
    return (F.logsigmoid(after) - F.logsigmoid(before))[:, None, None, None]
