"""Datasets of known entropy: drawn from distributions whose log-probability is an exact, finite sum.

On them the gap of a model to the truth, E[log p_true(x) - log p_model(x)], is the Kullback-Leibler divergence itself:
no negative log-likelihood is below the entropy but by chance, and how much is chance can be said.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property, partial

import torch
from torch import Tensor

from harness import DataFolder, ImageSpec, KnownDataset, KnownDistribution
from harness.builtin.datasets.markov_tree import MarkovTree

_MOST_ROW_STATES = 2**12


@dataclass(frozen=True)
class Ising(KnownDistribution):
    """An Ising model on a grid with open borders (Ising 1925), or its kin of more levels.

    With v = 2 x / (levels - 1) - 1 in [-1, 1] and <i, j> the neighbours right and below,

        p(x) = exp(coupling sum_<i,j> v_i v_j + field sum_i v_i) / Z.

    Z, entropy and draws are exact: rows are the sites of a chain, the transfer matrix takes one to the next.

    Args:
        spec: one channel, at most 4,096 different rows.
        coupling: 0.44 is critical for two levels.
        field: shifts all entries alike.

    Raises:
        ValueError: more channels, or rows too wide for the transfer matrix.
    """

    spec: ImageSpec
    coupling: float
    field: float = 0.0

    def __post_init__(self) -> None:
        if self.spec.channels != 1:
            raise ValueError(f"an Ising grid has one channel, not {self.spec.channels}")
        width, levels = self.spec.width, self.spec.levels
        if levels**width > _MOST_ROW_STATES:
            raise ValueError(
                f"rows of {width} entries and {levels} levels are too many for a transfer matrix: "
                f"{levels**width}, at most {_MOST_ROW_STATES}"
            )

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
    """A Markov random field on a random spanning tree of the grid's entries.

    An entry's value given its parent's is p(v | u) ~ exp(-beta |v - u|), beta uniform in ``strength`` for each edge;
    the root is uniform. The tree joins neighbours, so that its order is far from that of a raster.

    Args:
        spec: one channel.
        strength: lowest and highest beta.
        seed: of the tree and its edges.
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


@dataclass(frozen=True)
class NoisyTemplates(KnownDistribution):
    """One of a few binary templates, each of its entries flipped with a small probability.

        p(x) = 1/K sum_k flip^{d_k(x)} (1 - flip)^{D - d_k(x)},   d_k(x) the number of entries in which x and k differ

    Args:
        spec: binary.
        num_templates: K; their entries are fair coins.
        flip: the probability, in (0, 1).
        seed: of the templates.
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
        same = self.spec.num_dimensions - flips
        log_probs = flips * math.log(self.flip) + same * math.log1p(-self.flip)
        return log_probs.logsumexp(1) - math.log(self.num_templates)

    def sample(self, num_images: int, generator: torch.Generator) -> Tensor:
        """Draws (num_images, C, H, W) uint8."""
        chosen = self.templates[torch.randint(self.num_templates, (num_images,), generator=generator)]  # (N, D)
        flips = torch.rand(chosen.shape, dtype=torch.float64, generator=generator) < self.flip
        return (chosen ^ flips.to(torch.uint8)).view(num_images, *self.spec.shape)


def spanning_tree(height: int, width: int, generator: torch.Generator) -> tuple[list[int], list[int]]:
    """Returns a random spanning tree of a grid: Kruskal's (1956), the edges in random order.

    That is the entries (row * width + column), each after its parent, the middle one first; and for each but the first
    the place of its parent in this list.
    """
    sites = torch.arange(height * width).view(height, width)
    right = torch.stack([sites[:, :-1].flatten(), sites[:, 1:].flatten()], 1)
    below = torch.stack([sites[:-1].flatten(), sites[1:].flatten()], 1)
    edges = torch.cat([right, below])
    component = list(range(height * width))
    neighbours: list[list[int]] = [[] for _ in component]
    for one, other in edges[torch.randperm(len(edges), generator=generator)].tolist():
        if component[one] != component[other]:
            old, new = component[one], component[other]
            component = [new if name == old else name for name in component]
            neighbours[one].append(other)
            neighbours[other].append(one)
    order, parents = [height // 2 * width + width // 2], list[int]()
    for place, site in enumerate(order):  # it grows while we go through it
        for other in neighbours[site]:
            if other not in order:
                order.append(other)
                parents.append(place)
    return order, parents


def _dataset(name: str, distribution: KnownDistribution, folder: DataFolder) -> KnownDataset:
    return KnownDataset.draw(name, distribution, sizes=(10_000, 2_000, 5_000), seed=0)


# The Ising model is just above its critical temperature, two signs alike.
ising = partial(_dataset, "ising-8x8", Ising(ImageSpec(1, 8, 8, 2), coupling=0.4))
templates = partial(_dataset, "templates-8x8", NoisyTemplates(ImageSpec(1, 8, 8, 2)))
tree = partial(_dataset, "tree-8x8", TreeField(ImageSpec(1, 8, 8, 2)))
tree_levels = partial(_dataset, "tree-8x8-4-levels", TreeField(ImageSpec(1, 8, 8, 4)))
