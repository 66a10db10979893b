r"""The losses of Wasserstein GANs (Arjovsky, Chintala & Bottou 2017, arXiv 1701.07875).

For a critic of Lipschitz constant at most one, E_data[f(x)] - E_z[f(G(z))] is a lower bound on the Wasserstein-1
distance between the data and the generator (Kantorovich & Rubinstein 1958). How the constant is kept is another matter.
"""

from __future__ import annotations

from torch import Tensor


def critic_loss(real: Tensor, fake: Tensor) -> Tensor:
    """Maps the critic's outputs, (N,) on real and (M,) on generated images, to E[f(G(z))] - E[f(x)]."""
    return fake.mean() - real.mean()


def generator_loss(fake: Tensor) -> Tensor:
    """Maps the critic's outputs on generated images, (M,), to -E[f(G(z))]."""
    return -fake.mean()
