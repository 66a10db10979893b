"""The projection discriminator (Miyato & Koyama 2018, arXiv 1802.05637)."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from harness import ImageSpec
from harness_gan.gan import GAN
from harness_gan.networks import Network, Normalization, Scores, build_discriminator
from harness_zoo.conditional import Conditional, needed, num_classes


class Projection(nn.Module):
    """Maps images (N, C, H, W) and labels (N,) to v_y . phi(x) + psi(phi(x)), (N,)."""

    def __init__(self, scores: Scores, classes: int, *, spectral: bool) -> None:
        super().__init__()
        self.scores, self.classes = scores, nn.Embedding(classes, scores.num_features)
        nn.init.xavier_uniform_(self.classes.weight)
        if spectral:
            spectral_norm(self.classes)

    def forward(self, images: Tensor, labels: Tensor) -> Tensor:
        """Returns the outputs."""
        features = self.scores.features(images)  # (N, F)
        projected: Tensor = (self.classes(labels) * features).sum(1)
        return projected + self.scores.score(features)


class ProjectionGAN(Conditional, GAN):
    r"""A discriminator that is told the class through an inner product with the features phi of the image.

    .. math:: f(x, y) = v_y^T \phi(x) + \psi(\phi(x))

    It is the form of log p(y | x) / q(y | x) + log p(x) / q(x), where both p(y | x) and q(y | x) are log-linear in phi.
    Reference: Miyato & Koyama 2018, arXiv 1802.05637, with the hinge objective, spectral norm, and 5 steps of the
    discriminator for each of the generator. There the features are sums over the last maps, here their entries; there
    the generator is told the class by its batch norm, here by its input.

    Args:
        spec: a sample space with classes.
        objective: see ``GAN``.
        normalization: of the discriminator, the vectors v_y with it.
        network, latents, width, learning_rate, betas, batch_size, critic_steps: see ``Adversarial``.
    """

    def __init__(self, spec: ImageSpec, *, objective: str = "hinge", network: Network = "dcgan",
                 normalization: Normalization = "spectral", latents: int = 64, width: int = 64,
                 learning_rate: float = 1e-3, betas: tuple[float, float] = (0.5, 0.999), batch_size: int = 64,
                 critic_steps: int = 2) -> None:  # fmt: skip
        super().__init__(
            spec, objective=objective, network=network, normalization=normalization, latents=latents, width=width,
            learning_rate=learning_rate, betas=betas, batch_size=batch_size, critic_steps=critic_steps, dropout=0.0,
        )  # fmt: skip

    def build_discriminator(
        self, network: Network, *, width: int, normalization: Normalization, dropout: float
    ) -> Projection:
        """Returns the discriminator of images with labels."""
        scores = build_discriminator(network, self.spec, width=width, normalization=normalization, dropout=dropout)
        return Projection(scores, num_classes(self.spec), spectral=normalization == "spectral")

    def judge(self, images: Tensor, labels: Tensor | None = None) -> Tensor:
        """Maps images (N, C, H, W) in [-1, 1] and their labels (N,) to (N,)."""
        outputs: Tensor = self.discriminator(images, needed(labels))
        return outputs.to(self.dtype)
