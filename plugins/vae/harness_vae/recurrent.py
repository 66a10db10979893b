"""Latents in turns, each drawn given what those before it have painted: what DRAW and Convolutional DRAW share.

    p(x, z) = prod_t p(z_t | z_<t) p(x | c_T),    q(z | x) = prod_t q(z_t | z_<t, x)

The canvas c_t holds the outputs of all entries of the image, logits where it is binary; each turn adds to it.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from harness import ImageSpec
from harness_layers.checks import check_positive
from harness_layers.descent import Descent
from harness_layers.pixels import by_entry, draw_levels, entry_log_probs, level_counts, num_outputs, smoothed_outputs
from harness_layers.posteriors import DiagonalGaussian, standard_noise
from harness_vae.latent_model import LatentModel, Objective, Terms

State = tuple[Tensor, ...]


@dataclass(frozen=True)
class Turn:
    """One turn of inference: two Gaussians over latents, and the draw from the second, (R, D) each."""

    prior: DiagonalGaussian
    posterior: DiagonalGaussian
    noise: Tensor
    latents: Tensor

    @property
    def log_ratio(self) -> Tensor:
        """(R,) nats: log p(z_t | z_<t) - log q(z_t | z_<t, x)."""
        return self.prior.log_prob(self.latents) - self.posterior.log_prob_at(self.noise)


def lstm(gates: Tensor, cell: Tensor) -> tuple[Tensor, Tensor]:
    """Maps gates (R, 4H, ...) and cells (R, H, ...) to hidden values and cells; gates forget little at first.

    Hochreiter & Schmidhuber 1997; Gers, Schmidhuber & Cummins 2000.
    """
    write, forget, read, value = gates.chunk(4, dim=1)
    cell = (forget + 1).sigmoid() * cell + write.sigmoid() * value.tanh()
    return read.sigmoid() * cell.tanh(), cell


class RecurrentModel(LatentModel):
    """A subclass says what is remembered, where latents are, and what they paint.

    Args:
        spec: the sample space.
        glimpses: T, how many turns.
        latents: D, the latent units of a turn.
        objective: what is maximised.
        descent: how.
    """

    def __init__(self, spec: ImageSpec, *, glimpses: int, latents: int, objective: Objective,
                 descent: Descent) -> None:  # fmt: skip
        super().__init__(spec, objective=objective, descent=descent)
        check_positive(glimpses=glimpses, latents=latents)
        self.glimpses, self.latents = glimpses, latents
        self.background = nn.Parameter(torch.zeros(spec.channels * num_outputs(spec), spec.height, spec.width))

    @abstractmethod
    def blank(self, rows: int) -> State:
        """Returns what the decoder remembers before the first turn; the canvas (R, C * O, H, W) comes last."""

    @abstractmethod
    def unseen(self, rows: int) -> State:
        """Returns what the encoder remembers before the first turn."""

    @abstractmethod
    def prior(self, painted: State) -> DiagonalGaussian:
        """Returns p(z_t | z_<t), of (R, D), given what the decoder remembers."""

    @abstractmethod
    def look(self, seen: State, painted: State, features: Sequence[Tensor]) -> tuple[State, DiagonalGaussian]:
        """Returns what the encoder remembers after a turn, and q(z_t | z_<t, x), of (R, D)."""

    @abstractmethod
    def paint(self, painted: State, latents: Tensor) -> State:
        """Returns what the decoder remembers after a turn with latents (R, D)."""

    @property
    def latent_sizes(self) -> tuple[int, ...]:
        """The units of each turn, the first one first."""
        return (self.latents,) * self.glimpses

    @property
    def sampling_depth(self) -> int:
        """The turns, one after another."""
        return self.glimpses

    def start_from(self, images: Tensor) -> None:
        """Starts the canvas at the frequencies of the levels in the training images (M, C, H, W)."""
        outputs = smoothed_outputs(level_counts(images, self.spec.levels).movedim(0, -1))  # (C, H, W, O)
        with torch.no_grad():
            self.background.copy_(outputs.movedim(-1, 1).flatten(0, 1))

    def empty_canvas(self, rows: int) -> Tensor:
        """Returns (R, C * O, H, W)."""
        return self.background.expand(rows, *self.background.shape)

    def visible(self, canvas: Tensor) -> Tensor:
        """Maps (R, C * O, H, W) to (R, C, H, W) in [0, 1]: the expected image."""
        outputs = by_entry(canvas, self.spec)  # (R, C, O, H, W)
        if outputs.shape[2] == 1:
            return outputs.squeeze(2).sigmoid()
        shades = torch.linspace(0, 1, self.spec.levels, dtype=canvas.dtype, device=canvas.device)
        return torch.einsum("rcohw,o->rchw", outputs.softmax(2), shades)

    def scaled(self, images: Tensor) -> Tensor:
        """Maps (N, C, H, W) uint8 to the same in [0, 1]."""
        return images.to(self.dtype) / (self.spec.levels - 1)

    def terms(self, images: Tensor, features: Sequence[Tensor], num_samples: int) -> Terms:
        """Maps (N, C, H, W) uint8 and their features to the parts of ``num_samples`` weights, a ratio for each turn."""
        spread = [values.repeat(num_samples, *[1] * (values.ndim - 1)) for values in features]
        turns, canvas = self._infer(spread, self._noise(num_samples * len(images)))
        log_likelihood = self._log_likelihood(images.repeat(num_samples, 1, 1, 1), canvas)
        shape = (num_samples, len(images))
        return Terms(log_likelihood.view(shape), [turn.log_ratio.view(shape) for turn in turns])

    def draw_posterior(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Maps (N, C, H, W) uint8 to draws (N, T * D) from q(z | image), and log q of each, (N,) nats."""
        turns, _ = self._infer(self.features(images), self._noise(len(images)))
        log_q = torch.stack([turn.posterior.log_prob_at(turn.noise) for turn in turns]).sum(0)
        return torch.cat([turn.latents for turn in turns], dim=1), log_q

    def encode(self, images: Tensor) -> Tensor:
        """Maps (N, C, H, W) uint8 to (N, T * D): the mean of each turn's latents, where those before are at theirs."""
        still = torch.zeros_like(self._noise(len(images)))
        turns, _ = self._infer(self.features(images), still)
        return torch.cat([turn.latents for turn in turns], dim=1)

    def log_prior(self, latents: Tensor) -> Tensor:
        """Maps (N, T * D) to (N,) nats: the sum over turns of log p(z_t | z_<t)."""
        painted, total = self.blank(len(latents)), torch.zeros_like(latents[:, 0])
        for values in torch.split(latents, self.latents, dim=1):
            total = total + self.prior(painted).log_prob(values)
            painted = self.paint(painted, values)
        return total

    def log_likelihood(self, images: Tensor, latents: Tensor) -> Tensor:
        """Maps (N, C, H, W) uint8 and (N, T * D) to (N,) nats: log p(x | c_T)."""
        return self._log_likelihood(images, self._canvas(latents))

    def decode(self, latents: Tensor) -> Tensor:
        """Maps (N, T * D) to (N, C, H, W) float: E[x | c_T], in levels."""
        return self.visible(self._canvas(latents)) * (self.spec.levels - 1)

    def sample(self, num_samples: int) -> Tensor:
        """Returns (num_samples, C, H, W) uint8: latents from the prior, turn by turn, then a draw of the pixels."""
        return self.draw_joint(num_samples)[0]

    @torch.no_grad()
    def draw_joint(self, num_samples: int) -> tuple[Tensor, Tensor]:
        """Returns the images of ``sample`` and the latents (num_samples, T * D) that they were drawn from."""
        sizes = [self.block_rows] * (num_samples // self.block_rows) + [num_samples % self.block_rows]
        images, latents = zip(*map(self._draw, sizes), strict=True)
        return torch.cat(images), torch.cat(latents)

    def _draw(self, rows: int) -> tuple[Tensor, Tensor]:
        painted, drawn = self.blank(rows), list[Tensor]()
        for noise in self._noise(rows):
            drawn.append(self.prior(painted).at(noise))
            painted = self.paint(painted, drawn[-1])
        return draw_levels(by_entry(painted[-1], self.spec), dim=2), torch.cat(drawn, dim=1)

    def _noise(self, rows: int) -> Tensor:
        return standard_noise((self.glimpses, rows, self.latents), self.background)

    def _infer(self, features: Sequence[Tensor], noise: Tensor) -> tuple[list[Turn], Tensor]:
        rows, turns = len(features[0]), list[Turn]()
        seen, painted = self.unseen(rows), self.blank(rows)
        for turn_noise in noise:
            prior = self.prior(painted)
            seen, posterior = self.look(seen, painted, features)
            turns.append(Turn(prior, posterior, turn_noise, posterior.at(turn_noise)))
            painted = self.paint(painted, turns[-1].latents)
        return turns, painted[-1]

    def _canvas(self, latents: Tensor) -> Tensor:
        painted = self.blank(len(latents))
        for values in torch.split(latents, self.latents, dim=1):
            painted = self.paint(painted, values)
        return painted[-1]

    def _log_likelihood(self, images: Tensor, canvas: Tensor) -> Tensor:
        return entry_log_probs(canvas, images, self.spec).flatten(1).sum(1)
