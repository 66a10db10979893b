"""The ResNet VAE: residual blocks up and down, with latents in each (Kingma et al. 2016, arXiv 1606.04934)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from harness import ImageSpec
from harness_layers.checks import check_positive, check_widths
from harness_layers.descent import Descent
from harness_layers.pixels import level_counts, scale, smoothed_outputs
from harness_layers.posteriors import DiagonalGaussian
from harness_layers.schedules import Schedule
from harness_vae.ladder import Choose, LadderModel
from harness_vae.latent_model import Objective
from harness_vae.logistic import LogisticPixels

_MOST = 10.0  # what log-variances tend to, so that no latents overflow
_SMALL = 0.1  # the share of a block's first weights in what it adds to its shortcut


def _half(size: tuple[int, int]) -> tuple[int, int]:
    return (size[0] + 1) // 2, (size[1] + 1) // 2


def _doubled(maps: Tensor, size: tuple[int, int]) -> Tensor:
    return F.interpolate(maps, scale_factor=2.0)[..., : size[0], : size[1]]


def _gaussians(maps: Tensor, count: int, *lead: int) -> list[DiagonalGaussian]:
    """Maps (N, 2 * count * latents, H, W), where N is the product of ``lead``, to parameters (*lead, size)."""
    parts = [part.reshape(*lead, -1) for part in maps.chunk(2 * count, 1)]
    pairs = zip(parts[::2], parts[1::2], strict=True)
    return [DiagonalGaussian(mean, _MOST * (log_variance / _MOST).tanh()) for mean, log_variance in pairs]


class Block(nn.Module):
    """Two 3x3 convolutions beside a shortcut: the first gives what is said of the latents, and what the second takes.

    Args:
        maps: of what goes in and out.
        told: maps that the first convolution gives besides.
        taken: maps that the second takes besides.
        stride: 2 halves height and width, rounded up.
    """

    def __init__(self, maps: int, *, told: int, taken: int = 0, stride: int = 1) -> None:
        super().__init__()
        self.told, self.stride = told, stride
        self.first = nn.Conv2d(maps, told + maps, 3, stride=stride, padding=1)
        self.second = nn.Conv2d(maps + taken, maps, 3, padding=1)
        with torch.no_grad():
            self.second.weight.mul_(_SMALL)

    def tell(self, hidden: Tensor) -> tuple[Tensor, Tensor]:
        """Maps (N, maps, H, W) to what is told, (N, told, H', W'), and the rest, (N, maps, H', W')."""
        told, rest = self.first(F.elu(hidden)).tensor_split([self.told], 1)
        return told, rest

    def add(self, hidden: Tensor, rest: Tensor, *taken: Tensor) -> Tensor:
        """Maps what ``tell`` took, what it left, and what is taken besides to (N, maps, H', W')."""
        added: Tensor = self.second(torch.cat([F.elu(rest), *taken], 1))
        return hidden[..., :: self.stride, :: self.stride] + added


class ResNetVAE(LadderModel):
    """Maps of latents in every block: the image's evidence from the way up is joined on the way down.

        q(z_l | x, z_above) = N(m_up + m_down, exp(a_up + a_down)),    p(z_l | z_above) = N(m_l, exp(a_l))

    ``up`` is a function of the image; all others are of the latents above. The top block starts from a learned map.

    Args:
        spec: the sample space; two levels have a Bernoulli decoder, more a discretized logistic.
        layers: how many layers of latents there are at half of the image's height and width, at a quarter, and so on.
        maps: of the residual blocks.
        latents: maps of latents in each block.
        num_samples, warm_up, free_bits, average_decay: of ``Objective``.
        learning_rate, batch_size, schedule, max_gradient_norm, validate_every: of ``Descent``.

    Raises:
        ValueError: a number out of its range.
    """

    default_budget = "30 epochs"

    def __init__(self, spec: ImageSpec, *, layers: tuple[int, ...] = (1, 2, 2), maps: int = 24, latents: int = 4,
                 num_samples: int = 1, warm_up: float = 0.1, free_bits: float = 0.0,
                 average_decay: float | None = None, learning_rate: float = 2e-3, batch_size: int = 100,
                 schedule: Schedule = "cosine", max_gradient_norm: float | None = 100.0,
                 validate_every: str = "1 epoch") -> None:  # fmt: skip
        objective = Objective(
            num_samples=num_samples, warm_up=warm_up, free_bits=free_bits, average_decay=average_decay
        )
        descent = Descent(
            learning_rate=learning_rate, batch_size=batch_size, schedule=schedule,
            max_gradient_norm=max_gradient_norm, validate_every=validate_every,
        )  # fmt: skip
        super().__init__(spec, objective=objective, descent=descent)
        check_widths(layers=layers)
        check_positive(maps=maps, latents=latents)
        size, self._sizes, strides = (spec.height, spec.width), list[tuple[int, int]](), list[int]()
        for stage, count in enumerate(layers):
            size = _half(size)
            self._sizes += [size] * count
            strides += [2 if stage else 1] + [1] * (count - 1)
        self._latents = latents
        self.first = nn.Conv2d(spec.channels, maps, 3, stride=2, padding=1)
        self.upward = cast(
            "Sequence[Block]", nn.ModuleList(Block(maps, told=2 * latents, stride=stride) for stride in strides)
        )
        self.top = nn.Parameter(torch.zeros(1, maps, *size))
        self.downward = cast(
            "Sequence[Block]", nn.ModuleList(Block(maps, told=4 * latents, taken=latents) for _ in strides)
        )
        self.last = nn.Conv2d(maps, 4 * spec.channels, 3, padding=1)
        self.pixel_bias = nn.Parameter(torch.zeros(spec.shape))
        self.pixels = LogisticPixels(spec)

    @property
    def latent_sizes(self) -> tuple[int, ...]:
        """The number of latents of each layer, top level first."""
        return tuple(self._latents * height * width for height, width in reversed(self._sizes))

    def start_from(self, images: Tensor) -> None:
        """Starts the pixels' biases at the training images' frequencies; with more levels than two, at their means."""
        levels = self.spec.levels
        if levels == 2:
            start = smoothed_outputs(level_counts(images, 2).movedim(0, -1))[..., 0]
        else:
            start = scale(images.mean(0, dtype=torch.float64), levels, torch.float64)
        self.pixel_bias.data.copy_(start)

    def bottom_up(self, images: Tensor) -> list[DiagonalGaussian]:
        """Maps (N, C, H, W) uint8 to what they say of each layer's latents, parameters (N, size), the top first."""
        hidden, found = self.first(scale(images, self.spec.levels, self.dtype)), list[DiagonalGaussian]()
        for block in self.upward:
            told, rest = block.tell(hidden)
            found += _gaussians(told, 1, len(images))
            hidden = block.add(hidden, rest)
        return found[::-1]

    def top_down(self, choose: Choose, evidence: Sequence[DiagonalGaussian] | None = None) -> Tensor:
        """Runs the generative networks, and returns the means of the pixels, (..., N, C, H, W); see ``LadderModel``."""
        hidden: Tensor = self.top
        lead = torch.Size([1])
        for layer, (block, size) in enumerate(zip(reversed(self.downward), reversed(self._sizes), strict=True)):
            if hidden.shape[-2:] != size:
                hidden = _doubled(hidden, size)
            told, rest = block.tell(hidden)
            prior, posterior = _gaussians(told, 2, *lead)
            if evidence is not None:
                up = evidence[layer]
                posterior = DiagonalGaussian(up.mean + posterior.mean, up.log_variance + posterior.log_variance)
            latents = choose(prior, None if evidence is None else posterior)  # (..., N, size)
            lead, z = latents.shape[:-1], latents.reshape(-1, self._latents, *size)
            hidden = block.add(hidden, rest.expand(len(z), -1, -1, -1), z)
        outputs = F.pixel_shuffle(self.last(F.elu(hidden)), 2)[..., : self.spec.height, : self.spec.width]
        return (outputs + self.pixel_bias).view(*lead, *self.spec.shape)
