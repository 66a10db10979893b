"""Hierarchical ALI: levels of latents, judged with the image by one discriminator (Belghazi et al. 2018)."""

from __future__ import annotations

from typing import ClassVar

from harness import ImageSpec
from harness_ali.joint_game import JointGame
from harness_ali.networks import Network
from harness_layers.schedules import Schedule


class HierarchicalALI(JointGame):
    r"""ALI with levels z_1, ..., z_L of Gaussian latents between the image and the prior of the top one.

    .. math:: q(x) q(z_1 | x) q(z_2 | z_1) \quad\text{against}\quad p(z_2) p(z_1 | z_2) p(x | z_1)

    What is reconstructed from z_1 is close to the image; what is reconstructed from the top keeps less of it, see
    ``reconstruct``. Reference: Belghazi et al. 2018, arXiv 1802.01071.

    Args:
        spec: any sample space; even sides of at least 8 pixels for ``dcgan``.
        latents: units of each level, the bottom first.
        network, width, learning_rate, betas, schedule, batch_size, averaging, dropout, penalty: see ``JointGame``.

    Raises:
        ValueError: a hyperparameter out of its range.
        Unsupported: images that the network cannot do.
    """

    default_budget: ClassVar[str] = "50 epochs"

    def __init__(self, spec: ImageSpec, *, network: Network = "dcgan", latents: tuple[int, ...] = (64, 32),
                 width: int = 64, learning_rate: float = 1e-3, betas: tuple[float, float] = (0.5, 0.999),
                 schedule: Schedule = "linear", batch_size: int = 100, averaging: float = 0.99,
                 dropout: float = 0.0, penalty: float = 1.0) -> None:  # fmt: skip
        super().__init__(
            spec, network=network, latents=latents, width=width, learning_rate=learning_rate, betas=betas,
            schedule=schedule, batch_size=batch_size, averaging=averaging, dropout=dropout,
            penalty=penalty,
        )  # fmt: skip
