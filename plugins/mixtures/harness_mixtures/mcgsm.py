"""A mixture of conditional Gaussian scale mixtures (Theis, Hosseini & Bethge 2012, arXiv 1203.3412)."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

_LIMIT = 3.0  # of log-precisions, in nats
_PACE = 10.0  # Adam moves all parameters alike: those that shape the mixture, kept as tenths, move ten times as far
_LEAST_WEIGHT = 1e-6


class MCGSM(nn.Module):
    r"""The density of a number y given a vector z, by C components of S scales each.

    .. math::

        p(y \mid z) &= \sum_{c,s} p(c, s \mid z) \, N(y; m_c + (a_c^T z + u_c) / l_c, e^{-\alpha_{cs}} / l_c^2) \\
        p(c, s \mid z) &\propto \exp(\eta_{cs} + e^{\alpha_{cs}} (w_c^T z - \frac12 \sum_i \beta_{ci}^2 (b_i^T z)^2))

    with l_c = exp(lambda_c) / width_c. The centres m_c and the widths are constants that the data give, and what is
    learned counts in widths: so a step of training moves a component no further than it is wide, be it a hundredth of
    a level or a hundred levels. Both alpha and lambda are kept in (-3, 3) by a tanh.

    Args:
        num_inputs: Z, entries of z.
        components: C.
        scales: S.
        features: I, the number of b_i.
    """

    centre: Tensor
    width: Tensor

    def __init__(self, num_inputs: int, *, components: int, scales: int, features: int) -> None:
        super().__init__()
        self.num_inputs = num_inputs
        self.register_buffer("centre", torch.zeros(components))
        self.register_buffer("width", torch.ones(components))
        self.weight = nn.Parameter(torch.zeros(2 * components + features, num_inputs))  # rows a, w and b
        nn.init.uniform_(self.weight[2 * components :], -(num_inputs**-0.5), num_inputs**-0.5)
        self.shift = nn.Parameter(torch.zeros(components))  # u
        self.feature_weights = nn.Parameter(torch.randn(components, features) / (10 * math.sqrt(features)))  # beta
        self.log_precision = nn.Parameter(torch.zeros(components))  # lambda
        offsets = torch.linspace(0.5, -0.5, scales) if scales > 1 else torch.zeros(1)
        self.scale_log_precision = nn.Parameter(offsets.repeat(components, 1) / _PACE)  # alpha
        self.logits = nn.Parameter(torch.zeros(components, scales))  # eta

    @torch.no_grad()
    def start(self, frequencies: Tensor, edges: Tensor, *, prediction: Tensor, deviation: Tensor) -> None:
        """Lays one half of the components over the marginal distribution of y, the other on a linear prediction.

        Args:
            frequencies: (L,) of y in the bins between ``edges`` (L + 1,).
            prediction: (Z',) of y from the last Z' inputs.
            deviation: () of y from it.
        """
        count = len(self.centre)
        alone = count - count // 2
        # bounds of equal parts of the mean of this distribution and a uniform one: narrow where y often lies
        cumulative = F.pad(frequencies.cumsum(0), (1, 0))
        flat = torch.linspace(0, 1, len(edges)).to(edges)
        bounds = _interpolate(torch.linspace(0, 1, alone + 1).to(edges), (cumulative + flat) / 2, edges)
        self.centre.copy_(F.pad((bounds[1:] + bounds[:-1]) / 2, (0, count - alone)))
        self.width.copy_(F.pad(bounds.diff() / 2, (0, count - alone), value=float(deviation)))
        weights = _interpolate(bounds, edges, cumulative).diff().clamp_min(_LEAST_WEIGHT)
        self.logits[:alone] = weights.log().unsqueeze(1) / _PACE
        self.logits[alone:] = -math.log(max(1, count - alone)) / _PACE
        self.weight[alone:count, -len(prediction) :] = prediction / deviation

    def log_prob(self, y: Tensor, z: Tensor) -> Tensor:
        """Maps y (M,) and z (M, Z) to (M,) nats: log p(y | z)."""
        alpha, log_ell = self._alpha(), self._log_ell()
        shifts, gates = self._read(z)
        residual = (y.unsqueeze(1) - self.centre) * log_ell.exp() - shifts  # (M, C)
        constant = _PACE * self.logits + 0.5 * alpha + log_ell.unsqueeze(1) - 0.5 * math.log(2 * math.pi)
        joint = _log_sum(constant, alpha, gates - 0.5 * residual.square())
        return joint - _log_sum(_PACE * self.logits, alpha, gates)

    def draw(self, z: Tensor) -> Tensor:
        """Maps z (M, Z) to a draw of each y (M,), with torch's global generator."""
        alpha = self._alpha()
        shifts, gates = self._read(z)
        logits = _PACE * self.logits + alpha.exp() * gates.unsqueeze(2)  # (M, C, S)
        choice = torch.multinomial(logits.flatten(1).softmax(1), 1).squeeze(1)  # (M,)
        component = choice // alpha.shape[1]
        shift = shifts.gather(1, component.unsqueeze(1)).squeeze(1)
        noise = torch.randn_like(shift) * (-0.5 * alpha).exp().flatten()[choice]
        return self.centre[component] + (shift + noise) * (-self._log_ell()).exp()[component]

    def _read(self, z: Tensor) -> tuple[Tensor, Tensor]:
        # (M, C): the means in units of 1/l, from the centres, and what e^alpha is multiplied by in the logits
        components, features = self.feature_weights.shape
        shifts, gates, projections = torch.split(F.linear(z, self.weight), [components, components, features], 1)
        return shifts + _PACE * self.shift, gates - projections.square() @ (0.5 * self.feature_weights.square()).T

    def _alpha(self) -> Tensor:
        return _LIMIT * (self.scale_log_precision * (_PACE / _LIMIT)).tanh()

    def _log_ell(self) -> Tensor:
        return _LIMIT * (self.log_precision * (_PACE / _LIMIT)).tanh() - self.width.log()


def _log_sum(constant: Tensor, alpha: Tensor, values: Tensor) -> Tensor:
    # log sum_cs exp(constant_cs + e^alpha_cs values_c): (C, S), (C, S) and (M, C) to (M,)
    return torch.addcmul(constant, alpha.exp(), values.unsqueeze(2)).flatten(1).logsumexp(1)


def _interpolate(x: Tensor, at: Tensor, values: Tensor) -> Tensor:
    # the piecewise linear function through (at, values), at increasing, at x between its ends
    right = torch.searchsorted(at, x.contiguous()).clamp(1, len(at) - 1)
    share = (x - at[right - 1]) / (at[right] - at[right - 1])
    return torch.lerp(values[right - 1], values[right], share)
