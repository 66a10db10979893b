"""DRAW, the deep recurrent attentive writer (Gregor et al. 2015, arXiv 1502.04623)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from harness import ImageSpec
from harness_layers.checks import check_positive
from harness_layers.descent import Descent
from harness_layers.posteriors import DiagonalGaussian, standard_normal_log_prob
from harness_layers.schedules import Schedule
from harness_vae.attention import WholeReader, WholeWriter, WindowReader, WindowWriter
from harness_vae.latent_model import Objective
from harness_vae.recurrent import RecurrentModel, State, lstm


class DRAW(RecurrentModel):
    r"""Paints an image in T turns, each with latents of its own, and looks at what is missing before each.

    .. math::
        h_t^{enc} &= LSTM(h_{t-1}^{enc}, [read(x, x - \sigma(c_{t-1}), h_{t-1}^{dec}), h_{t-1}^{dec}]), \quad
        z_t \sim q(z_t | h_t^{enc}) \\
        h_t^{dec} &= LSTM(h_{t-1}^{dec}, z_t), \quad c_t = c_{t-1} + write(h_t^{dec}), \quad p(x | z) = p(x | c_T)

    The prior of all latents is N(0, I). The canvas starts at the frequencies of the training images, a parameter.

    Args:
        spec: the sample space; entries have logits, one for each level where there are more than two.
        glimpses: T; 64 in the paper.
        latents: of a turn; 100 in the paper.
        units: of both LSTMs; 256 in the paper.
        attention: whether to read and write through windows of Gaussian filters, or the whole image.
        read_size, write_size: the filters of these windows to a side; 2 and 5 in the paper.
        num_samples, warm_up, free_bits, average_decay: of the objective, see ``Objective``; a turn is a layer.
        learning_rate: of Adam.
        batch_size: images in each step.
        schedule: how the learning rate falls with the budget.
        max_gradient_norm: where gradients are clipped, in nats an image.
        validate_every: how often the validation split is scored, such as ``1 epoch`` or ``500 steps``.

    Raises:
        ValueError: a number out of its range, an unknown schedule.
    """

    default_budget = "30 epochs"

    def __init__(self, spec: ImageSpec, *, glimpses: int = 16, latents: int = 64, units: int = 192,
                 attention: bool = True, read_size: int = 5, write_size: int = 5, num_samples: int = 1,
                 warm_up: float = 0.0, free_bits: float = 0.0, average_decay: float | None = None,
                 learning_rate: float = 1e-3, batch_size: int = 100, schedule: Schedule = "cosine",
                 max_gradient_norm: float | None = 10.0, validate_every: str = "1 epoch") -> None:  # fmt: skip
        super().__init__(
            spec, glimpses=glimpses, latents=latents,
            objective=Objective(num_samples=num_samples, warm_up=warm_up, free_bits=free_bits,
                                average_decay=average_decay),
            descent=Descent(learning_rate=learning_rate, batch_size=batch_size, schedule=schedule,
                            max_gradient_norm=max_gradient_norm, validate_every=validate_every),
        )  # fmt: skip
        check_positive(units=units, read_size=read_size, write_size=write_size)
        self.units = units
        self.reader = WindowReader(units, 4 * units, spec, read_size) if attention else WholeReader(4 * units, spec)
        self.encoder = nn.Linear(2 * units, 4 * units)
        self.posterior = nn.Linear(units, 2 * latents)
        self.decoder = nn.Linear(latents + units, 4 * units)
        self.writer = WindowWriter(units, spec, write_size) if attention else WholeWriter(units, spec)

    def features(self, images: Tensor) -> Sequence[Tensor]:
        """Maps (N, C, H, W) uint8 to what is read of images whatever is on the canvas."""
        return (self.reader.features(self.scaled(images)),)

    def blank(self, rows: int) -> State:
        """Returns hidden values, cells and the canvas."""
        return (*self.unseen(rows), self.empty_canvas(rows))

    def unseen(self, rows: int) -> State:
        """Returns hidden values and cells, zero."""
        nothing = self.background.new_zeros(rows, self.units)
        return nothing, nothing

    def prior(self, painted: State) -> DiagonalGaussian:
        """Returns N(0, I)."""
        nothing = self.background.new_zeros(len(painted[0]), self.latents)
        return DiagonalGaussian(nothing, nothing)

    def log_prior(self, latents: Tensor) -> Tensor:
        """Maps (N, T * D) to (N,) nats."""
        return standard_normal_log_prob(latents)

    def look(self, seen: State, painted: State, features: Sequence[Tensor]) -> tuple[State, DiagonalGaussian]:
        """Reads where the decoder's hidden values of the turn before point to."""
        (hidden, cell), (pointer, _, canvas) = seen, painted
        read = self.reader(features[0], self.visible(canvas), pointer)
        hidden, cell = lstm(read + self.encoder(torch.cat([hidden, pointer], dim=1)), cell)
        return (hidden, cell), DiagonalGaussian(*self.posterior(hidden).chunk(2, dim=1))

    def paint(self, painted: State, latents: Tensor) -> State:
        """Writes where the decoder's new hidden values point to."""
        hidden, cell, canvas = painted
        hidden, cell = lstm(self.decoder(torch.cat([latents, hidden], dim=1)), cell)
        return hidden, cell, canvas + self.writer(hidden)
