"""Variational diffusion models (Kingma, Salimans, Poole & Ho 2021, arXiv 2107.00630)."""

from __future__ import annotations

import math
from typing import Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from harness import ImageSpec
from harness_diffusion.averaged import spread_times
from harness_diffusion.denoiser import Denoiser
from harness_diffusion.gaussian_diffusion import GaussianDiffusion, divergence
from harness_layers.checks import check_choice, check_positive
from harness_layers.descent import Descent
from harness_layers.pixels import draw_levels
from harness_layers.posteriors import standard_noise
from harness_layers.schedules import Schedule

Variance = Literal["learned", "small"]
NoiseSchedule = Literal["linear", "learned"]

_PIECES = 32
_SCORED_LOGITS = 2**22


class VDM(GaussianDiffusion):
    r"""A diffusion whose loss is its bound, trained at continuous times and scored with T steps.

    With f = (2 x + 1) / levels - 1 and a monotone gamma(t), t in [0, 1]:

    .. math:: \log p(x | z_0) = \log softmax_v(-(z_0 / \alpha_0 - f_v)^2 e^{-\gamma_0} / 2)_x
    .. math:: KL_t = (e^{\gamma_t - \gamma_s} - 1) |noise - noise^(z_t)|^2 / 2

    Training draws t from [0, 1], and minimises T KL_t with s = t - 1/T, whose limit is the paper's loss at continuous
    times, gamma'(t) |noise - noise^|^2 / 2. The formula is that of the paper's variances, those of q(z_s | z_t, f). Few
    steps pay for them where the noise cannot be told: so the network says how much wider each entry's is, by a share of
    log Var q(z_t | z_s) (as Nichol & Dhariwal 2021, arXiv 2102.09672), which changes nothing for T to infinity.

    Args:
        spec: any sample space.
        num_steps: T of the model that is scored and sampled.
        scored_steps: see ``GaussianDiffusion``.
        width, blocks: see ``ImageNetwork``.
        variance: of p(z_s | z_t): ``learned``, or ``small``, the paper's.
        noise_schedule: of gamma: ``linear``, or piecewise linear and ``learned`` between the same ends.
        lowest_gamma: at t = 0; None is a deviation of a sixth of the distance between levels, -13.3 at 256 levels.
        highest_gamma: at t = 1.
        learning_rate, weight_decay, warm_up_steps, schedule, batch_size, max_gradient_norm, validate_every: see
            ``Descent``.
        averaging: see ``GaussianDiffusion``.

    Raises:
        ValueError: a hyperparameter out of its range.
    """

    def __init__(self, spec: ImageSpec, *, num_steps: int = 100, scored_steps: int = 20, width: int = 32,
                 blocks: int = 1, variance: Variance = "learned", noise_schedule: NoiseSchedule = "linear",
                 lowest_gamma: float | None = None, highest_gamma: float = 5.0, learning_rate: float = 1e-3,
                 weight_decay: float = 0.01, warm_up_steps: int = 200, schedule: Schedule = "cosine",
                 batch_size: int = 128, max_gradient_norm: float | None = None, averaging: float = 0.999,
                 validate_every: str = "1 epoch") -> None:  # fmt: skip
        check_positive(width=width, blocks=blocks)
        check_choice(get_args(Variance), variance=variance)
        check_choice(get_args(NoiseSchedule), noise_schedule=noise_schedule)
        lowest = 2 * math.log(1 / (3 * spec.levels)) if lowest_gamma is None else lowest_gamma
        if not lowest < highest_gamma:
            raise ValueError(f"lowest_gamma={lowest} must be below highest_gamma={highest_gamma}")
        end = 1 - 1 / spec.levels
        network = nn.ModuleDict(
            {
                "denoiser": Denoiser(
                    spec, lowest=-end, highest=end, width=width, blocks=blocks, extra=int(variance == "learned")
                ),
                "gamma": MonotoneGamma(lowest, highest_gamma, learned=noise_schedule == "learned"),
            }
        )
        super().__init__(
            spec, network, num_steps=num_steps, scored_steps=scored_steps, averaging=averaging,
            descent=Descent(
                learning_rate=learning_rate, betas=(0.9, 0.99), weight_decay=weight_decay, schedule=schedule,
                warm_up_steps=warm_up_steps, batch_size=batch_size, max_gradient_norm=max_gradient_norm,
                validate_every=validate_every,
            ),
        )  # fmt: skip

    def gammas(self) -> Tensor:
        """Returns gamma at 0, 1/T, ..., 1, (T + 1,)."""
        steps = torch.arange(self.num_steps + 1, dtype=self.dtype, device=self.device)
        gammas: Tensor = self.weights["gamma"](steps / self.num_steps)  # type: ignore[index]
        return gammas

    def points(self, images: Tensor) -> Tensor:
        """Maps (N, C, H, W) uint8 to f (N, C, H, W) in (-1, 1), the middle of each level's interval."""
        return (2 * images.to(self.dtype) + 1) / self.spec.levels - 1

    def predict(self, z: Tensor, gamma: Tensor) -> tuple[Tensor, Tensor]:
        """Maps z_t (N, C, H, W) and gamma_t (N,) or (1,) to the noise in it, and to the shares of its shape."""
        return _predict(self.weights, z, gamma)

    def reconstruction(self, images: Tensor, noise: Tensor) -> Tensor:
        """Maps (N, C, H, W) uint8 and the noise in z_0 to (N,) nats: log p(image | z_0), normalised over the levels."""
        z = self.diffuse(self.points(images), self.gammas()[:1], noise)
        parts = zip(*(torch.split(all_, self._rows) for all_ in (images, z)), strict=True)
        return torch.cat(
            [
                self._logits(last).log_softmax(-1).gather(-1, part.long()[..., None]).flatten(1).sum(1)
                for part, last in parts
            ]
        )

    def draw(self, z: Tensor) -> Tensor:
        """Maps z_0 (N, C, H, W) to (N, C, H, W) uint8: a draw from the softmax, and not its largest value."""
        return torch.cat([draw_levels(self._logits(part), dim=-1) for part in torch.split(z, self._rows)])

    def loss(self, images: Tensor) -> Tensor:
        """Maps (N, C, H, W) uint8 to (N,) nats: T KL_t at one time for each image, evenly spread over the batch."""
        points, time = self.points(images), spread_times(images, self.dtype)
        gamma = self.network["gamma"]  # type: ignore[index]
        before, after = gamma(time - 1 / self.num_steps), gamma(time)
        noise = standard_noise(points.shape, points)
        predicted, shares = _predict(self.network, self.diffuse(points, after, noise), after)
        return self.num_steps * divergence(predicted - noise, shares, before, after)

    @property
    def _rows(self) -> int:
        return max(1, _SCORED_LOGITS // (self.spec.num_dimensions * self.spec.levels))

    def _logits(self, z: Tensor) -> Tensor:
        """Maps z_0 (N, C, H, W) to (N, C, H, W, levels)."""
        gamma, levels = self.gammas()[0], torch.arange(self.spec.levels, dtype=z.dtype, device=z.device)
        distance = (z / (-gamma).sigmoid().sqrt())[..., None] - ((2 * levels + 1) / self.spec.levels - 1)
        return -0.5 * torch.exp(-gamma) * distance.square()


def _predict(network: nn.Module, z: Tensor, gamma: Tensor) -> tuple[Tensor, Tensor]:
    noise, extra = network["denoiser"](z, gamma)  # type: ignore[index]
    return noise, extra[:, 0].sigmoid() if extra.shape[1] else torch.zeros_like(noise)


class MonotoneGamma(nn.Module):
    """gamma(t) from ``lowest`` at 0 to ``highest`` at 1: a line, or ``_PIECES`` learned ones, which go on outside."""

    def __init__(self, lowest: float, highest: float, *, learned: bool) -> None:
        super().__init__()
        self.lowest, self.highest = lowest, highest
        self.log_rises = nn.Parameter(torch.zeros(_PIECES)) if learned else None

    def forward(self, time: Tensor) -> Tensor:
        """Maps times (N,) to gamma (N,)."""
        if self.log_rises is None:
            return self.lowest + (self.highest - self.lowest) * time
        rises = self.log_rises.softmax(0)
        piece = (time * _PIECES).floor().clamp(0, _PIECES - 1)
        below = F.pad(rises.cumsum(0), (1, 0))[piece.long()]
        return self.lowest + (self.highest - self.lowest) * (below + rises[piece.long()] * (time * _PIECES - piece))
