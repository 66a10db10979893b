"""InfoGAN: a code that can be read off the image (Chen et al. 2016, arXiv 1606.03657)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, one_hot, softplus

from harness import ImageSpec
from harness_gan.adversarial import Adversarial, Round
from harness_gan.networks import Network, Normalization, Scores, build_generator
from harness_layers.checks import check_at_least
from harness_zoo.outputs import build_heads


class InfoGAN(Adversarial):
    r"""Latents with a structure, noise, a class c and continuous codes u; heads Q of the discriminator tell c and u.

    .. math:: L_I = E[-\lambda_c \log Q(c | G(z, c, u)) + \lambda_u \|u - \mu(G(z, c, u))\|^2 / 2]

    Both players minimise their loss of a GAN and L_I: less it is, but for constants, a lower bound on the mutual
    information of code and image, with Q(u | x) Gaussian of variance 1. c is uniform over ``classes`` values, which
    nobody labels, and u uniform in [-1, 1]. Reference: Chen et al. 2016, arXiv 1606.03657, with 62 numbers of noise,
    10 classes and 2 continuous codes on MNIST; its learning rates are 2e-4 for the discriminator and 1e-3 for the
    generator, and its Q has a hidden layer of 128 units.

    Args:
        spec: any sample space.
        classes: values of c; at least 2.
        continuous: numbers in u; 0 leaves it out.
        class_weight, continuous_weight: lambda_c and lambda_u.
        latents: numbers of noise, beside the code.
        network, normalization, width, learning_rate, batch_size: see ``Adversarial``.
    """

    def __init__(self, spec: ImageSpec, *, classes: int = 10, continuous: int = 2, class_weight: float = 1.0,
                 continuous_weight: float = 1.0, network: Network = "dcgan", normalization: Normalization = "batch",
                 latents: int = 62, width: int = 64, learning_rate: float = 1e-3,
                 batch_size: int = 64) -> None:  # fmt: skip
        check_at_least(2, classes=classes)
        check_at_least(0, continuous=continuous, class_weight=class_weight, continuous_weight=continuous_weight)
        self.classes, self.continuous = classes, continuous  # the networks' sizes follow from them
        super().__init__(
            spec, network=network, normalization=normalization, latents=latents, width=width,
            learning_rate=learning_rate, batch_size=batch_size,
        )  # fmt: skip
        self.class_weight, self.continuous_weight = class_weight, continuous_weight

    def build_generator(self, network: Network, *, width: int) -> nn.Module:
        """Returns a generator of noise and code."""
        return build_generator(
            network, self.spec, latents=self.latents + self.classes + self.continuous, width=width
        )  # fmt: skip

    def build_discriminator(
        self, network: Network, *, width: int, normalization: Normalization, dropout: float
    ) -> Scores:
        """Returns a network whose outputs are the logit of being real, those of the classes, and the means of u."""
        return build_heads(
            network, self.spec, outputs=1 + self.classes + self.continuous, width=width, normalization=normalization,
            dropout=dropout,
        )  # fmt: skip

    def draw_latents(self, num_samples: int) -> Tensor:
        """Draws (num_samples, latents + classes + continuous): z, c as a one-hot vector, and u."""
        named = torch.randint(self.classes, (num_samples,), device=self.device)
        codes = 2 * torch.rand(num_samples, self.continuous, device=self.device, dtype=self.dtype) - 1
        return torch.cat([super().draw_latents(num_samples), one_hot(named, self.classes).to(self.dtype), codes], 1)

    def information_loss(self, outputs: Tensor, latents: Tensor) -> Tensor:
        """Maps outputs (N, 1 + classes + continuous) on generated images and their latents to L_I, in nats."""
        _, logits, means = torch.split(outputs, [1, self.classes, self.continuous], 1)
        _, named, codes = torch.split(latents, [self.latents, self.classes, self.continuous], 1)
        told = cross_entropy(logits, named.argmax(1))
        return self.class_weight * told + self.continuous_weight * (codes - means).square().sum(1).mean() / 2

    def discriminator_loss(self, shown: Round) -> Tensor:
        """Returns the GAN's loss and L_I."""
        real, fake = self.judge(shown.real), self.judge(shown.fake)
        game = softplus(-real[:, 0]).mean() + softplus(fake[:, 0]).mean()
        return game + self.information_loss(fake, shown.latents)

    def generator_loss(self, shown: Round) -> Tensor:
        """Returns the non-saturating loss and L_I."""
        fake = self.judge(shown.fake)
        return softplus(-fake[:, 0]).mean() + self.information_loss(fake, shown.latents)
