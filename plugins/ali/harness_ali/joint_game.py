"""The game over joint distributions: encoder and generator against a discriminator of images with their latents."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn.functional import softplus
from torch.optim import Adam

from harness import Dataset, DegenerateSamples, ImageSpec, Inference, Trainer
from harness_ali.chain import Chain
from harness_ali.networks import Network, build_chain, build_discriminator
from harness_gan.adversarial import evaluating, take_step
from harness_layers.averaging import update_average
from harness_layers.checks import check_at_least, check_choice, check_positive, check_share, check_widths
from harness_layers.descent import set_learning_rate
from harness_layers.pixels import quantize, scale
from harness_layers.posteriors import standard_noise
from harness_layers.schedules import SCHEDULES, Schedule

_CHUNK = 500  # images at a time


def discriminator_objective(inferred: Tensor, generated: Tensor) -> Tensor:
    """Maps logits of the encoder's pairs (N,) and the generator's (M,) to what the discriminator minimises, in nats.

    E_q[-log D] + E_p[-log(1 - D)]. At the optimal logit, log q(x, z) - log p(x, z), it is 2 log 2 - 2 JSD(q, p), with
    JSD(q, p) = KL(q, m) / 2 + KL(p, m) / 2, m = (q + p) / 2.
    """
    return softplus(-inferred).mean() + softplus(generated).mean()


def players_objective(inferred: Tensor, generated: Tensor) -> Tensor:
    """Maps the same logits to what encoder and generator minimise together: both labels are flipped."""
    return softplus(inferred).mean() + softplus(-generated).mean()


class JointGame(Inference):
    r"""An encoder q(x) q(z | x) and a generator p(z) p(x | z) that a discriminator cannot tell apart.

    .. math:: \min_D E_q[-\log D(x, z)] + E_p[-\log(1 - D(x, z))],
              \quad \min_{q, p} E_q[-\log(1 - D(x, z))] + E_p[-\log D(x, z)]

    Once the two joint distributions are one, so are the distributions of images, and q(z | x) is the generator's
    posterior. Latents may have several levels, see ``Chain``. The discriminator is shown draws of latents, never means.

    Class attributes:
        noisy: whether conditionals of latents are Gaussians, not points.

    Args:
        spec: any sample space; even sides of at least 8 pixels for ``dcgan``.
        network: ``mlp`` or ``dcgan``, of all players.
        latents: units of each level, the bottom first.
        width: the width of the networks, see ``build_chain``.
        learning_rate, betas: of Adam, for all players.
        schedule: how the learning rate falls with the budget: ``linear``, ``cosine``, ``stages`` or ``constant``.
        batch_size: images in each step, and as many generated ones.
        averaging: the decay of the average of encoder and generator that is used after training; 0 uses themselves.
        dropout: the share of the discriminator's hidden units that is dropped in training.
        penalty: gamma of R1, gamma / 2 E_q[||grad s(x, z)||^2], added to the discriminator's loss, which keeps the
            players from circling around one another (Mescheder et al. 2018, arXiv 1801.04406).

    Raises:
        ValueError: a hyperparameter out of its range.
        Unsupported: images that the network cannot do.
    """

    noisy: ClassVar[bool] = True

    def __init__(self, spec: ImageSpec, *, network: Network, latents: tuple[int, ...], width: int,
                 learning_rate: float, betas: tuple[float, float], schedule: Schedule, batch_size: int,
                 averaging: float, dropout: float, penalty: float) -> None:  # fmt: skip
        super().__init__(spec)
        check_widths(latents=latents)
        check_positive(width=width, batch_size=batch_size, learning_rate=learning_rate)
        check_share(**{"betas[0]": betas[0], "betas[1]": betas[1]}, averaging=averaging, dropout=dropout)
        check_choice(SCHEDULES, schedule=schedule)
        check_at_least(0, penalty=penalty)
        self.latents, self.batch_size, self.averaging, self.penalty = tuple(latents), batch_size, averaging, penalty
        self.learning_rate, self.betas, self.schedule = learning_rate, betas, schedule
        self.chain = build_chain(network, spec, latents=self.latents, width=width, noisy=self.noisy)
        self.discriminator = build_discriminator(
            network, spec, latents=sum(self.latents), width=width, dropout=dropout
        )  # fmt: skip
        self.average = copy.deepcopy(self.chain).requires_grad_(requires_grad=False) if averaging > 0 else None

    @property
    def latent_sizes(self) -> tuple[int, ...]:
        """Units of each level, the top first."""
        return self.latents[::-1]

    def draw_top(self, num_samples: int) -> Tensor:
        """Draws (num_samples, D_L) of the top level from its prior, the standard Gaussian."""
        return standard_noise((num_samples, self.latents[-1]), self._anchor)

    def fit(self, data: Dataset, trainer: Trainer) -> None:
        """Plays the game: a batch is a step of the discriminator, and one of encoder and generator together.

        Logs the discriminator's loss, and that of encoder and generator.
        """
        players, discriminators = (
            Adam(one.parameters(), lr=self.learning_rate, betas=self.betas, fused=True)
            for one in (self.chain, self.discriminator)
        )
        trainer.track(players=players, discriminator=discriminators)
        for batch in trainer.batches(data.train, batch_size=self.batch_size):
            set_learning_rate(
                self.learning_rate * SCHEDULES[self.schedule](trainer.fraction), players, discriminators
            )  # fmt: skip
            images = batch.images if len(batch) > 1 else batch.images.repeat(2, 1, 1, 1)  # batch norm needs two
            real = scale(images, self.spec.levels, self.dtype)
            with trainer.autocast():
                pairs = self._pairs(self.chain, real)
                loss = self.discriminator_loss([(x.detach(), z.detach()) for x, z in pairs])
            take_step(discriminators, loss)
            with trainer.autocast():
                players_loss = players_objective(*self._logits(pairs))
            take_step(players, players_loss)
            if self.average is not None:
                update_average(self.average, self.chain, decay=self.averaging, num_steps=trainer.step + 1)
            trainer.log(loss=loss, players_loss=players_loss)

    def _pairs(self, chain: Chain, real: Tensor) -> list[tuple[Tensor, Tensor]]:
        """Maps images (N, C, H, W) in [-1, 1] to N pairs of the encoder, and N of the generator, with their graph."""
        inferred = chain.infer(real)
        fake, generated = chain.generate(self.draw_top(len(real)), level=len(self.latents))
        return [(real, _side_by_side(inferred)), (fake, _side_by_side(generated))]

    def discriminator_loss(self, pairs: list[tuple[Tensor, Tensor]]) -> Tensor:
        """Maps the encoder's pairs and the generator's, without their graph, to what the discriminator minimises."""
        real, latents = pairs[0]
        if self.penalty > 0:
            pairs = [(real.requires_grad_(), latents.requires_grad_()), pairs[1]]
        inferred, generated = self._logits(pairs)
        loss = discriminator_objective(inferred, generated)
        if self.penalty > 0:
            slopes = torch.autograd.grad(inferred.sum(), (real, latents), create_graph=True)
            loss = loss + self.penalty / 2 * sum(slope.square().flatten(1).sum(1).mean() for slope in slopes)
        return loss

    def _logits(self, pairs: list[tuple[Tensor, Tensor]]) -> list[Tensor]:
        return [self.discriminator(images, latents).to(self.dtype) for images, latents in pairs]

    @torch.no_grad()
    def sample(self, num_samples: int) -> Tensor:
        """Returns (num_samples, C, H, W) uint8, every generated value at its nearest level.

        Raises:
            DegenerateSamples: the generator's output is NaN or infinite.
        """
        images = torch.empty(num_samples, *self.spec.shape, dtype=torch.uint8, device=self.device)
        with self._evaluating() as chain:
            for part in torch.split(images, _CHUNK):
                output, _ = chain.generate(self.draw_top(len(part)), level=len(self.latents))
                finite = torch.isfinite(output)
                if not bool(finite.all()):
                    value = output[~finite][0].item()
                    raise DegenerateSamples(f"the generator's output is not finite: it holds {value}")
                part.copy_(quantize(output, self.spec.levels))
        return images

    def encode(self, images: Tensor) -> Tensor:
        """Maps (N, C, H, W) uint8 to (N, D): means of the latents, the top level first, each given the means below."""
        with self._evaluating() as chain:
            return _side_by_side(chain.means(scale(images, self.spec.levels, self.dtype)))

    def decode(self, latents: Tensor) -> Tensor:
        """Maps (N, D), the top level first, to (N, C, H, W) float in levels: the image of the bottom level."""
        with self._evaluating() as chain:
            return self._in_levels(chain.picture(latents[:, -self.latents[0] :]))

    def reconstruct(self, images: Tensor, *, level: int = 1) -> Tensor:
        """Maps (N, C, H, W) uint8 to (N, C, H, W) float in levels: up to draws of a level, and back down from there.

        From level 1, the bottom, only what the encoder lost is missing; from a higher one, all that is drawn below it
        is new (Belghazi et al. 2018, arXiv 1802.01071).

        Raises:
            ValueError: there is no such level.
        """
        if not 1 <= level <= len(self.latents):
            raise ValueError(f"level must be from 1 to {len(self.latents)}, not {level}")
        with self._evaluating() as chain:
            inferred = chain.infer(scale(images, self.spec.levels, self.dtype))
            return self._in_levels(chain.generate(inferred[level - 1], level=level)[0])

    def draw_pairs(self, images: Tensor) -> list[tuple[Tensor, Tensor]]:
        """Maps images (N, C, H, W) uint8 to N draws (x, z) of the encoder, and N of the generator.

        x is (N, C, H, W) in [-1, 1], z (N, D) with the top level first.
        """
        with self._evaluating() as chain:
            return self._pairs(chain, scale(images, self.spec.levels, self.dtype))

    def log_ratio(self, images: Tensor, latents: Tensor) -> Tensor:
        """Maps (N, C, H, W) uint8 and latents (N, D), the top first, to (N,) nats: the discriminator's logit.

        It estimates log q(x, z) - log p(x, z).
        """
        with evaluating(self.discriminator) as discriminator:
            logits: Tensor = discriminator(scale(images, self.spec.levels, self.dtype), latents)
        return logits

    @contextmanager
    def _evaluating(self) -> Iterator[Chain]:
        with evaluating(self.chain if self.average is None else self.average) as chain:
            yield chain

    def _in_levels(self, images: Tensor) -> Tensor:
        return (images + 1) * ((self.spec.levels - 1) / 2)


def _side_by_side(levels: list[Tensor]) -> Tensor:
    """Maps latents (N, D_l), the bottom first, to (N, D), the top first."""
    return torch.cat(levels[::-1], dim=1)
