"""EBGAN: an autoencoder as the discriminator, with a margin (Zhao, Mathieu & LeCun 2017, arXiv 1609.03126)."""

from __future__ import annotations

from torch import Tensor
from torch.nn.functional import normalize

from harness import ImageSpec
from harness_gan.adversarial import Round
from harness_gan.networks import Network
from harness_layers.checks import check_at_least, check_positive
from harness_zoo.autoencoder import EnergyBased


def discriminator(real: Tensor, fake: Tensor, *, margin: float | Tensor) -> Tensor:
    """Maps energies (N,) of real and (M,) of generated images to E[e(x)] + E[(m - e(G(z)))_+].

    Each generated image has a hinge of its own: it is left alone once it is above the margin, whatever the others do.
    """
    return real.mean() + (margin - fake).relu().mean()


def pulling_away(codes: Tensor) -> Tensor:
    """Maps codes (N, K), N at least 2, to the mean over pairs i != j of cos^2(code_i, code_j), in [0, 1]."""
    units = normalize(codes, dim=1)
    squares = (units @ units.T).square()
    return (squares.sum() - squares.diagonal().sum()) / (len(codes) * (len(codes) - 1))


class EBGAN(EnergyBased):
    r"""The discriminator is an autoencoder A: data get low energies, generated images energies up to a margin m.

    .. math:: \min_D E_{data}[e(x)] + E_z[(m - e(G(z)))_+], \quad \min_G E_z[e(G(z))] + \lambda PT,
              \quad e(x) = ||x - A(x)||^2 / (C H W)

    The pulling-away term PT, the mean squared cosine between the codes of different generated images, keeps them from
    being all alike. Reference: Zhao, Mathieu & LeCun 2017, arXiv 1609.03126.

    Args:
        spec: any sample space; even sides of at least 8 pixels for ``dcgan``.
        margin: m, an energy. Where no image reaches it, the discriminator is pushed forever: a mean squared error of
            pixels in [-1, 1] seldom exceeds 1. The paper's margins, from 1 to 80, go with other scales of the energy.
        pulling_away: lambda; 0.1 in the paper, and 0 for its EBGAN without the term.
        latents: also the number of the autoencoder's codes.
        network, width, learning_rate, batch_size: see ``Adversarial``; the learning rate is the paper's.

    Raises:
        ValueError: a hyperparameter out of its range.
        Unsupported: images that the network cannot do.
    """

    def __init__(self, spec: ImageSpec, *, margin: float = 0.1, pulling_away: float = 0.1, network: Network = "dcgan",
                 latents: int = 16, width: int = 64, learning_rate: float = 1e-3,
                 batch_size: int = 64) -> None:  # fmt: skip
        check_positive(margin=margin)
        check_at_least(0, pulling_away=pulling_away)
        super().__init__(
            spec, network=network, latents=latents, width=width, learning_rate=learning_rate, batch_size=batch_size
        )  # fmt: skip
        self.margin, self.pulling_away = margin, pulling_away

    def discriminator_loss(self, shown: Round) -> Tensor:
        """Returns energies of data, and what generated images lack to the margin."""
        return discriminator(self.judge(shown.real), self.judge(shown.fake), margin=self.margin)

    def generator_loss(self, shown: Round) -> Tensor:
        """Returns the energies of generated images, and how alike their codes are."""
        loss = self.judge(shown.fake).mean()
        if self.pulling_away > 0:
            loss = loss + self.pulling_away * pulling_away(self.discriminator.codes(shown.fake).to(self.dtype))
        return loss
