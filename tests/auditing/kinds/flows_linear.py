"""Right flows by linear maps, whose determinant is known from how they are made, and by layers of low rank."""

from __future__ import annotations

import torch
from museum.common import at_most
from museum.flows import Affine, Flow, Logit
from torch import Tensor, nn
from torch.nn import functional as F

from .registry import kind


def solve(function, target: Tensor, reach: Tensor) -> Tensor:
    """Finds x of an increasing function of (N,) by bisection, within ``reach`` of the target."""
    low, high = target - reach, target + reach
    for _ in range(60):
        middle = (low + high) / 2
        above = function(middle) > target
        low, high = torch.where(above, low, middle), torch.where(above, middle, high)
    return (low + high) / 2


class Exponential(nn.Module):
    """z = exp(W) x, whose log-determinant is the trace of W."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(0.1 * torch.randn(size, size) / size**0.5)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return x @ torch.matrix_exp(self.weight).T, self.weight.trace().expand(len(x))

    def inverse(self, z: Tensor) -> Tensor:
        return z @ torch.matrix_exp(-self.weight).T


@kind("flow by matrix exponentials")
class MatrixExponentialFlow(Flow):
    """A linear map that is always invertible (Hoogeboom et al. 2020, arXiv 2001.11443), between affine ones."""

    def make_layers(self, size: int) -> list[nn.Module]:
        return [Logit(self.spec.levels), Affine(size), Exponential(size), Affine(size)]


class Reflections(nn.Module):
    """A product of Householder reflections: orthogonal, so that volumes stay."""

    def __init__(self, size: int, *, count: int = 4) -> None:
        super().__init__()
        self.vectors = nn.Parameter(torch.randn(count, size))

    def reflect(self, x: Tensor, vectors: Tensor) -> Tensor:
        for vector in vectors:
            x = x - 2 * (x @ vector)[:, None] * vector / vector.square().sum()
        return x

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self.reflect(x, self.vectors), x.new_zeros(len(x))

    def inverse(self, z: Tensor) -> Tensor:
        return self.reflect(z, self.vectors.flip(0))


@kind("flow by Householder reflections")
class HouseholderFlow(Flow):
    """Rotations by reflections with scales between them (Tomczak & Welling 2016, arXiv 1611.09630)."""

    def make_layers(self, size: int) -> list[nn.Module]:
        return [Logit(self.spec.levels), Affine(size), Reflections(size), Affine(size), Reflections(size)]


class Whitening(nn.Module):
    """z = L^-1 (x - m), L lower triangular with a diagonal by softplus: a Gaussian of any covariance."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.mean, self.free = nn.Parameter(torch.zeros(size)), nn.Parameter(torch.zeros(size, size))

    def factor(self) -> Tensor:
        return self.free.tril(-1) + torch.diag(F.softplus(self.free.diagonal() + 0.5413) + 1e-3)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        factor = self.factor()
        z = torch.linalg.solve_triangular(factor, (x - self.mean).T, upper=False).T
        return z, -factor.diagonal().log().sum().expand(len(x))

    def inverse(self, z: Tensor) -> Tensor:
        return z @ self.factor().T + self.mean


@kind("Gaussian of full covariance on logits")
class CholeskyFlow(Flow):
    """A full Gaussian of what a logit makes of dequantized images."""

    def make_layers(self, size: int) -> list[nn.Module]:
        return [Logit(self.spec.levels), Whitening(size)]


class Radial(nn.Module):
    """z = x + b (x - c) / (a + |x - c|) with b > -a (Rezende & Mohamed 2015, arXiv 1505.05770)."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.centre, self.log_a = nn.Parameter(0.3 * torch.randn(size)), nn.Parameter(torch.zeros(()))
        self.free = nn.Parameter(torch.zeros(()))

    def constants(self) -> tuple[Tensor, Tensor]:
        a = self.log_a.exp()
        return a, F.softplus(self.free) - a

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        a, b = self.constants()
        radius = (x - self.centre).norm(dim=1, keepdim=True)
        h = 1 / (a + radius)
        log_det = (x.shape[1] - 1) * (1 + b * h).log() + (1 + b * h - b * h.square() * radius).log()
        return x + b * h * (x - self.centre), log_det.squeeze(1)

    def inverse(self, z: Tensor) -> Tensor:
        a, b = self.constants()
        far = (z - self.centre).norm(dim=1, keepdim=True)  # = r (1 + b / (a + r)), a quadratic equation in r
        half = (a + b - far) / 2
        radius = -half + (half.square() + a * far).sqrt()
        return self.centre + (z - self.centre) / (1 + b / (a + radius))


@kind("radial flow")
class RadialFlow(Flow):
    """Three radial layers, each inverted in closed form."""

    def make_layers(self, size: int) -> list[nn.Module]:
        return [Logit(self.spec.levels), Affine(size), *(Radial(size) for _ in range(3))]


class Sylvester(nn.Module):
    """z = x + Q R tanh(S Q^T x + b), R and S upper triangular: inverted from the last entry to the first."""

    def __init__(self, size: int, *, rank: int = 3) -> None:
        super().__init__()
        self.rank = rank
        self.free = nn.Parameter(torch.randn(size, rank))
        self.one, self.other = nn.Parameter(0.3 * torch.randn(rank, rank)), nn.Parameter(0.3 * torch.randn(rank, rank))
        self.bias = nn.Parameter(torch.zeros(rank))

    def parts(self) -> tuple[Tensor, Tensor, Tensor]:
        """Returns Q (D, M) with orthonormal columns, R and S; the diagonals are below one, so that R_ii S_ii > -1."""
        one, other = (free.triu(1) + torch.diag(torch.tanh(free.diagonal())) for free in (self.one, self.other))
        return torch.linalg.qr(self.free).Q, one, other

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        basis, one, other = self.parts()
        bent = torch.tanh(x @ basis @ other.T + self.bias)
        slope = 1 + (1 - bent.square()) * one.diagonal() * other.diagonal()
        return x + bent @ one.T @ basis.T, slope.log().sum(1)

    def inverse(self, z: Tensor) -> Tensor:
        basis, one, other = self.parts()
        target = z @ basis  # (N, M) = y + R tanh(S y + b)
        found: dict[int, Tensor] = {}
        bent: dict[int, Tensor] = {}
        for i in reversed(range(self.rank)):
            known = target[:, i] - sum((one[i, j] * bent[j] for j in bent), start=torch.zeros_like(target[:, i]))
            shift = self.bias[i] + sum((other[i, j] * found[j] for j in found), start=torch.zeros_like(known))
            diagonal, inner = one[i, i], other[i, i]
            found[i] = solve(
                lambda y, d=diagonal, s=inner, c=shift: y + d * torch.tanh(s * y + c), known, torch.ones_like(known)
            )
            bent[i] = torch.tanh(inner * found[i] + shift)
        y = torch.stack([found[i] for i in range(self.rank)], 1)
        return z + (y - target) @ basis.T


@kind("Sylvester flow")
class SylvesterFlow(Flow):
    """A layer of rank three (van den Berg et al. 2018, arXiv 1803.05649)."""

    def make_layers(self, size: int) -> list[nn.Module]:
        return [Logit(self.spec.levels), Affine(size), Sylvester(size)]


class Contraction(nn.Module):
    """z = x + g(x), Lipschitz below 0.7 by exact norms; its log-determinant is that of the Jacobian by autograd."""

    def __init__(self, size: int, *, hidden: int = 12) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(size, hidden), nn.Linear(hidden, size)

    def residual(self, x: Tensor) -> Tensor:
        for layer in (self.first, self.last):
            norm = torch.linalg.matrix_norm(layer.weight, ord=2)
            x = F.linear(x, layer.weight * (0.8 / norm).clamp_max(1.0), layer.bias)
            x = torch.tanh(x) if layer is self.first else x
        return x

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        jacobian = torch.func.vmap(torch.func.jacrev(lambda one: self.residual(one[None])[0]))(x)
        eye = torch.eye(x.shape[1], dtype=x.dtype)
        return x + self.residual(x), torch.linalg.slogdet(eye + jacobian).logabsdet

    def inverse(self, z: Tensor) -> Tensor:
        x = z
        for _ in range(60):  # 0.64^60 is 2e-12
            x = z - self.residual(x)
        return x


@kind("contractive residual flow")
class ResidualFlow(Flow):
    """An invertible residual layer (Behrmann et al. 2018, arXiv 1811.00995), its log-determinant exact."""

    def make_layers(self, size: int) -> list[nn.Module]:
        at_most(self.spec, 200)
        return [Logit(self.spec.levels), Affine(size), Contraction(size)]
