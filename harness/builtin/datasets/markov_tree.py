"""A Markov random field on a tree: everything about it is a finite sum.

    p(s) = p(s_0) prod_{t > 0} p(s_t | s_{parent(t)})

A chain is the tree whose every site has the one before it as its parent: with whole rows of a grid as sites, the
transfer matrix of an Ising model (Kramers & Wannier 1941) is one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class MarkovTree:
    """A distribution over T sites of S states each.

    Attributes:
        log_root: (S,) float64 nats, normalised, of site 0.
        log_transitions: (T - 1, S, S) float64 nats, row by row normalised: site t + 1 given its parent's state.
        parents: T - 1 numbers: the parent of site t + 1, which is a site before it.
    """

    log_root: Tensor
    log_transitions: Tensor
    parents: Sequence[int]

    def __post_init__(self) -> None:
        expected, found = (len(self.parents), *2 * (len(self.log_root),)), tuple(self.log_transitions.shape)
        if found != expected:
            raise ValueError(f"log_transitions must be {expected}, not {found}")
        for site, parent in enumerate(self.parents, start=1):
            if not 0 <= parent < site:
                raise ValueError(f"the parent of site {site} must be a site before it, not {parent}")

    @classmethod
    def from_chain(cls, unary: Tensor, pair: Tensor) -> MarkovTree:
        """Normalises p(s) = exp(sum_t unary_t(s_t) + sum_t pair(s_t, s_{t+1})) / Z, from the last site to the first.

        ``unary`` is (T, S) float64, ``pair`` (S, S) float64.
        """
        transitions = []
        message = torch.zeros_like(unary[0])  # log of the sum over all sites after this one
        for weights in unary[1:].flip(0):
            onwards = pair + weights + message  # (S, S)
            transitions.append(onwards.log_softmax(1))
            message = onwards.logsumexp(1)
        stacked = torch.stack(transitions[::-1]) if transitions else pair.new_empty(0, *pair.shape)
        return cls((unary[0] + message).log_softmax(0), stacked, range(len(unary) - 1))

    def log_prob(self, states: Tensor) -> Tensor:
        """Maps (N, T) int64 to (N,) float64 nats."""
        total = self.log_root[states[:, 0]]
        for site, (parent, transition) in enumerate(zip(self.parents, self.log_transitions, strict=True), start=1):
            total = total + transition[states[:, parent], states[:, site]]
        return total

    def sample(self, num_samples: int, generator: torch.Generator) -> Tensor:
        """Draws (num_samples, T) int64, site by site, by the inverse of the cumulative distribution."""
        uniform = torch.rand(num_samples, 1 + len(self.parents), dtype=torch.float64, generator=generator)
        root = self.log_root.exp().cumsum(0).expand(num_samples, -1)
        states = [_invert(root, uniform[:, 0])]
        for site, (parent, transition) in enumerate(zip(self.parents, self.log_transitions, strict=True), start=1):
            states.append(_invert(transition.exp().cumsum(1)[states[parent]], uniform[:, site]))
        return torch.stack(states, 1)

    @property
    def entropy(self) -> float:
        """In nats: H(s_0) + sum_t H(s_t | s_parent)."""
        marginals = [self.log_root.exp()]
        total = -(marginals[0] * _finite(self.log_root)).sum()
        for parent, transition in zip(self.parents, self.log_transitions, strict=True):
            conditional = transition.exp()
            total = total - marginals[parent] @ (conditional * _finite(transition)).sum(1)
            marginals.append(marginals[parent] @ conditional)
        return float(total)


def _invert(cumulative: Tensor, uniform: Tensor) -> Tensor:
    """Maps rows (N, S) of cumulative probabilities and (N,) uniform numbers to (N,) states."""
    found = torch.searchsorted(cumulative.contiguous(), uniform[:, None].contiguous(), right=True).squeeze(1)
    return found.clamp_max(cumulative.shape[1] - 1)


def _finite(log_probs: Tensor) -> Tensor:
    """Returns zero where a probability is zero: 0 log 0 = 0."""
    return torch.where(log_probs.isneginf(), 0.0, log_probs)
