r"""What the two players minimise, as functions of the discriminator's outputs on real and on generated images.

Outputs are logits s, log D - log(1 - D), for the objectives of probabilities, and any numbers for the others.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import log
from types import MappingProxyType

from torch import Tensor
from torch.nn.functional import softplus

_LARGEST = 10.0  # where e^v of f-GAN is cut off: its slope beyond is none, and a step cannot overflow


@dataclass(frozen=True)
class Objective:
    """A game.

    Attributes:
        discriminator: maps outputs, (N,) on real and (M,) on generated images, to what the discriminator minimises.
        generator: maps the same to what the generator minimises.
        compares: whether ``generator`` looks at the real outputs; if not, it may be given none.
    """

    discriminator: Callable[[Tensor, Tensor], Tensor]
    generator: Callable[[Tensor, Tensor], Tensor]
    compares: bool = False


def non_saturating(real: Tensor, fake: Tensor) -> Tensor:
    """E[-log D(x)] + E[-log(1 - D(G(z)))], in nats; at the optimal D it is 2 log 2 - 2 JSD (arXiv 1406.2661)."""
    return softplus(-real).mean() + softplus(fake).mean()


def least_squares(real: Tensor, fake: Tensor) -> Tensor:
    """E[(s(x) - 1)^2] / 2 + E[s(G(z))^2] / 2: targets 0 and 1 of a linear output (Mao et al. 2017, 1611.04076)."""
    return (real - 1).square().mean() / 2 + fake.square().mean() / 2


def wasserstein(real: Tensor, fake: Tensor) -> Tensor:
    """E[f(G(z))] - E[f(x)]: less it is at least -W_1 for a Lipschitz f (Arjovsky et al. 2017, arXiv 1701.07875)."""
    return fake.mean() - real.mean()


def hinge(real: Tensor, fake: Tensor) -> Tensor:
    """E[(1 - s(x))_+] + E[(1 + s(G(z)))_+] (Lim & Ye 2017, arXiv 1705.02894)."""
    return (1 - real).relu().mean() + (1 + fake).relu().mean()


def _relativistic(real: Tensor, fake: Tensor) -> Tensor:
    return softplus(fake - real).mean()


def _relativistic_average(real: Tensor, fake: Tensor) -> Tensor:
    return softplus(fake.mean() - real).mean() + softplus(fake - real.mean()).mean()


@dataclass(frozen=True)
class _Divergence:
    """An f-divergence's output activation T(v) and f*(T(v)) of an output v (Nowozin et al. 2016, arXiv 1606.00709).

    -E[T(v(x))] + E[f*(T(v(G(z))))] is what the discriminator minimises, and less it is a lower bound on the
    divergence D_f(data, generator); the generator minimises the bound.
    """

    activation: Callable[[Tensor], Tensor]
    conjugate: Callable[[Tensor], Tensor]

    def discriminator(self, real: Tensor, fake: Tensor) -> Tensor:
        return self.conjugate(fake).mean() - self.activation(real).mean()

    def generator(self, real: Tensor, fake: Tensor) -> Tensor:
        return -self.conjugate(fake).mean()


def _exp(values: Tensor) -> Tensor:
    return values.clamp(max=_LARGEST).exp()


# For reverse Kullback-Leibler, Neyman and Hellinger real images get low outputs.
_DIVERGENCES = {
    "kl": _Divergence(lambda v: v, lambda v: _exp(v - 1)),
    "reverse-kl": _Divergence(lambda v: -_exp(v), lambda v: -1 - v),
    "pearson": _Divergence(lambda v: v, lambda v: v.square() / 4 + v),
    "neyman": _Divergence(lambda v: 1 - _exp(v), lambda v: 2 - 2 * _exp(v / 2)),
    "squared-hellinger": _Divergence(lambda v: 1 - _exp(v), lambda v: _exp(-v) - 1),
    "jensen-shannon": _Divergence(lambda v: log(2) - softplus(-v), lambda v: softplus(v) - log(2)),
    "total-variation": _Divergence(lambda v: v.tanh() / 2, lambda v: v.tanh() / 2),
}

OBJECTIVES: Mapping[str, Objective] = MappingProxyType({
    "non-saturating": Objective(non_saturating, lambda _, fake: softplus(-fake).mean()),
    "saturating": Objective(non_saturating, lambda _, fake: -softplus(fake).mean()),
    "least-squares": Objective(least_squares, lambda _, fake: (fake - 1).square().mean() / 2),
    "wasserstein": Objective(wasserstein, lambda _, fake: -fake.mean()),
    "hinge": Objective(hinge, lambda _, fake: -fake.mean()),
    # Jolicoeur-Martineau 2018, arXiv 1807.00734: how much more real an image is than those of the other kind
    "relativistic": Objective(_relativistic, lambda real, fake: _relativistic(fake, real), compares=True),
    "relativistic-average": Objective(
        _relativistic_average, lambda real, fake: _relativistic_average(fake, real), compares=True
    ),
    **{name: Objective(one.discriminator, one.generator) for name, one in _DIVERGENCES.items()},
})  # fmt: skip
