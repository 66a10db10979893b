"""Convolutional DRAW, whose prior is learned (Gregor et al. 2016, arXiv 1604.08772)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from harness import ImageSpec
from harness_layers.checks import check_odd, check_positive
from harness_layers.descent import Descent
from harness_layers.pixels import num_outputs
from harness_layers.posteriors import DiagonalGaussian
from harness_layers.schedules import Schedule
from harness_vae.latent_model import Objective
from harness_vae.recurrent import RecurrentModel, State, lstm


class ConvDRAW(RecurrentModel):
    r"""Paints an image in T turns with maps of latents, whose prior depends on what the turns before have done.

    .. math::
        h_t^{enc} &= LSTM(h_{t-1}^{enc}, [x, x - \sigma(c_{t-1}), h_{t-1}^{dec}]), \quad
        z_t \sim q(z_t | h_t^{enc}), \quad p(z_t | z_{<t}) = N(z_t; \mu(h_{t-1}^{dec}), \sigma(h_{t-1}^{dec})) \\
        h_t^{dec} &= LSTM(h_{t-1}^{dec}, [z_t, \sigma(c_{t-1})]), \quad c_t = c_{t-1} + W * h_t^{dec}

    LSTMs are convolutional, on maps ``scale`` times smaller than the image: strided convolutions read it, transposed
    ones write to it, and beyond its right and lower edges where ``scale`` does not divide it.

    Args:
        spec: the sample space; entries have logits, one for each level where there are more than two.
        glimpses: T.
        latents: maps of latents in a turn.
        units: maps of both LSTMs.
        scale: pixels to a side of what one place of a map stands for.
        kernel: odd, of the convolutions from maps to maps.
        num_samples, warm_up, free_bits, average_decay: of the objective, see ``Objective``; a turn is a layer.
        learning_rate: of Adam.
        batch_size: images in each step.
        schedule: how the learning rate falls with the budget.
        max_gradient_norm: where gradients are clipped, in nats an image.
        validate_every: how often the validation split is scored, such as ``1 epoch`` or ``500 steps``.

    Raises:
        ValueError: a number out of its range, an even kernel, an unknown schedule.
    """

    default_budget = "15 epochs"

    def __init__(self, spec: ImageSpec, *, glimpses: int = 8, latents: int = 4, units: int = 24, scale: int = 4,
                 kernel: int = 3, num_samples: int = 1, warm_up: float = 0.0, free_bits: float = 0.0,
                 average_decay: float | None = None, learning_rate: float = 2e-3, batch_size: int = 100,
                 schedule: Schedule = "cosine", max_gradient_norm: float | None = 10.0,
                 validate_every: str = "1 epoch") -> None:  # fmt: skip
        check_positive(latents=latents, units=units, scale=scale)
        check_odd(kernel=kernel)
        size = [-(-length // scale) for length in (spec.height, spec.width)]
        super().__init__(
            spec, glimpses=glimpses, latents=latents * size[0] * size[1],
            objective=Objective(num_samples=num_samples, warm_up=warm_up, free_bits=free_bits,
                                average_decay=average_decay),
            descent=Descent(learning_rate=learning_rate, batch_size=batch_size, schedule=schedule,
                            max_gradient_norm=max_gradient_norm, validate_every=validate_every),
        )  # fmt: skip
        self.map_size, self.units, self.scale = tuple(size), units, scale
        border = [scale * places - length for places, length in zip(size, (spec.height, spec.width), strict=True)]
        self.border = (0, border[1], 0, border[0])  # what maps reach beyond the image, to its right and below
        overlap, between = scale // 2, kernel // 2
        wide = scale + 2 * overlap
        # of the image, and of what is missing
        self.image = nn.Conv2d(2 * spec.channels, 4 * units, wide, stride=scale, padding=overlap)
        self.encoder = nn.Conv2d(2 * units, 4 * units, kernel, padding=between)
        self.posterior = nn.Conv2d(units, 2 * latents, 1)
        self.ahead = nn.Conv2d(units, 2 * latents, 1)
        self.canvas = nn.Conv2d(spec.channels, 4 * units, wide, stride=scale, padding=overlap, bias=False)
        self.decoder = nn.Conv2d(latents + units, 4 * units, kernel, padding=between)
        self.writer = nn.ConvTranspose2d(units, spec.channels * num_outputs(spec), wide, stride=scale, padding=overlap)

    def features(self, images: Tensor) -> Sequence[Tensor]:
        """Maps (N, C, H, W) uint8 to what an empty canvas would let the encoder read, (N, 4 * units, h, w)."""
        scaled = nn.functional.pad(self.scaled(images), self.border)
        return (self.image(torch.cat([scaled, scaled], dim=1)),)

    def blank(self, rows: int) -> State:
        """Returns hidden values, cells and the canvas."""
        return (*self.unseen(rows), self.empty_canvas(rows))

    def unseen(self, rows: int) -> State:
        """Returns hidden values and cells, zero."""
        nothing = self.background.new_zeros(rows, self.units, *self.map_size)
        return nothing, nothing

    def prior(self, painted: State) -> DiagonalGaussian:
        """Returns the Gaussian that the decoder's hidden values foresee."""
        return _gaussian(self.ahead(painted[0]))

    def look(self, seen: State, painted: State, features: Sequence[Tensor]) -> tuple[State, DiagonalGaussian]:
        """Reads the image and what is not painted yet; convolutions are linear in both, so the image is read once."""
        (hidden, cell), (guide, _, canvas) = seen, painted
        error = self.image.weight[:, self.spec.channels :]
        visible = nn.functional.pad(self.visible(canvas), self.border)
        read = features[0] - nn.functional.conv2d(visible, error, stride=self.scale, padding=self.scale // 2)
        hidden, cell = lstm(read + self.encoder(torch.cat([hidden, guide], dim=1)), cell)
        return (hidden, cell), _gaussian(self.posterior(hidden))

    def paint(self, painted: State, latents: Tensor) -> State:
        """Adds to the canvas what the decoder's new hidden values give."""
        hidden, cell, canvas = painted
        maps = latents.view(len(latents), self.decoder.in_channels - self.units, *self.map_size)
        gates = self.decoder(torch.cat([maps, hidden], dim=1))
        gates = gates + self.canvas(nn.functional.pad(self.visible(canvas), self.border))
        hidden, cell = lstm(gates, cell)
        return hidden, cell, canvas + self.writer(hidden)[..., : self.spec.height, : self.spec.width]


def _gaussian(maps: Tensor) -> DiagonalGaussian:
    mean, log_variance = maps.chunk(2, dim=1)
    return DiagonalGaussian(mean.flatten(1), log_variance.flatten(1))
