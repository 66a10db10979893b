"""RIDE, the recurrent image density estimator (Theis & Bethge 2015, arXiv 1506.03478)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from harness import Dataset, ImageSpec, Trainer, mean_over
from harness_layers.checks import check_positive
from harness_layers.dequantized import DequantizedDensity
from harness_layers.descent import Descent, descend
from harness_layers.pixels import level_counts
from harness_mixtures.mcgsm import MCGSM
from harness_mixtures.spatial_lstm import SpatialLSTM, diagonal_order

_PIXELS_AT_ONCE = 25_000  # activations of more leave the caches
_DRAWN_AT_ONCE = 500
_FARTHEST = 10_000  # ranges of levels
_IMAGES_FOR_MOMENTS = 1000
_UNIFORM_VARIANCE = 1 / 12


class RIDE(DequantizedDensity):
    r"""A density of dequantized pixels: each is a mixture of Gaussians, given a recurrent summary of pixels before it.

    .. math:: p(y) = \prod_{ij} p(y_{ij} \mid h_{ij}, x_{ij}), \quad h_{ij} = SLSTM(x_{ij}, h_{i,j-1}, h_{i-1,j})

    x is the causal neighbourhood of a pixel, whitened: ``reach`` rows above it, as far to both sides, and ``reach``
    pixels left of it. So a pixel sees of rows above what lies no more than ``reach`` columns to its right, as in the
    paper. An image is padded by its mean level, and all of its pixels are scored, whereas the authors' code scores
    those alone whose neighbourhood lies inside the image. The channels of a pixel are modelled in turn, each by a
    mixture of its own that sees those before it.

    What is bounded is said in ``DequantizedDensity``.

    Args:
        spec: any sample space.
        units: entries of the LSTM's state.
        reach: of the causal neighbourhood.
        components, scales, features: of the mixture, see ``MCGSM``.
        learning_rate, batch_size, max_gradient_norm, validate_every: see ``Descent``.

    Raises:
        ValueError: a hyperparameter out of its range.
    """

    default_budget: ClassVar[str] = "4 epochs"
    mean_level: Tensor
    whitening: Tensor
    taps: Tensor
    order: Tensor

    def __init__(self, spec: ImageSpec, *, units: int = 64, reach: int = 5, components: int = 32, scales: int = 4,
                 features: int = 32, learning_rate: float = 3e-3, batch_size: int = 32,
                 max_gradient_norm: float = 50.0, validate_every: str = "1 epoch") -> None:  # fmt: skip
        super().__init__(spec)
        check_positive(units=units, reach=reach, components=components, scales=scales, features=features)
        self.images_at_once = max(1, _PIXELS_AT_ONCE // (spec.height * spec.width))
        self.descent = Descent(
            learning_rate=learning_rate, batch_size=batch_size, max_gradient_norm=max_gradient_norm,
            part_size=self.images_at_once, validate_every=validate_every,
        )  # fmt: skip
        self.reach = reach
        self.num_neighbours = spec.channels * reach * (2 * reach + 2)  # K
        entries = self.num_neighbours + spec.channels
        self.lstm = SpatialLSTM(self.num_neighbours, units)
        self._mixtures = nn.ModuleList(
            MCGSM(units + self.num_neighbours + c, components=components, scales=scales, features=features)
            for c in range(spec.channels)
        )
        self.register_buffer("mean_level", torch.full((spec.channels,), spec.levels / 2))
        self.register_buffer("whitening", torch.empty(entries, entries))
        self.register_buffer("taps", _taps(spec, reach), persistent=False)  # (H * W, K + C)
        self.register_buffer("order", diagonal_order(spec.height, spec.width), persistent=False)
        # Before fit: pixels are uniform and independent.
        frequencies = torch.full((spec.channels, spec.levels), 1 / spec.levels)
        self._start(frequencies, torch.eye(entries) * (spec.levels**2 * _UNIFORM_VARIANCE))

    @property
    def mixtures(self) -> Sequence[MCGSM]:
        """The mixtures of a pixel's channels."""
        return cast("Sequence[MCGSM]", self._mixtures)

    def fit(self, data: Dataset, trainer: Trainer) -> None:
        """Starts from the marginals and linear predictions of the training images, and minimises the bound by Adam."""
        images = data.train.draw(0).images
        counts = level_counts(images, self.spec.levels).sum((2, 3)).T  # (C, levels)
        frequencies = (counts / counts.sum(1, keepdim=True)).to(self.mean_level)
        self.mean_level.copy_(frequencies @ (torch.arange(self.spec.levels).to(frequencies) + 0.5))
        self._start(frequencies, self._second_moment(images[:: -(-len(images) // _IMAGES_FOR_MOMENTS)].to(self.device)))
        descend(
            self, data, trainer, self.descent,
            lambda batch: -self.elbo(batch.images),
            score=lambda split: -mean_over(split, self.elbo, batch_size=500),
        )  # fmt: skip

    @torch.no_grad()
    def _start(self, frequencies: Tensor, second_moment: Tensor) -> None:
        # of the levels of a channel (C, levels), and of what ``_windows`` gives (K + C, K + C)
        factor = torch.linalg.cholesky(second_moment.double())
        identity = torch.eye(len(factor)).to(factor)
        # triangular: what is left of an entry that those before it do not predict
        self.whitening.copy_(torch.linalg.solve_triangular(factor, identity, upper=False).tril())
        for channel, mixture in enumerate(self.mixtures):
            last = self.num_neighbours + channel
            edges = torch.arange(self.spec.levels + 1).to(factor) - self.mean_level[channel]
            mixture.start(
                frequencies[channel].double(), edges, prediction=factor[last, :last], deviation=factor[last, last]
            )

    def _second_moment(self, images: Tensor) -> Tensor:
        # (N, C, H, W) to (K + C, K + C), of dequantized pixels above ``mean_level``
        total = torch.zeros_like(self.whitening, dtype=torch.float64)
        for part in torch.split(images, self.images_at_once):
            values = self._windows(self._pad(part.flatten(1) + 0.5), self.taps).flatten(0, 1).double()
            total.addmm_(values.T, values)
        return total / (len(images) * len(self.taps)) + torch.eye(len(total)).to(total) * _UNIFORM_VARIANCE

    def log_density(self, points: Tensor) -> Tensor:
        """Maps (N, D), in levels, to (N,) nats."""
        parts = torch.split(points.to(self.dtype), self.images_at_once)
        return torch.cat([self.conditional_log_densities(part).flatten(1).sum(1) for part in parts])

    def conditional_log_densities(self, points: Tensor) -> Tensor:
        """Maps (N, D), in levels, to (N, C, H, W) nats: of each entry given those before it."""
        values = self._windows(self._pad(points), self.taps[self.order])  # (H * W, N, K + C)
        white = values @ self.whitening.T
        hidden = self.lstm(white[..., : self.num_neighbours], self.spec.height, self.spec.width)
        inputs = torch.cat([hidden, white], -1).flatten(0, 1)
        own = values[..., self.num_neighbours :].flatten(0, 1)
        log_probs = [
            mixture.log_prob(own[:, channel], inputs[:, : mixture.num_inputs])
            for channel, mixture in enumerate(self.mixtures)
        ]
        by_cell = torch.stack(log_probs).view(len(log_probs), len(self.order), len(points))
        return by_cell[:, self.order.argsort()].permute(2, 0, 1).view(-1, *self.spec.shape)

    def _pad(self, points: Tensor) -> Tensor:
        # points (N, D) in levels to (positions, N) in levels above the mean, zero around an image
        centred = points.view(-1, *self.spec.shape) - self.mean_level.view(-1, 1, 1)
        return F.pad(centred, (self.reach, self.reach, self.reach, 0)).flatten(1).T

    def _windows(self, padded: Tensor, taps: Tensor) -> Tensor:
        # (positions, N), of pixels (M, K + C) to (M, N, K + C): a pixel's neighbourhood and then its own channels
        return padded.index_select(0, taps.flatten()).view(*taps.shape, -1).transpose(1, 2)

    def sample(self, num_samples: int) -> Tensor:
        """Returns (num_samples, C, H, W) uint8: draws of the density, rounded down and clamped to the levels."""
        parts = torch.split(torch.arange(num_samples), _DRAWN_AT_ONCE)
        return torch.cat([self.to_images(self.draw(len(part))) for part in parts])

    @torch.no_grad()
    def draw(self, num_samples: int) -> Tensor:
        """Draws (num_samples, D) in levels from the density, pixel by pixel.

        What is ten thousand ranges of levels from the mean is cut off there: it lies in no image, and what follows it
        would grow without end where a linear prediction is explosive.
        """
        width, most = self.spec.width, _FARTHEST * self.spec.levels
        middle = self.mean_level.view(1, -1, 1).expand(num_samples, -1, self.spec.height * width)
        padded = self._pad(middle.flatten(1)).contiguous()
        nothing = padded.new_zeros(num_samples, 2 * self.lstm.units)
        above = [nothing] * width
        for pixel, taps in enumerate(self.taps):
            column = pixel % width
            left = above[column - 1] if column > 0 else nothing
            for channel, mixture in enumerate(self.mixtures):
                white = self._windows(padded, taps.unsqueeze(0))[0] @ self.whitening.T  # (N, K + C)
                if channel == 0:
                    pre = self.lstm.from_input(white[:, : self.num_neighbours])
                    above[column] = self.lstm.step(pre, left, above[column])
                inputs = torch.cat([above[column][:, : self.lstm.units], white], 1)[:, : mixture.num_inputs]
                padded[taps[self.num_neighbours + channel]] = mixture.draw(inputs).clamp(-most, most)
        own = padded[self.taps[:, self.num_neighbours :].T.flatten()]  # (D, N)
        return own.T + self.mean_level.repeat_interleave(len(self.taps))


def _taps(spec: ImageSpec, reach: int) -> Tensor:
    # (H * W, K + C) positions in a padded image, for each pixel those of its neighbourhood, and then its own channels
    wide = spec.width + 2 * reach
    tap = torch.arange(reach * (2 * reach + 2) + 1)  # row after row of a window, up to the pixel
    inside = tap // (2 * reach + 1) * wide + tap % (2 * reach + 1)
    planes = torch.arange(spec.channels) * ((spec.height + reach) * wide)
    corners = (torch.arange(spec.height).unsqueeze(1) * wide + torch.arange(spec.width)).flatten()
    return corners.unsqueeze(1) + (inside.unsqueeze(1) + planes).flatten()
