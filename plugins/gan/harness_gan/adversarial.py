"""The game of two players, and the model that is left of it: a generator."""

from __future__ import annotations

import copy
from abc import abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.optim import Adam, Optimizer

from harness import Dataset, DegenerateSamples, ImageSpec, Model, Trainer
from harness_gan.networks import Network, build_discriminator, build_generator
from harness_layers.averaging import update_average
from harness_layers.checks import check_choice, check_positive, check_share
from harness_layers.descent import set_learning_rate
from harness_layers.pixels import quantize, scale
from harness_layers.schedules import SCHEDULES, Schedule

_CHUNK = 500  # images generated at a time


class Adversarial(Model):
    """A generator that is trained against a discriminator: an implicit model.

    A subclass says what its players minimise, and may choose their ``optimizers``.

    Class attributes:
        batch_norm: whether the discriminator may judge the images of a batch together; not where a penalty is defined
            image by image.

    Args:
        spec: the sample space.
        network: ``mlp`` or ``dcgan``, of both players.
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

    batch_norm: ClassVar[bool] = True

    def __init__(self, spec: ImageSpec, *, network: Network, latents: int, width: int,
                 learning_rate: float, betas: tuple[float, float], schedule: Schedule, batch_size: int,
                 critic_steps: int, averaging: float, dropout: float = 0.0) -> None:  # fmt: skip
        super().__init__(spec)
        check_positive(latents=latents, width=width, batch_size=batch_size, critic_steps=critic_steps)
        check_positive(learning_rate=learning_rate)
        check_share(**{"betas[0]": betas[0], "betas[1]": betas[1]}, averaging=averaging, dropout=dropout)
        check_choice(SCHEDULES, schedule=schedule)
        self.latents, self.batch_size, self.critic_steps = latents, batch_size, critic_steps
        self.learning_rate, self.betas, self.schedule, self.averaging = learning_rate, betas, schedule, averaging
        self.generator = build_generator(network, spec, latents=latents, width=width)
        self.discriminator = build_discriminator(
            network, spec, width=width, batch_norm=self.batch_norm, dropout=dropout
        )  # fmt: skip
        self.average = copy.deepcopy(self.generator).requires_grad_(requires_grad=False) if averaging > 0 else None

    @abstractmethod
    def discriminator_objective(self, real: Tensor, fake: Tensor) -> Tensor:
        """Maps the discriminator's outputs, (N,) on real and (M,) on generated images, to what it minimises."""

    @abstractmethod
    def generator_objective(self, fake: Tensor) -> Tensor:
        """Maps the discriminator's outputs (M,) on generated images to what the generator minimises."""

    def penalty(self, real: Tensor, fake: Tensor) -> Tensor:
        """Maps images (N, C, H, W) in [-1, 1] to a further term of the discriminator's loss: none."""
        return torch.zeros((), dtype=self.dtype, device=self.device)

    def draw_latents(self, num_samples: int) -> Tensor:
        """Draws (num_samples, latents) from the standard Gaussian."""
        return torch.randn(num_samples, self.latents, device=self.device, dtype=self.dtype)

    def optimizers(self) -> tuple[Optimizer, Optimizer]:
        """Returns the generator's and the discriminator's; a constraint on weights can be a hook after its step."""
        players = (self.generator, self.discriminator)
        first, second = (Adam(one.parameters(), lr=self.learning_rate, betas=self.betas, fused=True) for one in players)
        return first, second

    def fit(self, data: Dataset, trainer: Trainer) -> None:
        """Plays the game: a batch is one step of the discriminator, every ``critic_steps``-th one of the generator too.

        Logs the discriminator's loss, penalties included, the penalties alone, and the generator's loss.
        """
        generators, discriminators = self.optimizers()
        trainer.track(generator=generators, discriminator=discriminators)
        for batch in trainer.batches(data.train, batch_size=self.batch_size):
            share = SCHEDULES[self.schedule](trainer.fraction)
            set_learning_rate(self.learning_rate * share, generators, discriminators)
            real = scale(_at_least_two(batch.images), self.spec.levels, self.dtype)
            generators_turn = (trainer.step + 1) % self.critic_steps == 0
            with trainer.autocast(), torch.set_grad_enabled(generators_turn):
                fake = self.generator(self.draw_latents(len(real)))
            with trainer.autocast():
                loss, penalty = self.discriminator_loss(real, fake.detach())
            _step(discriminators, loss)
            if generators_turn:
                with trainer.autocast():
                    generator_loss = self.generator_loss(fake)
                _step(generators, generator_loss)
                if self.average is not None:
                    turns = (trainer.step + 1) // self.critic_steps
                    update_average(self.average, self.generator, decay=self.averaging, num_steps=turns)
                trainer.log(loss=loss, penalty=penalty, generator_loss=generator_loss)
            else:
                trainer.log(loss=loss, penalty=penalty)

    def discriminator_loss(self, real: Tensor, fake: Tensor) -> tuple[Tensor, Tensor]:
        """Maps images (N, C, H, W) in [-1, 1] to the discriminator's loss, penalties included, and the penalties."""
        scores = [self.discriminator(images).to(self.dtype) for images in (real, fake)]
        penalty = self.penalty(real, fake.to(self.dtype))
        return self.discriminator_objective(*scores) + penalty, penalty

    def generator_loss(self, fake: Tensor) -> Tensor:
        """Maps generated images (N, C, H, W), with their graph, to the generator's loss."""
        return self.generator_objective(self.discriminator(fake).to(self.dtype))

    @torch.no_grad()
    def sample(self, num_samples: int) -> Tensor:
        """Returns (num_samples, C, H, W) uint8, every generated value at its nearest level.

        Raises:
            DegenerateSamples: the generator's output is NaN.
        """
        images = torch.empty(num_samples, *self.spec.shape, dtype=torch.uint8, device=self.device)
        with _evaluating(self.generator if self.average is None else self.average) as generator:
            for part in torch.split(images, _CHUNK):
                output = generator(self.draw_latents(len(part)))  # (_CHUNK, C, H, W)
                finite = torch.isfinite(output)
                if not bool(finite.all()):
                    value = output[~finite][0].item()
                    raise DegenerateSamples(f"the generator's output is not finite: it holds {value}")
                part.copy_(quantize(output, self.spec.levels))
        return images


def _at_least_two(images: Tensor) -> Tensor:
    """Repeats a last batch of one image: batch norm needs two."""
    return images if len(images) > 1 else images.repeat(2, 1, 1, 1)


def _step(optimizer: Optimizer, loss: Tensor) -> None:
    """Takes a step down the gradient of ``loss`` in this optimizer's parameters; no others get gradients."""
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    optimizer.zero_grad()
    loss.backward(inputs=parameters)  # type: ignore[no-untyped-call]
    optimizer.step()


@contextmanager
def _evaluating(network: nn.Module) -> Iterator[nn.Module]:
    """Puts a network into evaluation mode, and back."""
    training = network.training
    try:
        yield network.eval()
    finally:
        network.train(training)
