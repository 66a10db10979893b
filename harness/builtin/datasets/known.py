"""Datasets of known entropy: drawn from distributions whose log-probability is an exact, finite sum.

On them the gap of a model to the truth, E[log p_true(x) - log p_model(x)], is the Kullback-Leibler divergence itself:
no negative log-likelihood is below the entropy but by chance, and how much is chance can be said.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, partial

import torch
from scipy.cluster.hierarchy import DisjointSet
from torch import Tensor

from harness import DataFolder, ImageSpec, KnownDataset, KnownDistribution

_MOST_ROW_STATES = 2**12


@dataclass(frozen=True)
class MarkovTree:
    """A Markov random field on a tree of T sites of S states each: everything about it is a finite sum.

        p(s) = p(s_0) prod_{t > 0} p(s_t | s_{parent(t)})

    ``log_root`` (S,) and ``log_transitions`` (T - 1, S, S) are normalised float64 nats, of site 0 and of site t + 1
    given its parent's state (row); ``parents`` are T - 1 sites, each before its child.
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

        A chain, ``unary`` (T, S) and ``pair`` (S, S) float64, is the tree whose every site has the one before it as its
        parent: with whole rows of a grid as sites, the transfer matrix of an Ising model (Kramers & Wannier 1941).
        """
        transitions = pair.new_empty(len(unary) - 1, *pair.shape)
        message = torch.zeros_like(unary[0])  # log of the sum over all sites after this one
        for site in reversed(range(len(transitions))):
            onwards = pair + unary[site + 1] + message  # (S, S)
            transitions[site], message = onwards.log_softmax(1), onwards.logsumexp(1)
        return cls((unary[0] + message).log_softmax(0), transitions, range(len(transitions)))

    def log_prob(self, states: Tensor) -> Tensor:
        """Maps (N, T) int64 to (N,) float64 nats."""
        total = self.log_root[states[:, 0]]
        for site, (parent, transition) in enumerate(zip(self.parents, self.log_transitions, strict=True), start=1):
            total = total + transition[states[:, parent], states[:, site]]
        return total

    def sample(self, num_samples: int, generator: torch.Generator) -> Tensor:
        """Draws (num_samples, T) int64, site by site, by the inverse of the cumulative distribution."""
        uniform = torch.rand(num_samples, 1 + len(self.parents), dtype=torch.float64, generator=generator)
        states: list[Tensor] = []
        for site, number in enumerate(uniform.T):
            if site == 0:
                cumulative = self.log_root.exp().cumsum(0).expand(num_samples, -1)
            else:
                cumulative = self.log_transitions[site - 1].exp().cumsum(1)[states[self.parents[site - 1]]]
            found = torch.searchsorted(cumulative.contiguous(), number[:, None].contiguous(), right=True)
            states.append(found.squeeze(1).clamp_max(cumulative.shape[1] - 1))
        return torch.stack(states, 1)

    @property
    def entropy(self) -> float:
        """In nats: H(s_0) + sum_t H(s_t | s_parent)."""
        marginals = [self.log_root.exp()]
        total = torch.special.entr(marginals[0]).sum()
        for parent, transition in zip(self.parents, self.log_transitions.exp(), strict=True):
            total = total + marginals[parent] @ torch.special.entr(transition).sum(1)
            marginals.append(marginals[parent] @ transition)
        return float(total)


@dataclass(frozen=True)
class Ising(KnownDistribution):
    """An Ising model on a grid with open borders (Ising 1925), or its kin of more levels, of one channel.

    With v = 2 x / (levels - 1) - 1 in [-1, 1] and <i, j> the neighbours right and below,

        p(x) = exp(coupling sum_<i,j> v_i v_j + field sum_i v_i) / Z;

    a coupling of 0.44 is critical for two levels. Z, entropy and draws are exact: rows are the sites of a chain, the
    transfer matrix takes one to the next, and so there may be at most 4,096 different ones.
    """

    spec: ImageSpec
    coupling: float
    field: float = 0.0

    def __post_init__(self) -> None:
        if self.spec.channels != 1:
            raise ValueError(f"an Ising grid has one channel, not {self.spec.channels}")
        if (states := self.spec.levels**self.spec.width) > _MOST_ROW_STATES:
            rows = f"rows of {self.spec.width} entries and {self.spec.levels} levels"
            raise ValueError(f"{rows} are too many for a transfer matrix: {states}, at most {_MOST_ROW_STATES}")

    @cached_property
    def _powers(self) -> Tensor:
        return self.spec.levels ** torch.arange(self.spec.width - 1, -1, -1)  # (W,)

    @cached_property
    def _chain(self) -> MarkovTree:
        rows = torch.arange(self.spec.levels**self.spec.width)[:, None] // self._powers % self.spec.levels  # (S, W)
        values = 2 * rows.double() / (self.spec.levels - 1) - 1
        within = self.coupling * (values[:, 1:] * values[:, :-1]).sum(1) + self.field * values.sum(1)  # (S,)
        return MarkovTree.from_chain(within.expand(self.spec.height, -1), self.coupling * values @ values.T)

    @property
    def entropy(self) -> float:
        """In nats an image, exactly."""
        return self._chain.entropy

    def log_prob(self, images: Tensor) -> Tensor:
        """Maps (N, 1, H, W) uint8 to (N,) float64 nats."""
        return self._chain.log_prob((images[:, 0].long() * self._powers).sum(2))

    def sample(self, num_images: int, generator: torch.Generator) -> Tensor:
        """Draws (num_images, 1, H, W) uint8, row by row."""
        rows = self._chain.sample(num_images, generator)  # (N, H)
        return (rows[..., None] // self._powers % self.spec.levels).to(torch.uint8)[:, None]


@dataclass(frozen=True)
class TreeField(KnownDistribution):
    """A Markov random field on a random spanning tree of a grid of one channel, whose order is far from a raster's.

    An entry's value given its parent's is p(v | u) ~ exp(-beta |v - u|), beta uniform in ``strength`` for each edge;
    the root is uniform.
    """

    spec: ImageSpec
    strength: tuple[float, float] = (0.5, 2.5)
    seed: int = 0

    def __post_init__(self) -> None:
        if self.spec.channels != 1:
            raise ValueError(f"the tree spans one channel, not {self.spec.channels}")

    @cached_property
    def _order_and_tree(self) -> tuple[Tensor, MarkovTree]:
        generator = torch.Generator().manual_seed(self.seed)
        order, parents = spanning_tree(self.spec.height, self.spec.width, generator)
        low, high = self.strength
        beta = low + (high - low) * torch.rand(len(parents), 1, 1, dtype=torch.float64, generator=generator)
        values = torch.arange(self.spec.levels, dtype=torch.float64)
        transitions = (-beta * (values[:, None] - values).abs()).log_softmax(2)  # (D - 1, levels, levels)
        root = torch.zeros(self.spec.levels, dtype=torch.float64).log_softmax(0)
        return torch.tensor(order), MarkovTree(root, transitions, parents)

    @property
    def entropy(self) -> float:
        """In nats an image, exactly."""
        return self._order_and_tree[1].entropy

    def log_prob(self, images: Tensor) -> Tensor:
        """Maps (N, 1, H, W) uint8 to (N,) float64 nats."""
        order, tree = self._order_and_tree
        return tree.log_prob(images.flatten(1).long()[:, order])

    def sample(self, num_images: int, generator: torch.Generator) -> Tensor:
        """Draws (num_images, 1, H, W) uint8, from the root outwards."""
        order, tree = self._order_and_tree
        images = torch.empty(num_images, self.spec.num_dimensions, dtype=torch.uint8)
        images[:, order] = tree.sample(num_images, generator).to(torch.uint8)
        return images.view(num_images, *self.spec.shape)


def spanning_tree(height: int, width: int, generator: torch.Generator) -> tuple[list[int], list[int]]:
    """Returns a random spanning tree of a grid: Kruskal's (1956), the edges in random order.

    That is the entries, each after its parent, the middle one first; and for each but the first its parent's place.
    """
    sites = torch.arange(height * width).view(height, width)
    right = torch.stack([sites[:, :-1].flatten(), sites[:, 1:].flatten()], 1)
    below = torch.stack([sites[:-1].flatten(), sites[1:].flatten()], 1)
    edges = torch.cat([right, below])
    components = DisjointSet(range(height * width))
    neighbours: list[list[int]] = [[] for _ in components]
    for one, other in edges[torch.randperm(len(edges), generator=generator)].tolist():
        if components.merge(one, other):
            neighbours[one].append(other)
            neighbours[other].append(one)
    order, parents = [height // 2 * width + width // 2], list[int]()
    for place, site in enumerate(order):  # it grows while we go through it
        for other in neighbours[site]:
            if other not in order:
                order.append(other)
                parents.append(place)
    return order, parents


@dataclass(frozen=True)
class NoisyTemplates(KnownDistribution):
    """One of K binary templates, fair coins, each entry flipped with a probability in (0, 1), d_k(x) of them:

    p(x) = 1/K sum_k flip^{d_k(x)} (1 - flip)^{D - d_k(x)}.
    """

    spec: ImageSpec
    num_templates: int = 12
    flip: float = 0.1
    seed: int = 0

    def __post_init__(self) -> None:
        if self.spec.levels != 2:
            raise ValueError(f"templates are binary, they have no {self.spec.levels} levels")
        if not 0 < self.flip < 1:
            raise ValueError(f"flip must be between 0 and 1, not {self.flip}")

    @cached_property
    def templates(self) -> Tensor:
        """(K, D) uint8."""
        generator = torch.Generator().manual_seed(self.seed)
        return torch.randint(2, (self.num_templates, self.spec.num_dimensions), generator=generator).to(torch.uint8)

    def log_prob(self, images: Tensor) -> Tensor:
        """Maps (N, C, H, W) uint8 to (N,) float64 nats."""
        flips = torch.cdist(images.flatten(1).double(), self.templates.double(), p=1)  # (N, K)
        log_probs = flips * math.log(self.flip) + (self.spec.num_dimensions - flips) * math.log1p(-self.flip)
        return log_probs.logsumexp(1) - math.log(self.num_templates)

    def sample(self, num_images: int, generator: torch.Generator) -> Tensor:
        """Draws (num_images, C, H, W) uint8."""
        chosen = self.templates[torch.randint(self.num_templates, (num_images,), generator=generator)]  # (N, D)
        flips = torch.rand(chosen.shape, dtype=torch.float64, generator=generator) < self.flip
        return (chosen ^ flips.to(torch.uint8)).view(num_images, *self.spec.shape)


@dataclass(frozen=True)
class OneSet(KnownDistribution):
    """Images of two levels with one entry set, each of the D of them as likely as another."""

    spec: ImageSpec

    def __post_init__(self) -> None:
        if self.spec.levels != 2:
            raise ValueError(f"an entry is set or not, there are no {self.spec.levels} levels")

    @property
    def entropy(self) -> float:
        """In nats an image, exactly."""
        return math.log(self.spec.num_dimensions)

    def log_prob(self, images: Tensor) -> Tensor:
        """Maps (N, C, H, W) uint8 to (N,) float64 nats, minus infinity for other images."""
        is_possible = images.flatten(1).long().sum(1) == 1
        log_probs = torch.full(is_possible.shape, -self.entropy, dtype=torch.float64, device=images.device)
        return log_probs.masked_fill(~is_possible, -math.inf)

    def sample(self, num_images: int, generator: torch.Generator) -> Tensor:
        """Draws (num_images, C, H, W) uint8."""
        size = self.spec.num_dimensions
        chosen = torch.randint(size, (num_images,), generator=generator)
        return torch.eye(size, dtype=torch.uint8)[chosen].view(num_images, *self.spec.shape)


def _dataset(name: str, distribution: KnownDistribution, folder: DataFolder) -> KnownDataset:
    return KnownDataset.draw(name, distribution, sizes=(10_000, 2_000, 5_000), seed=0)


# The Ising model is just above its critical temperature, two signs alike.
ising = partial(_dataset, "ising-8x8", Ising(ImageSpec(1, 8, 8, 2), coupling=0.4))
templates = partial(_dataset, "templates-8x8", NoisyTemplates(ImageSpec(1, 8, 8, 2)))
tree = partial(_dataset, "tree-8x8", TreeField(ImageSpec(1, 8, 8, 2)))
tree_levels = partial(_dataset, "tree-8x8-4-levels", TreeField(ImageSpec(1, 8, 8, 4)))
# As small as a toy can be whose posteriors can be looked at (Kingma et al. 2016, arXiv 1606.04934).
four_points = partial(_dataset, "four-points", OneSet(ImageSpec(1, 2, 2, 2)))
