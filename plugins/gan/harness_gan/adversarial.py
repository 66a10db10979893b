"""The game of two players, and the model that is left of it: a generator."""

from __future__ import annotations

import copy
from abc import abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Self, TypeVar

import torch
from torch import Tensor, nn
from torch.optim import Adam, Optimizer

from harness import Dataset, DegenerateSamples, ImageSpec, Model, Split, Trainer
from harness_gan.networks import Network, build_discriminator, build_generator
from harness_gan.scores import Normalization
from harness_layers.averaging import update_average
from harness_layers.checks import check_choice, check_positive, check_share
from harness_layers.descent import set_learning_rate
from harness_layers.pixels import quantize, scale
from harness_layers.schedules import SCHEDULES, Schedule

_CHUNK = 500  # images generated at a time
_Network = TypeVar("_Network", bound=nn.Module)


@dataclass(frozen=True)
class Round:
    """What the players are shown in one step.

    Attributes:
        real: (N, C, H, W) images of the data in [-1, 1].
        fake: (N, C, H, W), what the generator made.
        latents: (N, D), what it made them from.
        labels: (N,) int64 classes of the real images, which the generator may be told; None without labels.
    """

    real: Tensor
    fake: Tensor
    latents: Tensor
    labels: Tensor | None = None

    def detached(self) -> Self:
        """Returns the round without the generator's graph."""
        return replace(self, fake=self.fake.detach())


class Adversarial(Model):
    """A generator that is trained against a discriminator: an implicit model.

    A subclass says what its players minimise, ``discriminator_loss`` and ``generator_loss``; ``Scored`` does it for
    those that look at the discriminator's outputs alone. It may build other networks (``build_generator``,
    ``build_discriminator``), have more of them (``players``), and keep a state in a buffer (``after_discriminator``).

    Args:
        spec: the sample space.
        network: of both players, see ``harness_gan.networks``.
        normalization: of the discriminator's hidden layers, as far as the network has any.
        latents: independent standard Gaussians that an image is made from.
        width: the width of the networks, see ``build_generator``.
        learning_rate, betas: of Adam, for both players.
        schedule: how the learning rate falls with the budget: ``linear``, ``cosine``, ``stages`` or ``constant``.
        batch_size: real images in each step of the discriminator, and as many generated ones.
        critic_steps: steps of the discriminator for each step of the generator.
        averaging: the decay of the average of the generator's weights that is sampled from (Yazici et al. 2019, arXiv
            1806.04498); 0 samples from the generator itself.
        dropout: the share of an ``mlp`` discriminator's hidden units that is dropped in training.

    Raises:
        ValueError: a hyperparameter out of its range.
        Unsupported: images that the network cannot do.
    """

    default_budget = "50 epochs"

    def __init__(self, spec: ImageSpec, *, network: Network = "dcgan", normalization: Normalization = "batch",
                 latents: int = 64, width: int = 64, learning_rate: float = 1e-3,
                 betas: tuple[float, float] = (0.5, 0.999), schedule: Schedule = "linear", batch_size: int = 64,
                 critic_steps: int = 1, averaging: float = 0.99, dropout: float = 0.0) -> None:  # fmt: skip
        super().__init__(spec)
        check_positive(latents=latents, width=width, batch_size=batch_size, critic_steps=critic_steps)
        check_positive(learning_rate=learning_rate)
        check_share(**{"betas[0]": betas[0], "betas[1]": betas[1]}, averaging=averaging, dropout=dropout)
        check_choice(SCHEDULES, schedule=schedule)
        self.latents, self.batch_size, self.critic_steps = latents, batch_size, critic_steps
        self.learning_rate, self.betas, self.schedule, self.averaging = learning_rate, betas, schedule, averaging
        self.generator = self.build_generator(network, width=width)
        self.discriminator = self.build_discriminator(
            network, width=width, normalization=normalization, dropout=dropout
        )  # fmt: skip
        self.average = copy.deepcopy(self.generator).requires_grad_(requires_grad=False) if averaging > 0 else None

    def build_generator(self, network: Network, *, width: int) -> nn.Module:
        """Returns the generator: what ``generate`` calls."""
        return build_generator(network, self.spec, latents=self.latents, width=width)

    def build_discriminator(
        self, network: Network, *, width: int, normalization: Normalization, dropout: float
    ) -> nn.Module:
        """Returns the discriminator: what ``judge`` calls."""
        return build_discriminator(network, self.spec, width=width, normalization=normalization, dropout=dropout)

    def players(self) -> tuple[list[nn.Module], list[nn.Module]]:
        """Returns the networks that the generator's step moves, and those that the discriminator's step moves."""
        return [self.generator], [self.discriminator]

    def optimizers(self) -> tuple[Optimizer, Optimizer]:
        """Returns the generator's and the discriminator's; each learning rate falls by the same schedule."""
        first, second = (
            Adam(nn.ModuleList(side).parameters(), lr=self.learning_rate, betas=self.betas, fused=True)
            for side in self.players()
        )
        return first, second

    def draw_latents(self, num_samples: int) -> Tensor:
        """Draws (num_samples, latents) from the standard Gaussian."""
        return torch.randn(num_samples, self.latents, device=self.device, dtype=self.dtype)

    def generate(self, generator: nn.Module, latents: Tensor, labels: Tensor | None) -> Tensor:
        """Maps latents (N, D), and labels (N,) where there are some, to images (N, C, H, W) in [-1, 1].

        ``generator`` is the network, or the average of its weights.
        """
        images: Tensor = generator(latents)
        return images

    def judge(self, images: Tensor, labels: Tensor | None = None) -> Tensor:
        """Maps images (N, C, H, W) in [-1, 1], and labels (N,), to the discriminator's outputs (N,)."""
        outputs: Tensor = self.discriminator(images)
        return outputs.to(self.dtype)

    @abstractmethod
    def discriminator_loss(self, shown: Round) -> Tensor:
        """Returns what the discriminator minimises, without penalties; the generated images have no graph."""

    @abstractmethod
    def generator_loss(self, shown: Round) -> Tensor:
        """Returns what the generator minimises; the generated images have their graph."""

    def penalty(self, shown: Round) -> Tensor:
        """Returns a further term of the discriminator's loss, (): none."""
        return torch.zeros((), dtype=self.dtype, device=self.device)

    def after_discriminator(self, shown: Round) -> None:
        """Is called after each step of the discriminator, to clip its weights or to move a state kept in a buffer."""

    def fit(self, data: Dataset, trainer: Trainer) -> None:
        """Plays the game: a batch is one step of the discriminator, every ``critic_steps``-th one of the generator too.

        Logs the discriminator's loss, penalties included, the penalties alone, and the generator's loss.
        """
        generators, discriminators = self.optimizers()
        rates = [one.param_groups[0]["lr"] for one in (generators, discriminators)]
        trainer.track(generator=generators, discriminator=discriminators)
        for batch in trainer.batches(data.train, batch_size=self.batch_size):
            share = SCHEDULES[self.schedule](trainer.fraction)
            for rate, one in zip(rates, (generators, discriminators), strict=True):
                set_learning_rate(rate * share, one)
            generators_turn = (trainer.step + 1) % self.critic_steps == 0
            with trainer.autocast(), torch.set_grad_enabled(generators_turn):
                shown = self.show(_at_least_two(batch))
            with trainer.autocast():
                seen = shown.detached()
                loss, penalty = self.discriminator_loss(seen), self.penalty(seen)
                loss = loss + penalty
            take_step(discriminators, loss)
            with torch.no_grad():
                self.after_discriminator(seen)
            if generators_turn:
                with trainer.autocast():
                    generator_loss = self.generator_loss(shown)
                take_step(generators, generator_loss)
                if self.average is not None:
                    turns = (trainer.step + 1) // self.critic_steps
                    update_average(self.average, self.generator, decay=self.averaging, num_steps=turns)
                trainer.log(loss=loss, penalty=penalty, generator_loss=generator_loss)
            else:
                trainer.log(loss=loss, penalty=penalty)

    def show(self, batch: Split) -> Round:
        """Makes a round of a batch: as many images as it holds are generated, of the same classes."""
        real = scale(batch.images, self.spec.levels, self.dtype)
        latents = self.draw_latents(len(real))
        return Round(real, self.generate(self.generator, latents, batch.labels), latents, batch.labels)

    @torch.no_grad()
    def sample(self, num_samples: int) -> Tensor:
        """Returns (num_samples, C, H, W) uint8, every generated value at its nearest level.

        Raises:
            DegenerateSamples: the generator's output is NaN.
        """
        return self.sample_of(self.draw_labels(num_samples), num_samples)

    def draw_labels(self, num_samples: int) -> Tensor | None:
        """Draws the classes (num_samples,) int64 of samples; None where the generator is not told any."""
        return None

    @torch.no_grad()
    def sample_of(self, labels: Tensor | None, num_samples: int) -> Tensor:
        """Returns (num_samples, C, H, W) uint8 of these classes; else as ``sample``."""
        images = torch.empty(num_samples, *self.spec.shape, dtype=torch.uint8, device=self.device)
        with evaluating(self.generator if self.average is None else self.average) as generator:
            for start in range(0, num_samples, _CHUNK):
                part = images[start : start + _CHUNK]
                named = None if labels is None else labels[start : start + _CHUNK]
                output = self.generate(generator, self.draw_latents(len(part)), named)  # (_CHUNK, C, H, W)
                finite = torch.isfinite(output)
                if not bool(finite.all()):
                    value = output[~finite][0].item()
                    raise DegenerateSamples(f"the generator's output is not finite: it holds {value}")
                part.copy_(quantize(output, self.spec.levels))
        return images


def _at_least_two(batch: Split) -> Split:
    """Repeats a last batch of one image: batch norm needs two."""
    if len(batch) > 1:
        return batch
    labels = None if batch.labels is None else batch.labels.repeat(2)
    return replace(batch, images=batch.images.repeat(2, 1, 1, 1), labels=labels)


def take_step(optimizer: Optimizer, loss: Tensor) -> None:
    """Takes a step down the gradient of ``loss`` in this optimizer's parameters; no others get gradients."""
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    optimizer.zero_grad()
    loss.backward(inputs=parameters)  # type: ignore[no-untyped-call]
    optimizer.step()


@contextmanager
def evaluating(network: _Network) -> Iterator[_Network]:
    """Puts a network into evaluation mode, and back."""
    training = network.training
    try:
        network.eval()
        yield network
    finally:
        network.train(training)
