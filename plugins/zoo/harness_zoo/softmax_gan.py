"""Softmax GAN: one softmax over all images of a batch (Lin 2017, arXiv 1704.06191)."""

from __future__ import annotations

import torch
from torch import Tensor

from harness_gan.objectives import Objective
from harness_gan.scored import Scored


def discriminator(real: Tensor, fake: Tensor) -> Tensor:
    """Maps outputs, (N,) on real and (M,) on generated images, to the cross-entropy with u_real, in nats."""
    return torch.cat([real, fake]).logsumexp(0) - real.mean()


def generator(real: Tensor, fake: Tensor) -> Tensor:
    """Maps the same to the cross-entropy with u_all, in nats."""
    scores = torch.cat([real, fake])
    return scores.logsumexp(0) - scores.mean()


class SoftmaxGAN(Scored):
    r"""The discriminator's outputs are the logits of a softmax over the batch, real and generated images together.

    .. math:: \min_D H(u_{real}, p), \quad \min_G H(u_{all}, p), \quad p_i = e^{s_i} / \sum_j e^{s_j}

    u_real is uniform over the real images of the batch and u_all over all of them; H(u, p) = -sum_i u_i log p_i. The
    discriminator wants all of the mass on real images, the generator the same share on each. Reference: Lin 2017, arXiv
    1704.06191.

    Its arguments are those of ``Adversarial``.
    """

    objective = Objective(discriminator, generator, compares=True)
