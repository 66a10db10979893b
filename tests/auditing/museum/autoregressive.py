"""Right autoregressive models: a chain, masked networks, a recurrent one, and one that draws pixels in groups."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from harness import Autoregressive, Dataset, ImageSpec, Noise, Sampler, SamplingTrace, Trainer

from .common import at_most, centred, fit_by_gradient
from .registry import right


class Trained(Autoregressive):
    """Trained by the mean of its own log_prob."""

    def fit(self, data: Dataset, trainer: Trainer) -> None:
        fit_by_gradient(self, data, trainer, lambda batch: -self.log_prob(batch.images).mean())


@right
class MarkovChain(Trained):
    """A chain over entries in raster order, each of which sees the one before it, and says so."""

    def __init__(self, spec: ImageSpec) -> None:
        super().__init__(spec)
        at_most(spec, 1600)
        self.first = nn.Parameter(torch.randn(spec.levels))
        self.transitions = nn.Parameter(torch.randn(spec.levels, spec.levels))

    def conditional_logits(self, images: Tensor, ordering: int = 0) -> Tensor:
        rows = images.permute(0, 2, 3, 1)  # (N, H, W, C): raster order, the channels of a pixel one after another
        values = rows.flatten(1).long()
        logits = torch.cat([self.first.expand(len(images), 1, -1), self.transitions[values[:, :-1]]], 1)
        return logits.view(*rows.shape, self.spec.levels).permute(0, 4, 3, 1, 2)

    def dependence(self, ordering: int = 0) -> Tensor:
        steps = self.generation_steps(ordering).flatten()
        return steps[:, None] == steps[None, :] + 1


@right
class MADE(Trained):
    """A masked network: a hidden layer, and a direct one (Germain et al. 2015, arXiv 1502.03509)."""

    def __init__(self, spec: ImageSpec, *, hidden: int = 32) -> None:
        super().__init__(spec)
        at_most(spec, 1100)
        size = spec.num_dimensions
        self.first = nn.Linear(size, hidden)
        self.last = nn.Linear(hidden, spec.levels * size)
        self.direct = nn.Parameter(torch.zeros(spec.levels * size, size))

    def masks(self, ordering: int) -> tuple[Tensor, Tensor, Tensor]:
        """Returns the masks of inputs to hidden (H, D), hidden to outputs (D, H), and inputs to outputs (D, D)."""
        steps = self.generation_steps(ordering).flatten()
        degrees = torch.linspace(0, float(steps.max()), len(self.first.weight)).round()  # the last step a unit sees
        return steps <= degrees[:, None], steps[:, None] > degrees, steps[:, None] > steps

    def conditional_logits(self, images: Tensor, ordering: int = 0) -> Tensor:
        return self.network(centred(images, self.spec, self.dtype), ordering)

    def network(self, inputs: Tensor, ordering: int) -> Tensor:
        """Maps (N, D) to logits (N, levels, C, H, W)."""
        into, out, direct = self.masks(ordering)
        levels = self.spec.levels
        hidden = torch.tanh(F.linear(inputs, self.first.weight * into, self.first.bias))
        logits = F.linear(hidden, self.last.weight * out.repeat(levels, 1), self.last.bias)
        logits = logits + F.linear(inputs, self.direct * direct.repeat(levels, 1))
        return logits.view(len(inputs), levels, *self.spec.shape)


@right
class OrderAgnosticMADE(MADE):
    """A mixture of MADEs over orderings that share their weights (Uria et al. 2014, arXiv 1310.1757)."""

    num_orderings = 3

    def generation_steps(self, ordering: int = 0) -> Tensor:
        if ordering == 0:
            return super().generation_steps()
        shuffle = torch.Generator().manual_seed(ordering)
        return torch.randperm(self.spec.num_dimensions, generator=shuffle).view(self.spec.shape)


@right
class Multiscale(MADE):
    """Pixels in four groups, each independent given the ones before (Reed et al. 2017, arXiv 1703.03664)."""

    def generation_steps(self, ordering: int = 0) -> Tensor:
        channels, height, width = self.spec.shape
        group = (torch.arange(height) % 2)[:, None] * 2 + torch.arange(width) % 2  # (H, W)
        return group * channels + torch.arange(channels).view(-1, 1, 1)


@right
class NADE(Trained):
    """A hidden layer to which each entry is added once it is drawn (Larochelle & Murray 2011); so does a sampler."""

    def __init__(self, spec: ImageSpec, *, hidden: int = 16) -> None:
        super().__init__(spec)
        at_most(spec, 1600)
        size = spec.num_dimensions
        self.bias = nn.Parameter(torch.zeros(hidden))
        self.into = nn.Parameter(torch.randn(size, hidden) / size**0.5)
        self.out = nn.Parameter(torch.randn(size, spec.levels, hidden) / hidden**0.5)
        self.levels_bias = nn.Parameter(torch.zeros(size, spec.levels))

    def in_raster_order(self, images: Tensor) -> Tensor:
        """Maps (N, C, H, W) uint8 to (N, D) in [-1, 1], in the order in which entries are drawn."""
        return centred(images.permute(0, 2, 3, 1), self.spec, self.dtype)

    def conditional_logits(self, images: Tensor, ordering: int = 0) -> Tensor:
        terms = self.in_raster_order(images)[:, :, None] * self.into  # (N, D, hidden)
        before = terms.cumsum(1) - terms
        logits = torch.einsum("ndh,dlh->ndl", torch.tanh(self.bias + before), self.out) + self.levels_bias
        channels, height, width = self.spec.shape
        return logits.view(len(images), height, width, channels, -1).permute(0, 4, 3, 1, 2)

    def samplers(self) -> dict[str, Sampler]:
        return {"incremental": self.incremental, **super().samplers()}

    @torch.no_grad()
    def incremental(
        self,
        num_samples: int,
        *,
        noise: Noise | None = None,
        known: Tensor | None = None,
        mask: Tensor | None = None,
        trace: SamplingTrace | None = None,
    ) -> Tensor:
        """Draws entries one after another, and adds each to the hidden layer: one pass in all."""
        noise = self.draw_noise(num_samples) if noise is None else noise
        images = torch.zeros(num_samples, *self.spec.shape, dtype=torch.uint8)
        kept = None if mask is None else mask.expand(images.shape)
        state = self.bias.expand(num_samples, -1)
        channels, _, width = self.spec.shape
        for step in range(self.spec.num_dimensions):
            pixel, channel = divmod(step, channels)
            where = (slice(None), channel, *divmod(pixel, width))
            value = self.draw(state, step, noise.gumbel[:, :, *where[1:]])
            if known is not None and kept is not None:
                value = torch.where(kept[where], known[where].long(), value)
            images[where] = value.to(torch.uint8)
            state = self.update(state, step, value)
            if trace is not None:
                trace.sequential_depth += 1
        if trace is not None:
            trace.network_evaluations += 1
        return images

    def draw(self, state: Tensor, step: int, gumbel: Tensor) -> Tensor:
        """Draws entry number ``step``, (N,), given the state (N, hidden) and noise (N, levels)."""
        return (torch.tanh(state) @ self.out[step].T + self.levels_bias[step] + gumbel).argmax(1)

    def update(self, state: Tensor, step: int, value: Tensor) -> Tensor:
        """Adds an entry's values (N,) to the state (N, hidden)."""
        return state + (value.to(self.dtype) * (2 / (self.spec.levels - 1)) - 1)[:, None] * self.into[step]


@right
class RowRNN(Trained):
    """A state that is carried from row to row, and a masked layer inside of each row."""

    def __init__(self, spec: ImageSpec, *, hidden: int = 16) -> None:
        super().__init__(spec)
        at_most(spec, 1100)
        row = spec.width * spec.channels
        self.read = nn.Linear(row, hidden)
        self.carry = nn.Linear(hidden, hidden, bias=False)
        self.write = nn.Linear(hidden, row * spec.levels)
        self.within = nn.Parameter(torch.zeros(spec.levels, row, row))

    def conditional_logits(self, images: Tensor, ordering: int = 0) -> Tensor:
        channels, height, width = self.spec.shape
        rows = centred(images.permute(0, 2, 3, 1), self.spec, self.dtype).view(len(images), height, -1)
        past = torch.ones(rows.shape[2], rows.shape[2], dtype=torch.bool).tril(-1)
        logits = torch.einsum("nrj,lij->nrli", rows, self.within * past)
        logits = logits + self.write(self.states(rows)).view(len(images), height, self.spec.levels, -1)
        return logits.view(len(images), height, self.spec.levels, width, channels).permute(0, 2, 4, 1, 3)

    def states(self, rows: Tensor) -> Tensor:
        """Maps rows (N, H, R) to the states (N, H, hidden) that have seen the rows above."""
        state = torch.zeros(len(rows), self.carry.weight.shape[0], dtype=rows.dtype)
        found = []
        for row in rows.unbind(1):
            found.append(state)
            state = self.next_state(state, row)
        return torch.stack(found, 1)

    def next_state(self, state: Tensor, row: Tensor) -> Tensor:
        """Returns the state (N, hidden) after a row (N, R)."""
        return torch.tanh(self.carry(state) + self.read(row))
