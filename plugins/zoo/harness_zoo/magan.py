"""MAGAN: an autoencoder as the discriminator, with a margin that adapts (Wang et al. 2017, arXiv 1704.03817)."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from harness import Dataset, ImageSpec, Trainer
from harness_gan.adversarial import Round, take_step
from harness_gan.networks import Network
from harness_layers.checks import check_share
from harness_layers.pixels import scale
from harness_zoo.autoencoder import EnergyBased
from harness_zoo.ebgan import discriminator


class MAGAN(EnergyBased):
    r"""EBGAN's game, in which the margin m falls to the energy of the data once the discriminator has done its work.

    .. math:: \min_D E[e(x)] + E[(m - e(G(z)))_+], \quad \min_G E[e(G(z))], \quad e(x) = ||x - A(x)||^2 / (C H W)

    At first the autoencoder A is trained alone, and m is its mean energy of the training images. After each epoch, with
    X and Z the mean energies of real and generated images in it, m becomes X if X < m, X < Z, and Z is above that of
    the epoch before: the generator does not gain ground. m never grows. Reference: Wang, Cully, Chang & Demiris 2017,
    arXiv 1704.03817; the rule as in github.com/wiseodd/generative-models, but with a hinge for each image.

    Args:
        spec: any sample space; even sides of at least 8 pixels for ``dcgan``.
        pretraining: the share of the budget that the autoencoder is trained alone; two epochs of far more images in the
            paper. With too little of it the margin is so large that the generator collapses.
        latents: also the number of the autoencoder's codes.
        network, width, learning_rate, batch_size: see ``Adversarial``. The paper has Adamax, 5e-4, in place of Adam.

    Raises:
        ValueError: a hyperparameter out of its range.
        Unsupported: images that the network cannot do.
    """

    margin: Tensor  # m, ()
    sums: Tensor  # (3,): of energies of real and of generated images since the epoch began, and of images
    before: Tensor  # (): Z of the epoch before

    def __init__(self, spec: ImageSpec, *, pretraining: float = 0.2, network: Network = "dcgan", latents: int = 16,
                 width: int = 64, learning_rate: float = 1e-3, batch_size: int = 64) -> None:  # fmt: skip
        check_share(pretraining=pretraining)
        super().__init__(
            spec, network=network, latents=latents, width=width, learning_rate=learning_rate, batch_size=batch_size
        )  # fmt: skip
        self.pretraining = pretraining
        self.images_an_epoch = 0  # a whole epoch has shown that many; set by ``fit``
        self.register_buffer("margin", torch.zeros(()))
        self.register_buffer("sums", torch.zeros(3))
        self.register_buffer("before", torch.tensor(math.inf))

    def fit(self, data: Dataset, trainer: Trainer) -> None:
        """Trains the autoencoder alone, sets the margin, and plays the game."""
        _, optimizer = self.optimizers()
        trainer.track(discriminator=optimizer)
        for batch in trainer.batches(data.train, batch_size=self.batch_size, until=self.pretraining):
            with trainer.autocast():
                loss = self.judge(scale(batch.images, self.spec.levels, self.dtype)).mean()
            take_step(optimizer, loss)
            trainer.log(loss=loss)
        self.margin.copy_(self.mean_energy(data))
        self.images_an_epoch = len(data.train)
        super().fit(data, trainer)

    @torch.no_grad()
    def mean_energy(self, data: Dataset, chunk: int = 500) -> Tensor:
        """Returns the mean energy of the training images, ()."""
        parts = torch.split(data.train.draw(0).images, chunk)
        energies = [self.judge(scale(part.to(self.device), self.spec.levels, self.dtype)) for part in parts]
        return torch.cat(energies).mean()

    def discriminator_loss(self, shown: Round) -> Tensor:
        """Returns energies of data, and what generated images lack to the margin."""
        return discriminator(self.judge(shown.real), self.judge(shown.fake), margin=self.margin)

    def generator_loss(self, shown: Round) -> Tensor:
        """Returns E[e(G(z))]."""
        return self.judge(shown.fake).mean()

    def after_discriminator(self, shown: Round) -> None:
        """Counts energies; at the end of an epoch the margin moves by the rule."""
        real, fake = self.judge(shown.real), self.judge(shown.fake)
        self.sums += torch.stack([real.sum(), fake.sum(), torch.full_like(real[0], len(real))])
        if self.sums[2] >= self.images_an_epoch:
            self.adapt(self.sums[0] / self.sums[2], self.sums[1] / self.sums[2])
            self.sums.zero_()

    def adapt(self, real: Tensor, fake: Tensor) -> None:
        """Takes an epoch's mean energies of real and generated images, () each, and moves the margin by the rule."""
        if real < self.margin and real < fake and self.before < fake:
            self.margin.copy_(real)
        self.before.copy_(fake)
