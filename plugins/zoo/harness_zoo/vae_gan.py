"""VAE-GAN: a variational autoencoder whose errors are those of a discriminator's features (Larsen et al. 2016)."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

from harness import ImageSpec, Inference, Split
from harness_gan.adversarial import Adversarial, Round, evaluating
from harness_gan.networks import Network, Scores
from harness_layers.checks import check_at_least
from harness_layers.pixels import scale
from harness_layers.posteriors import DiagonalGaussian, standard_noise
from harness_zoo.encoder import apply_aside, build_encoder


@dataclass(frozen=True)
class Inferred(Round):
    """A round of N real images with their reconstructions: ``fake`` holds N images of the prior, then those.

    Attributes:
        latents: (2N, D), the second half of them draws from the posterior, with the encoder's graph.
        posterior: q(z | x) of the real images, mean and log-variance (N, D).
    """

    posterior: DiagonalGaussian = field(kw_only=True)


class VAEGAN(Adversarial, Inference):
    r"""A VAE that compares an image with its reconstruction by a discriminator's features, and a GAN in one.

    .. math:: L_{GAN} = E[-\log D(x)] + E[-\log(1 - D(\hat x))] + E[-\log(1 - D(G(z)))],
              \quad L_{feat} = E[||\phi(x) - \phi(\hat x)||^2] / 2, \quad \hat x = G(z'), z' \sim q(z | x)

    The discriminator D minimises L_GAN, the encoder KL(q(z | x), N(0, I)) + L_feat, and the generator gamma L_feat +
    E[-log D(x^)] + E[-log D(G(z))]; phi is what D's last layer takes. No adversarial gradient reaches the encoder.
    Reference: Larsen, Sonderby, Larochelle & Winther 2016, arXiv 1512.09300. There the generator minimises -L_GAN, and
    a player that is far ahead is stopped; here it minimises what does not vanish when the discriminator wins, as in
    the first GAN.

    Args:
        spec: any sample space; even sides of at least 8 pixels for ``dcgan``.
        gamma: how much the generator minds reconstructions. From 1e-6 to 5e-5 in the authors' code, for features of
            higher dimension; L_feat is a sum over features.
        latents: D, of the encoder as of the generator.
        network, width, learning_rate, batch_size: see ``Adversarial``; the encoder is the discriminator's like, without
            batch norm. The paper has RMSProp.

    Raises:
        ValueError: a hyperparameter out of its range.
        Unsupported: images that the network cannot do.
    """

    discriminator: Scores

    def __init__(self, spec: ImageSpec, *, gamma: float = 0.01, network: Network = "dcgan", latents: int = 16,
                 width: int = 64, learning_rate: float = 1e-3, batch_size: int = 64) -> None:  # fmt: skip
        check_at_least(0, gamma=gamma)
        super().__init__(
            spec, network=network, latents=latents, width=width, learning_rate=learning_rate, batch_size=batch_size
        )  # fmt: skip
        self.gamma = gamma
        self.encoder = build_encoder(network, spec, outputs=2 * latents, width=width)

    def players(self) -> tuple[list[nn.Module], list[nn.Module]]:
        """Returns generator and encoder, each with a loss of its own, and the discriminator."""
        return [self.generator, self.encoder], [self.discriminator]

    def infer(self, images: Tensor) -> DiagonalGaussian:
        """Maps images (N, C, H, W) in [-1, 1] to q(z | x), mean and log-variance (N, D)."""
        return DiagonalGaussian(*self.encoder(images).to(self.dtype).chunk(2, dim=1))

    def show(self, batch: Split) -> Inferred:
        """Makes a round of a batch: as many images of the prior as it holds, and its reconstructions."""
        real = scale(batch.images, self.spec.levels, self.dtype)
        posterior, prior = self.infer(real), self.draw_latents(len(real))
        codes = posterior.at(standard_noise(prior.shape, prior))
        again = apply_aside(self.generator, codes.detach())
        fake = torch.cat([self.generate(self.generator, prior, None), again])
        return Inferred(real, fake, torch.cat([prior, codes]), posterior=posterior)

    def discriminator_loss(self, shown: Round) -> Tensor:
        """Returns L_GAN: both kinds of generated images count as much as the real ones."""
        return softplus(-self.judge(shown.real)).mean() + 2 * softplus(self.judge(shown.fake)).mean()

    def generator_loss(self, shown: Round) -> Tensor:
        """Returns the generator's loss and the encoder's in one: neither has a gradient in the other's weights."""
        assert isinstance(shown, Inferred)
        half = len(shown.real)
        again = apply_aside(self.generator, shown.latents[half:], frozen=True)
        encoder = divergence(shown.posterior).mean() + self.feature_errors(shown.real, again).mean()
        unreal = softplus(-self.judge(shown.fake)).mean()
        return encoder + self.gamma * self.feature_errors(shown.real, shown.fake[half:]).mean() + 2 * unreal

    def feature_errors(self, images: Tensor, others: Tensor) -> Tensor:
        """Maps images (N, C, H, W), twice, to (N,): half the squared distances of their features."""
        errors = self.discriminator.features(images) - self.discriminator.features(others)
        return errors.to(self.dtype).square().sum(1) / 2

    @property
    def latent_sizes(self) -> tuple[int, ...]:
        """One level of latents."""
        return (self.latents,)

    def encode(self, images: Tensor) -> Tensor:
        """Maps (N, C, H, W) uint8 to (N, D): posterior means."""
        return self.infer(scale(images, self.spec.levels, self.dtype)).mean

    def decode(self, latents: Tensor) -> Tensor:
        """Maps (N, D) to (N, C, H, W) float, in levels."""
        with evaluating(self.generator if self.average is None else self.average) as generator:
            return (self.generate(generator, latents, None) + 1) * ((self.spec.levels - 1) / 2)


def divergence(posterior: DiagonalGaussian) -> Tensor:
    """Returns KL(posterior, N(0, I)) of each image, (N,) nats."""
    variances = posterior.log_variance.exp()
    return (variances + posterior.mean.square() - 1 - posterior.log_variance).sum(1) / 2
