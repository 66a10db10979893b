"""Right models by sums over a graph: hidden Markov models, trees, sum-product networks, a grammar."""

from __future__ import annotations

import math
from itertools import pairwise

import torch
from museum.common import pick
from torch import Tensor, nn
from torch.nn import functional as F

from harness import Dataset, ExactLikelihood, ImageSpec, Trainer

from .common import (
    Trained,
    TrainedTable,
    as_logits,
    at_most_entries,
    categorical_draw,
    draw_rows,
    sequence,
    unsequence,
)
from .registry import kind


@kind("hidden Markov model")
class HiddenMarkovRows(TrainedTable):
    """A hidden state for each row, which emits its entries independently: the forward algorithm (Rabiner 1989)."""

    def __init__(self, spec: ImageSpec, *, states: int = 4) -> None:
        super().__init__(spec)
        at_most_entries(spec, 784, 16)
        self.start = nn.Parameter(torch.zeros(states))
        self.transitions = nn.Parameter(torch.randn(states, states))
        self.emissions = nn.Parameter(torch.randn(states, spec.levels, spec.channels, 1, spec.width))

    def emitted(self, images: Tensor) -> Tensor:
        """Maps images to (N, H, states): log p(row | state)."""
        table = self.emissions.log_softmax(1).expand(-1, -1, -1, self.spec.height, -1)
        parts = [pick(part.expand(len(images), *part.shape), images).sum((1, 3)) for part in table]
        return torch.stack(parts, 2)

    def log_prob(self, images: Tensor) -> Tensor:
        emitted, transitions = self.emitted(images), self.transitions.log_softmax(1)
        forward = self.start.log_softmax(0) + emitted[:, 0]
        for row in range(1, self.spec.height):
            forward = (forward[:, :, None] + transitions).logsumexp(1) + emitted[:, row]
        return forward.logsumexp(1)

    @torch.no_grad()
    def sample(self, num_samples: int) -> Tensor:
        state, rows = categorical_draw(self.start.expand(num_samples, -1)), []
        for _ in range(self.spec.height):
            rows.append(categorical_draw(self.emissions[state]))  # (N, C, 1, W)
            state = categorical_draw(self.transitions[state])
        return torch.cat(rows, 2).to(torch.uint8)


@kind("hidden Markov model")
class FilteredHiddenMarkov(Trained):
    """A hidden state for each entry, in probabilities that are scaled: its filter gives the conditionals."""

    def __init__(self, spec: ImageSpec, *, states: int = 5) -> None:
        super().__init__(spec)
        at_most_entries(spec, 64)
        self.start = nn.Parameter(torch.zeros(states))
        self.transitions = nn.Parameter(torch.randn(states, states))
        self.emissions = nn.Parameter(torch.randn(states, spec.levels))

    def conditional_logits(self, images: Tensor, ordering: int = 0) -> Tensor:
        belief = self.start.softmax(0).expand(len(images), -1)
        transitions, emissions, found = self.transitions.softmax(1), self.emissions.softmax(1), []
        for values in sequence(images).unbind(1):
            found.append((belief @ emissions).log())
            joint = belief * emissions.T[values]
            belief = (joint / joint.sum(1, keepdim=True)) @ transitions
        return as_logits(torch.stack(found, 1), self.spec)


@kind("hidden Markov tree")
class QuadTree(TrainedTable):
    """Hidden states in a binary tree over the sequence of entries, summed from the leaves (Crouse et al. 1998)."""

    def __init__(self, spec: ImageSpec, *, states: int = 3) -> None:
        super().__init__(spec)
        at_most_entries(spec, 784, 16)
        self.states, self.depth = states, max(1, math.ceil(math.log2(spec.num_dimensions)))
        self.root = nn.Parameter(torch.randn(states))
        self.branches = nn.Parameter(torch.randn(self.depth, 2, states, states))
        self.leaves = nn.Parameter(torch.randn(spec.num_dimensions, states, spec.levels))

    def log_prob(self, images: Tensor) -> Tensor:
        values = sequence(images)
        table = self.leaves.log_softmax(2).expand(len(values), -1, -1, -1)
        index = values[:, :, None, None].expand(-1, -1, self.states, 1)
        below = table.gather(3, index).squeeze(3)  # (N, D, states)
        below = F.pad(below, (0, 0, 0, 2**self.depth - below.shape[1]))  # what is no entry has probability one
        for branch in self.branches.log_softmax(3).flip(0):
            left, right = below[:, ::2], below[:, 1::2]
            below = sum((part[:, :, None] + arc).logsumexp(3) for part, arc in zip((left, right), branch, strict=True))
        return (self.root.log_softmax(0) + below[:, 0]).logsumexp(1)

    @torch.no_grad()
    def sample(self, num_samples: int) -> Tensor:
        state = categorical_draw(self.root.expand(num_samples, -1))[:, None]  # (N, nodes)
        for branch in self.branches:
            children = [categorical_draw(arc[state], dim=2) for arc in branch]
            state = torch.stack(children, 2).flatten(1)
        places = torch.arange(self.spec.num_dimensions)
        return unsequence(categorical_draw(self.leaves[places, state[:, : len(places)]], dim=2), self.spec)


@kind("sum-product network")
class SumProduct(TrainedTable):
    """Random splits of the entries; sums over components of products of halves (Peharz et al. 2018, 1806.01910)."""

    def __init__(self, spec: ImageSpec, *, components: int = 3, replicas: int = 2) -> None:
        super().__init__(spec)
        at_most_entries(spec, 784, 16)
        self.components = components
        size = spec.num_dimensions
        shuffle = torch.Generator().manual_seed(0)
        orders = torch.stack([torch.randperm(size, generator=shuffle) for _ in range(replicas)])
        self.register_buffer("orders", orders)
        self.leaves = nn.Parameter(torch.randn(replicas, size, components, spec.levels))
        depth = min(3, int(math.log2(size)))
        self.sums = nn.ParameterList(
            [nn.Parameter(torch.randn(replicas, 2**level, components, components**2)) for level in range(depth)]
        )
        self.root = nn.Parameter(torch.randn(replicas, components))

    def regions(self) -> list[slice]:
        """Returns the places, in each replica's own order, that the leaves of the tree cover."""
        size, count = self.spec.num_dimensions, 2 ** len(self.sums)
        cuts = [index * size // count for index in range(count + 1)]
        return [slice(start, stop) for start, stop in pairwise(cuts)]

    def log_prob(self, images: Tensor) -> Tensor:
        flat = images.flatten(1).long()[:, self.orders]  # (N, replicas, D)
        table = self.leaves.log_softmax(3).expand(len(flat), -1, -1, -1, -1)
        index = flat[..., None, None].expand(*flat.shape, self.components, 1)
        entries = table.gather(4, index).squeeze(4)  # (N, replicas, D, K)
        nodes = torch.stack([entries[:, :, region].sum(2) for region in self.regions()], 2)
        for weights in reversed(list(self.sums)):
            products = nodes[:, :, ::2, :, None] + nodes[:, :, 1::2, None]  # (N, replicas, nodes, K, K)
            nodes = (products.flatten(3)[:, :, :, None] + weights.log_softmax(3)).logsumexp(4)
        return (nodes[:, :, 0] + self.root.flatten().log_softmax(0).view_as(self.root)).flatten(1).logsumexp(1)

    @torch.no_grad()
    def sample(self, num_samples: int) -> Tensor:
        top = draw_rows(self.root.flatten(), num_samples)
        replica, chosen = top // self.components, (top % self.components)[:, None]
        for weights in self.sums:
            arcs = weights[replica][torch.arange(num_samples)[:, None], torch.arange(chosen.shape[1]), chosen]
            product = categorical_draw(arcs, dim=2)
            chosen = torch.stack([product // self.components, product % self.components], 2).flatten(1)
        component = torch.cat([
            chosen[:, [number]].expand(-1, region.stop - region.start) for number, region in enumerate(self.regions())
        ], 1)  # (N, D)  # fmt: skip
        places = torch.arange(self.spec.num_dimensions)
        values = categorical_draw(self.leaves[replica[:, None], places, component], dim=2)
        flat = torch.zeros_like(values).scatter_(1, self.orders[replica], values)
        return flat.view(-1, *self.spec.shape).to(torch.uint8)


@kind("probabilistic grammar")
class Grammar(TrainedTable):
    """A context-free grammar in binary form over the sequence, given its length: inside sums (Baker 1979)."""

    def __init__(self, spec: ImageSpec, *, symbols: int = 3) -> None:
        super().__init__(spec)
        at_most_entries(spec, 9)
        self.rules = nn.Parameter(torch.randn(symbols, symbols, symbols))
        self.stop = nn.Parameter(torch.zeros(symbols))  # log-odds of a symbol that emits instead of branching
        self.words = nn.Parameter(torch.randn(symbols, spec.levels))

    def inside(self, emitted: Tensor) -> dict[tuple[int, int], Tensor]:
        """Maps log-probabilities of words (N, D, symbols) to those of every span, (N, symbols)."""
        size, chart = emitted.shape[1], dict[tuple[int, int], Tensor]()
        branch = self.rules.flatten(1).log_softmax(1).view_as(self.rules) + F.logsigmoid(-self.stop)[:, None, None]
        for place in range(size):
            chart[place, place + 1] = emitted[:, place] + F.logsigmoid(self.stop)
        for length in range(2, size + 1):
            for start in range(size - length + 1):
                splits = range(start + 1, start + length)
                left = torch.stack([chart[start, split] for split in splits], 1)
                right = torch.stack([chart[split, start + length] for split in splits], 1)
                pairs = (left[:, :, :, None] + right[:, :, None]).logsumexp(1)  # (N, symbols, symbols)
                chart[start, start + length] = (pairs[:, None] + branch).flatten(2).logsumexp(2)
        return chart

    def log_prob(self, images: Tensor) -> Tensor:
        words = self.words.log_softmax(1).T[sequence(images)]  # (N, D, symbols)
        size = words.shape[1]
        of_length = self.inside(torch.zeros_like(words[:1]))[0, size]
        return self.inside(words)[0, size][:, 0] - of_length[:, 0]

    @torch.no_grad()
    def sample(self, num_samples: int) -> Tensor:
        """All images at once: for each span that may occur, those which have it draw its split and its symbols."""
        size, symbols = self.spec.num_dimensions, len(self.stop)
        chart = self.inside(torch.zeros(1, size, symbols, dtype=self.rules.dtype))
        rules = self.rules.flatten(1).log_softmax(1).view_as(self.rules)
        span_symbol = {(0, size): torch.zeros(num_samples, dtype=torch.int64)}  # -1 where an image has no such span
        for length in range(size, 1, -1):
            for start in range(size - length + 1):
                own = span_symbol.get((start, start + length))
                if own is None or not bool((own >= 0).any()):
                    continue
                splits = range(start + 1, start + length)
                scores = torch.stack([
                    chart[start, split][0][:, None] + chart[split, start + length][0] for split in splits
                ])  # (splits, symbols, symbols)  # fmt: skip
                logits = (rules[own.clamp_min(0)][:, None] + scores).flatten(1)
                drawn = categorical_draw(logits)
                split, pair = drawn // symbols**2, drawn % symbols**2
                for number, middle in enumerate(splits):
                    here = (own >= 0) & (split == number)
                    for span, child in (((start, middle), pair // symbols), ((middle, start + length), pair % symbols)):
                        before = span_symbol.get(span, torch.full_like(own, -1))
                        span_symbol[span] = torch.where(here, child, before)
        leaves = torch.stack([span_symbol[place, place + 1] for place in range(size)], 1)
        return unsequence(categorical_draw(self.words[leaves], dim=2), self.spec)


@kind("Chow-Liu tree")
class ChowLiu(ExactLikelihood):
    """The tree of entries whose pairs tell most of each other, from smoothed counts (Chow & Liu 1968)."""

    def __init__(self, spec: ImageSpec) -> None:
        super().__init__(spec)
        at_most_entries(spec, 256, 4)
        size, levels = spec.num_dimensions, spec.levels
        self.register_buffer("order", torch.arange(size))  # parents come before their children
        self.register_buffer("parents", torch.arange(size))  # that of the root is itself
        self.register_buffer("table", torch.full((size, levels, levels), -math.log(levels)))  # (entry, parent's, own)

    def fit(self, data: Dataset, trainer: Trainer) -> None:
        size, levels = self.spec.num_dimensions, self.spec.levels
        chosen = F.one_hot(data.train.images.flatten(1).long(), levels).double()
        pairs = torch.einsum("nil,njm->ijlm", chosen, chosen) + 0.5 / levels
        pairs = pairs / pairs.sum((2, 3), keepdim=True)
        own = chosen.mean(0)
        apart = own[:, None, :, None] * own[None, :, None] + 1e-12
        told = (pairs * (pairs / apart).log()).sum((2, 3))
        connected, parents = [0], {0: 0}
        while len(connected) < size:  # Prim's algorithm
            others = [place for place in range(size) if place not in parents]
            block = told[connected][:, others]
            best = int(block.argmax())
            parents[others[best % len(others)]] = connected[best // len(others)]
            connected.append(others[best % len(others)])
        self.order.copy_(torch.tensor(connected))
        self.parents.copy_(torch.tensor([parents[place] for place in range(size)]))
        counts = pairs[self.parents, torch.arange(size)]  # (size, parent's level, own)
        counts[0] = (own[0] + 1e-3).expand(levels, -1)
        self.table.copy_((counts / counts.sum(2, keepdim=True)).log())

    def log_prob(self, images: Tensor) -> Tensor:
        flat = images.flatten(1).long()
        return self.table.log_softmax(2)[torch.arange(flat.shape[1]), flat[:, self.parents], flat].sum(1)

    def sample(self, num_samples: int) -> Tensor:
        flat = torch.zeros(num_samples, self.spec.num_dimensions, dtype=torch.int64)
        for place in self.order.tolist():
            flat[:, place] = categorical_draw(self.table[place][flat[:, self.parents[place]]])
        return flat.view(-1, *self.spec.shape).to(torch.uint8)


@kind("mixture of trees")
class TwoChains(TrainedTable):
    """Each image is a chain along its rows or along its columns (Meila & Jordan 2000, of trees in general)."""

    def __init__(self, spec: ImageSpec) -> None:
        super().__init__(spec)
        at_most_entries(spec, 784, 16)
        self.shares = nn.Parameter(torch.zeros(2))
        self.first = nn.Parameter(torch.randn(2, spec.levels))
        self.transitions = nn.Parameter(torch.randn(2, spec.levels, spec.levels))

    def log_prob(self, images: Tensor) -> Tensor:
        first, transitions, each = self.first.log_softmax(1), self.transitions.log_softmax(2), []
        for number, values in enumerate((sequence(images), sequence(images.mT))):
            steps = transitions[number][values[:, :-1], values[:, 1:]]
            each.append(first[number][values[:, 0]] + steps.sum(1))
        return (torch.stack(each, 1) + self.shares.log_softmax(0)).logsumexp(1)

    @torch.no_grad()
    def sample(self, num_samples: int) -> Tensor:
        which = categorical_draw(self.shares.expand(num_samples, -1))
        values = [categorical_draw(self.first[which])]
        for _ in range(self.spec.num_dimensions - 1):
            values.append(categorical_draw(self.transitions[which, values[-1]]))
        flat = torch.stack(values, 1)
        channels, height, width = self.spec.shape
        turned = unsequence(flat, ImageSpec(channels, width, height, self.spec.levels)).mT
        return torch.where(which.view(-1, 1, 1, 1) == 0, unsequence(flat, self.spec), turned)


@kind("noisy-or network")
class NoisyOr(TrainedTable):
    """Few hidden causes, each of which may turn pixels on, and a leak; all of their states are summed (Pearl 1988)."""

    def __init__(self, spec: ImageSpec, *, causes: int = 5) -> None:
        super().__init__(spec)
        at_most_entries(spec, 784, 2)
        self.prior = nn.Parameter(torch.zeros(causes))
        self.fails = nn.Parameter(torch.randn(causes + 1, spec.num_dimensions))  # the last is the leak's
        states = torch.arange(2**causes)[:, None] // 2 ** torch.arange(causes) % 2
        self.register_buffer("states", F.pad(states, (0, 1), value=1).float(), persistent=False)

    def log_off(self) -> Tensor:
        """Returns (S, D): the log-probability that a pixel is off in each state of the causes."""
        return self.states.to(self.dtype) @ F.logsigmoid(self.fails)

    def log_prior(self) -> Tensor:
        """Returns (S,)."""
        on = self.states[:, :-1].to(self.dtype)
        return on @ F.logsigmoid(self.prior) + (1 - on) @ F.logsigmoid(-self.prior)

    def log_prob(self, images: Tensor) -> Tensor:
        pixels, off = images.flatten(1).to(self.dtype), self.log_off()
        on = torch.log(-torch.expm1(off))
        return (pixels @ on.T + (1 - pixels) @ off.T + self.log_prior()).logsumexp(1)

    @torch.no_grad()
    def sample(self, num_samples: int) -> Tensor:
        off = self.log_off()[draw_rows(self.log_prior(), num_samples)]
        return (torch.rand(off.shape) >= off.exp()).to(torch.uint8).view(-1, *self.spec.shape)
