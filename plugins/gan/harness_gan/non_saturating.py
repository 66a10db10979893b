r"""The non-saturating loss (Goodfellow et al. 2014, arXiv 1406.2661), from logits.

With s = log D - log(1 - D) the discriminator's logit, -log D = softplus(-s) and -log(1 - D) = softplus(s).
"""

from __future__ import annotations

from torch import Tensor
from torch.nn.functional import softplus


def discriminator_loss(real: Tensor, fake: Tensor) -> Tensor:
    r"""Returns E_data[-log D(x)] + E_z[-log(1 - D(G(z)))], in nats.

    At the optimal discriminator p / (p + q) it is 2 log 2 - 2 JSD(p, q), with the halves in
    JSD(p, q) = KL(p, m) / 2 + KL(q, m) / 2, m = (p + q) / 2, which is at most log 2.

    Args:
        real: (N,) logits of real images.
        fake: (M,) logits of generated images.
    """
    return softplus(-real).mean() + softplus(fake).mean()


def generator_loss(fake: Tensor) -> Tensor:
    r"""Maps (M,) logits to E_z[-log D(G(z))], in nats.

    Its gradient in a logit s is -sigmoid(-s) / M: it does not vanish where the discriminator is sure that an image is
    generated, unlike that of the minimax game's log(1 - D(G(z))).
    """
    return softplus(-fake).mean()
