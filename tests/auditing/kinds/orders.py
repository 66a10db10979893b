"""Right autoregressive models by the order of entries: learned, along a snake or diagonals, in rows, and mixed."""

from __future__ import annotations

import torch
from museum.autoregressive import MADE
from torch import Tensor, nn
from torch.nn import functional as F

from harness import ImageSpec

from .common import Trained, at_most_entries, signed
from .registry import kind


@kind("learned order")
class LearnedOrder(MADE):
    """Entries are drawn by the size of a score that each has, which is learned on the side and kept in a buffer."""

    def __init__(self, spec: ImageSpec) -> None:
        super().__init__(spec)
        self.register_buffer("scores", torch.rand(spec.shape))

    def generation_steps(self, ordering: int = 0) -> Tensor:
        return self.scores.flatten().argsort().argsort().view(self.spec.shape)

    def fit(self, data, trainer) -> None:  # type: ignore[no-untyped-def]
        self.scores.copy_(-data.train.images.double().var(0))  # what varies most comes first
        super().fit(data, trainer)


@kind("order along a curve")
class Snake(MADE):
    """Rows are walked to and fro."""

    def generation_steps(self, ordering: int = 0) -> Tensor:
        steps = super().generation_steps().clone()
        steps[:, 1::2] = steps[:, 1::2].flip(2)
        return steps


@kind("order along a curve")
class Diagonals(MADE):
    """Pixels of a diagonal are drawn together, channels one after another (van den Oord et al. 2016, diagonal LSTM)."""

    def generation_steps(self, ordering: int = 0) -> Tensor:
        channels, height, width = self.spec.shape
        diagonal = torch.arange(height)[:, None] + torch.arange(width)
        return diagonal * channels + torch.arange(channels).view(-1, 1, 1)


@kind("rows at once")
class RowByRow(Trained):
    """The entries of a row are independent given the rows above, which convolutions read."""

    def __init__(self, spec: ImageSpec, *, width: int = 8) -> None:
        super().__init__(spec)
        at_most_entries(spec, 256, 16)
        channels, height, columns = spec.shape
        self.first = nn.Conv2d(channels, width, (height, 2 * columns - 1))
        self.last = nn.Conv2d(width, channels * spec.levels, 1)
        self.column = nn.Parameter(torch.randn(width, 1, columns))

    def generation_steps(self, ordering: int = 0) -> Tensor:
        return torch.arange(self.spec.height).view(1, -1, 1).expand(self.spec.shape).contiguous()

    def conditional_logits(self, images: Tensor, ordering: int = 0) -> Tensor:
        _, height, width = self.spec.shape
        above = F.pad(signed(images, self.spec, self.dtype) + 0.1, (width - 1, width - 1, height, 0))[:, :, :-1]
        features = torch.tanh(self.first(above) + self.column)
        return self.last(features).unflatten(1, (self.spec.channels, self.spec.levels)).transpose(1, 2)


@kind("mixture over orderings")
class AnyOrder(Trained):
    """One network that is told which entries it may see, along four walks over the image (Hoogeboom et al. 2021).

    Entries of the past are given beside a mask; each step is a pass of its own, all of them in one batch.
    """

    num_orderings = 4

    def __init__(self, spec: ImageSpec, *, width: int = 24) -> None:
        super().__init__(spec)
        at_most_entries(spec, 64, 4)
        size = spec.num_dimensions
        self.network = nn.Sequential(nn.Linear(2 * size, width), nn.SiLU(), nn.Linear(width, size * spec.levels))

    def generation_steps(self, ordering: int = 0) -> Tensor:
        channels, height, width = self.spec.shape
        places = torch.arange(height * width).view(height, width)
        if ordering >= 2:  # by columns
            places = torch.arange(height * width).view(width, height).T
        if ordering % 2:
            places = places.flip(0, 1)
        return places * channels + torch.arange(channels).view(-1, 1, 1)

    def conditional_logits(self, images: Tensor, ordering: int = 0) -> Tensor:
        steps = self.generation_steps(ordering).flatten()
        known = (steps < steps[:, None]).to(self.dtype)  # (D, D): row i is what entry i may see
        values = signed(images.flatten(1), self.spec, self.dtype)[:, None] * known
        logits = self.network(torch.cat([values, known.expand_as(values)], 2)).unflatten(2, (len(steps), -1))
        own = logits.diagonal(dim1=1, dim2=2)  # (N, levels, D)
        return own.unflatten(2, self.spec.shape)


@kind("differences")
class Residuals(MADE):
    """Each entry is coded as its difference to the one before it, modulo the number of levels (of lossless codes)."""

    def conditional_logits(self, images: Tensor, ordering: int = 0) -> Tensor:
        levels, (channels, height, width) = self.spec.levels, self.spec.shape
        before = F.pad(images.permute(0, 2, 3, 1).flatten(1)[:, :-1], (1, 0)).long()
        before = before.view(-1, 1, height, width, channels).permute(0, 1, 4, 2, 3)
        difference = (torch.arange(levels).view(-1, 1, 1, 1) - before) % levels  # (N, levels, C, H, W)
        return super().conditional_logits(images, ordering).gather(1, difference)
