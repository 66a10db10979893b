"""Unrolled GAN: a generator that looks some steps of the discriminator ahead (Metz et al. 2017)."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.func import functional_call

from harness import ImageSpec
from harness_gan.adversarial import Adversarial, Round
from harness_gan.networks import Network, Normalization
from harness_gan.objectives import non_saturating
from harness_layers.checks import check_at_least, check_positive


class UnrolledGAN(Adversarial):
    r"""A generator that plays against the discriminator that its images would lead to.

    .. math:: \theta^{i+1} = \theta^i - \eta \nabla_\theta L(\theta^i, G), \quad \theta^0 = \theta_D, \quad
              \min_G -L(\theta^k, G)

    L is the discriminator's loss, of real and generated images. The gradient goes through all k steps, so the
    generator pays for what the discriminator would learn from its images; real images matter to it for that reason.
    Only the discriminator's own step changes its weights. The steps looked ahead are those of gradient descent, as the
    paper's equations have it; its experiments looked ahead by Adam. Reference: Metz et al. 2017, arXiv 1611.02163.

    Args:
        spec: any sample space; even sides of at least 8 pixels for ``dcgan``.
        unrolled_steps: k; 5 and 10 in the paper's first experiments. 0 is a saturating GAN.
        unrolled_rate: eta.
        network, normalization, latents, width, learning_rate, batch_size: see ``Adversarial``.

    Raises:
        ValueError: a hyperparameter out of its range.
        Unsupported: images that the network cannot do.
    """

    def __init__(self, spec: ImageSpec, *, unrolled_steps: int = 5, unrolled_rate: float = 0.1,
                 network: Network = "dcgan", normalization: Normalization = "batch", latents: int = 64,
                 width: int = 64, learning_rate: float = 1e-3, batch_size: int = 64) -> None:  # fmt: skip
        check_at_least(0, unrolled_steps=unrolled_steps)
        check_positive(unrolled_rate=unrolled_rate)
        super().__init__(
            spec, network=network, normalization=normalization, latents=latents, width=width,
            learning_rate=learning_rate, batch_size=batch_size,
        )  # fmt: skip
        self.unrolled_steps, self.unrolled_rate = unrolled_steps, unrolled_rate

    def discriminator_loss(self, shown: Round) -> Tensor:
        """Returns the discriminator's cross-entropy."""
        return self._loss(self._weights(), shown)

    def generator_loss(self, shown: Round) -> Tensor:
        """Returns less the discriminator's loss after ``unrolled_steps`` of its steps on this round."""
        weights = self._weights()
        for _ in range(self.unrolled_steps):
            slopes = torch.autograd.grad(self._loss(weights, shown), list(weights.values()), create_graph=True)
            weights = {
                name: weight - self.unrolled_rate * slope
                for (name, weight), slope in zip(weights.items(), slopes, strict=True)
            }
        return -self._loss(weights, shown)

    def _weights(self) -> dict[str, Tensor]:
        return dict(self.discriminator.named_parameters())

    def _loss(self, weights: dict[str, Tensor], shown: Round) -> Tensor:
        real: Tensor = functional_call(self.discriminator, weights, (shown.real,))
        fake: Tensor = functional_call(self.discriminator, weights, (shown.fake,))
        return non_saturating(real.to(self.dtype), fake.to(self.dtype))
