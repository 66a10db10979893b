"""ALI: adversarially learned inference, with a Gaussian encoder (Dumoulin et al. 2017)."""

from __future__ import annotations

from typing import ClassVar

from harness import ImageSpec
from harness_ali.joint_game import JointGame
from harness_ali.networks import Network
from harness_layers.schedules import Schedule


class ALI(JointGame):
    r"""A generator G and an encoder q(z | x) = N(mu(x), sigma^2(x)) against a discriminator of pairs (x, z).

    .. math:: \min_D E_q[-\log D(x, z)] + E_p[-\log(1 - D(G(z), z))], \quad z \sim N(0, I) \text{ under } p

    Encoder and generator minimise the same with both labels flipped. Reference: Dumoulin et al. 2017, arXiv 1606.00704,
    whose generator of images is deterministic too. Identical to BiGAN but for the encoder's noise.

    Args:
        spec: any sample space; even sides of at least 8 pixels for ``dcgan``.
        latents: independent standard Gaussians that an image is made from.
        network, width, learning_rate, betas, schedule, batch_size, averaging, dropout, penalty: see ``JointGame``.

    Raises:
        ValueError: a hyperparameter out of its range.
        Unsupported: images that the network cannot do.
    """

    default_budget: ClassVar[str] = "50 epochs"

    def __init__(self, spec: ImageSpec, *, network: Network = "dcgan", latents: int = 64, width: int = 64,
                 learning_rate: float = 1e-3, betas: tuple[float, float] = (0.5, 0.999), schedule: Schedule = "linear",
                 batch_size: int = 100, averaging: float = 0.99, dropout: float = 0.0,
                 penalty: float = 1.0) -> None:  # fmt: skip
        super().__init__(
            spec, network=network, latents=(latents,), width=width, learning_rate=learning_rate, betas=betas,
            schedule=schedule, batch_size=batch_size, averaging=averaging, dropout=dropout,
            penalty=penalty,
        )  # fmt: skip
