"""BS-GAN: a generator that seeks the discriminator's decision boundary (Hjelm et al. 2018)."""

from __future__ import annotations

from torch import Tensor

from harness_gan.objectives import Objective, non_saturating
from harness_gan.scored import Scored


def boundary_seeking(real: Tensor, fake: Tensor) -> Tensor:
    """Maps outputs (M,) on generated images to E[s^2] / 2, with s = log D - log(1 - D); real ones are not looked at."""
    return fake.square().mean() / 2


class BSGAN(Scored):
    r"""The generator makes images of which the discriminator is undecided, D = 1/2, not ones it takes for real.

    .. math:: \min_D E[-\log D(x)] + E[-\log(1 - D(G(z)))], \quad
              \min_G \tfrac12 E[(\log D(G(z)) - \log(1 - D(G(z))))^2]

    At the optimal D the output s is the log of the ratio of densities, which the generator wants to be zero from
    either side. Reference: Hjelm et al. 2018, arXiv 1702.08431, on continuous data.

    Its arguments are those of ``Adversarial``.
    """

    objective = Objective(non_saturating, boundary_seeking)
