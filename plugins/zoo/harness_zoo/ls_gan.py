"""LS-GAN: a loss of realness that ranks real above generated images by a margin (Qi 2017, arXiv 1701.06264)."""

from __future__ import annotations

from torch import Tensor

from harness import ImageSpec
from harness_gan.adversarial import Adversarial, Round
from harness_gan.networks import Network
from harness_layers.checks import check_at_least


def discriminator(real: Tensor, fake: Tensor, distances: Tensor) -> Tensor:
    """Maps losses of N real and N generated images, and their distances, (N,) each, to E[(d + l(x) - l(G(z)))_+]."""
    return (distances + real - fake).relu().mean()


class LSGAN(Adversarial):
    r"""The loss-sensitive GAN: l is low on real images, by a margin that grows with how far a generated one is off.

    .. math:: \min_l E[(\lambda ||x - G(z)||_1 + l(x) - l(G(z)))_+], \quad \min_G E[l(G(z))]

    The pairs (x, G(z)) are those of one batch; a generated image that is near its real one is left alone. Reference: Qi
    2017, arXiv 1701.06264. It is not the least-squares GAN (1611.04076), ``gan`` with that ``objective``, for which the
    name is used as often.

    Args:
        spec: any sample space; even sides of at least 8 pixels for ``dcgan``.
        margin: lambda, for each unit of the sum over an image's entries in [-1, 1] of |x - G(z)|. In the authors' code
            2e-4 for images of 12,288 entries; 0.02 asks the same on average of images of 100 to 200.
        network, latents, width, learning_rate, batch_size: see ``Adversarial``. The paper keeps l Lipschitz by weight
            decay, up to 5e-5; there is none here.

    Raises:
        ValueError: a hyperparameter out of its range.
        Unsupported: images that the network cannot do.
    """

    def __init__(self, spec: ImageSpec, *, margin: float = 0.02, network: Network = "dcgan", latents: int = 64,
                 width: int = 64, learning_rate: float = 1e-3, batch_size: int = 64) -> None:  # fmt: skip
        check_at_least(0, margin=margin)
        super().__init__(
            spec, network=network, latents=latents, width=width, learning_rate=learning_rate, batch_size=batch_size
        )  # fmt: skip
        self.margin = margin

    def discriminator_loss(self, shown: Round) -> Tensor:
        """Returns what real images lack to being better than the generated ones beside them."""
        distances = (shown.real - shown.fake).abs().flatten(1).sum(1)
        return discriminator(self.judge(shown.real), self.judge(shown.fake), self.margin * distances)

    def generator_loss(self, shown: Round) -> Tensor:
        """Returns E[l(G(z))]."""
        return self.judge(shown.fake).mean()
