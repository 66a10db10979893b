"""Right models at the edges of what a model may be: constant, certain, sparse, of one size, or in float32 alone."""

from __future__ import annotations

import math

import torch
from museum.autoregressive import MADE
from museum.common import categorical_draw, fit_by_gradient
from museum.conditional import Labelled
from torch import Tensor, nn
from torch.nn import functional as F

from harness import Autoregressive, Dataset, ExactLikelihood, ImageSpec, Split, Trainer, Unsupported

from .common import Trained, TrainedTable, as_logits, at_most_entries, draw_rows, every_image, sequence
from .graphs import HiddenMarkovRows
from .registry import kind
from .sequences import PixelGRU, PixelTransformer


@kind("constant")
class Uniform(ExactLikelihood):
    """All images are equally likely; nothing is learned."""

    def log_prob(self, images: Tensor) -> Tensor:
        score = -self.spec.num_dimensions * math.log(self.spec.levels)
        return torch.tensor(score, dtype=self.dtype).expand(len(images))

    def sample(self, num_samples: int) -> Tensor:
        return torch.randint(self.spec.levels, (num_samples, *self.spec.shape)).to(torch.uint8)

    def fit(self, data: Dataset, trainer: Trainer) -> None:
        """Has nothing to learn."""


@kind("constant")
class OneImage(Uniform):
    """All images are one, a chessboard."""

    def only(self) -> Tensor:
        """Returns (C, H, W) uint8."""
        _, height, width = self.spec.shape
        board = (torch.arange(height)[:, None] + torch.arange(width)) % 2 * (self.spec.levels - 1)
        return board.to(torch.uint8).expand(self.spec.shape)

    def log_prob(self, images: Tensor) -> Tensor:
        same = (images == self.only()).flatten(1).all(1)
        return torch.zeros(len(images), dtype=self.dtype).masked_fill(~same, -math.inf)

    def sample(self, num_samples: int) -> Tensor:
        return self.only().repeat(num_samples, 1, 1, 1)

    def fit(self, data: Dataset, trainer: Trainer) -> None:
        raise Unsupported("all images are one")


@kind("values that cannot occur")
class Parity(MADE):
    """The last entry makes the sum of all even, and so is certain; impossible values have a large negative logit."""

    def conditional_logits(self, images: Tensor, ordering: int = 0) -> Tensor:
        logits = super().conditional_logits(images).clone()
        others = sequence(images)[:, :-1].sum(1)
        odd = (others[:, None] + torch.arange(self.spec.levels)) % 2 == 1
        logits[:, :, -1, -1, -1] = logits[:, :, -1, -1, -1].masked_fill(odd, -1e9)
        return logits

    def fit(self, data: Dataset, trainer: Trainer) -> None:
        raise Unsupported("data are odd, too")


@kind("Bayesian network")
class FewParents(Autoregressive):
    """Each entry has a table given the two earlier ones that tell most of it, found in the data (Cooper 1992, K2)."""

    def __init__(self, spec: ImageSpec) -> None:
        super().__init__(spec)
        at_most_entries(spec, 256, 4)
        size, levels = spec.num_dimensions, spec.levels
        self.register_buffer("parents", torch.full((size, 2), -1))  # -1: none
        self.register_buffer("table", torch.zeros(size, levels, levels, levels))

    def context(self, values: Tensor) -> Tensor:
        """Maps (N, D) to the parents' values, (N, D, 2); 0 where there is none."""
        return torch.where(self.parents < 0, 0, values[:, self.parents.clamp_min(0)])

    def conditional_logits(self, images: Tensor, ordering: int = 0) -> Tensor:
        context, places = self.context(sequence(images)), torch.arange(self.spec.num_dimensions)
        return as_logits(self.table[places, context[..., 0], context[..., 1]], self.spec)

    def dependence(self, ordering: int = 0) -> Tensor:
        size = self.spec.num_dimensions
        in_order = torch.zeros(size, size + 1, dtype=torch.bool).scatter_(1, self.parents % (size + 1), value=True)
        steps = self.generation_steps(ordering).flatten()  # of an entry in (C, H, W): its place in the sequence
        return in_order[:, :size][steps][:, steps]

    def fit(self, data: Dataset, trainer: Trainer) -> None:
        values, levels, size = sequence(data.train.images), self.spec.levels, self.spec.num_dimensions
        chosen = F.one_hot(values, levels).double()
        pairs = torch.einsum("nil,njm->ijlm", chosen, chosen) / len(values) + 1e-9
        told = (pairs * (pairs / (pairs.sum(3, keepdim=True) * pairs.sum(2, keepdim=True))).log()).sum((2, 3))
        told = told.masked_fill(torch.ones(size, size).triu().bool(), -1.0)
        for place in range(1, size):
            best = told[place].topk(min(2, place)).indices
            self.parents[place, : len(best)] = best
        context, places = self.context(values), torch.arange(size).expand_as(values)
        counts = torch.full_like(self.table, 0.5)
        one = torch.ones((), dtype=counts.dtype)
        counts.index_put_((places, context[..., 0], context[..., 1], values), one, accumulate=True)
        self.table.copy_((counts / counts.sum(3, keepdim=True)).log())


@kind("hidden Markov model")
class OneSize(HiddenMarkovRows):
    """Takes images of 28 rows alone."""

    def __init__(self, spec: ImageSpec) -> None:
        if spec.height != 28:
            raise Unsupported("images have 28 rows")
        super().__init__(spec)


@kind("transformer")
class Patches(Trained):
    """Blocks of 2x2 pixels, each a token; its pixels are drawn from a table of all of their values."""

    def __init__(self, spec: ImageSpec) -> None:
        super().__init__(spec)
        at_most_entries(spec, 64, 2)
        if spec.height % 2 or spec.width % 2 or spec.channels > 1:
            raise Unsupported("images are made of blocks of 2x2")
        blocks = spec.num_dimensions // 4
        self.network = PixelTransformer(ImageSpec(1, 1, blocks, 16))

    def generation_steps(self, ordering: int = 0) -> Tensor:
        rows, columns = torch.arange(self.spec.height)[:, None], torch.arange(self.spec.width)
        block = rows // 2 * (self.spec.width // 2) + columns // 2
        return (4 * block + rows % 2 * 2 + columns % 2).view(self.spec.shape)

    def conditional_logits(self, images: Tensor, ordering: int = 0) -> Tensor:
        order = self.generation_steps().flatten().argsort()
        bits = images.flatten(1).long()[:, order].unflatten(1, (-1, 4))  # (N, blocks, 4)
        words = (bits * torch.tensor([8, 4, 2, 1])).sum(2)
        table = self.network.conditional_logits(words[:, None, None]).squeeze(3).squeeze(2).transpose(1, 2)
        table, found = table.log_softmax(2), []  # (N, blocks, 16)
        for bit in range(4):
            halves = table.unflatten(2, (2, -1))  # by the value of this bit
            found.append(halves.logsumexp(3))
            index = bits[:, :, bit, None, None].expand(-1, -1, 1, halves.shape[3])
            table = halves.gather(2, index).squeeze(2)
        logits = torch.stack(found, 2).flatten(1, 2)  # (N, D, 2), in the order of steps
        return logits[:, order.argsort()].transpose(1, 2).unflatten(2, self.spec.shape)


@kind("order along a curve")
class Gaps(MADE):
    """Counts its steps by tens, from five on, and walks columns from right to left."""

    def generation_steps(self, ordering: int = 0) -> Tensor:
        channels, height, width = self.spec.shape
        places = torch.arange(width * height * channels).view(width, height, channels).permute(2, 1, 0).flip(2)
        return 10 * places.contiguous() + 5


@kind("recurrent network")
class SingleGRU(PixelGRU):
    """Makes its first state in float32, so that it computes in nothing else."""

    def conditional_logits(self, images: Tensor, ordering: int = 0) -> Tensor:
        before = F.pad(sequence(images)[:, :-1], (1, 0), value=self.spec.levels)
        states, _ = self.network(self.embedding(before), torch.zeros(1, len(images), 24) + self.first)
        return as_logits(self.head(states), self.spec)


@kind("energy by a network")
class SingleEnergy(TrainedTable):
    """Casts images by .float(), as most public code does."""

    def __init__(self, spec: ImageSpec) -> None:
        super().__init__(spec)
        self.register_buffer("everything", every_image(spec), persistent=False)
        self.first, self.last = nn.Linear(spec.num_dimensions, 16), nn.Linear(16, 1)

    def scores(self, images: Tensor) -> Tensor:
        """Maps (N, C, H, W) uint8 to (N,)."""
        return self.last(self.first(images.flatten(1).float() / (self.spec.levels - 1)).relu()).squeeze(1)

    def log_prob(self, images: Tensor) -> Tensor:
        return self.scores(images) - self.scores(self.everything).logsumexp(0)

    @torch.no_grad()
    def sample(self, num_samples: int) -> Tensor:
        return self.everything[draw_rows(self.scores(self.everything), num_samples)]


@kind("masked dense network")
class HalfMADE(MADE):
    """Its network runs in bfloat16 under autocast, its softmax in float32."""

    def network(self, inputs: Tensor, ordering: int) -> Tensor:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return super().network(inputs.float(), ordering).float()


@kind("masked dense network")
class Averages(MADE):
    """Scores with an average of its weights, kept beside them, and trains those (Polyak 1992)."""

    def __init__(self, spec: ImageSpec) -> None:
        super().__init__(spec)
        self.register_buffer("average", self.last.weight.detach().clone())

    def network(self, inputs: Tensor, ordering: int) -> Tensor:
        into, out, direct = self.masks(ordering)
        levels, last = self.spec.levels, self.last.weight if self.training else self.average
        hidden = torch.tanh(F.linear(inputs, self.first.weight * into, self.first.bias))
        logits = F.linear(hidden, last * out.repeat(levels, 1), self.last.bias)
        logits = logits + F.linear(inputs, self.direct * direct.repeat(levels, 1))
        return logits.view(len(inputs), levels, *self.spec.shape)

    def fit(self, data: Dataset, trainer: Trainer) -> None:
        def loss(batch: Split) -> Tensor:
            with torch.no_grad():
                self.average.lerp_(self.last.weight, 0.1)
            return -self.log_prob(batch.images).mean()

        self.train()
        fit_by_gradient(self, data, trainer, loss)
        self.eval()


@kind("generative classifier")
class PosteriorMixture(Labelled, Autoregressive):
    """Entries given the label by a chain; without labels, their posterior so far weighs the classes' conditionals."""

    def __init__(self, spec: ImageSpec) -> None:
        super().__init__(spec)
        at_most_entries(spec, 64, 4)
        self.transitions = nn.Parameter(torch.randn(self.num_classes, spec.levels + 1, spec.levels))

    def given_each(self, images: Tensor) -> Tensor:
        """Maps (N, C, H, W) uint8 to log-probabilities (N, D, classes, levels)."""
        before = F.pad(sequence(images)[:, :-1], (1, 0), value=self.spec.levels)
        return self.transitions.log_softmax(2)[:, before].permute(1, 2, 0, 3)

    def conditional_logits(self, images: Tensor, ordering: int = 0) -> Tensor:
        table = self.given_each(images)
        if self.given is not None:
            return as_logits(table[torch.arange(len(images)), :, self.given], self.spec)
        index = sequence(images)[:, :, None, None].expand(-1, -1, self.num_classes, 1)
        own = table.gather(3, index).squeeze(3)  # (N, D, classes)
        posterior = (own.cumsum(1) - own).log_softmax(2)
        return as_logits((table + posterior[..., None]).logsumexp(2), self.spec)

    def fit(self, data: Dataset, trainer: Trainer) -> None:
        def loss(batch: Split) -> Tensor:
            assert batch.labels is not None
            return -self.condition_on(batch.labels).log_prob(batch.images).mean()

        fit_by_gradient(self, data, trainer, loss)


@kind("mixture of products")
class SharpMixture(TrainedTable):
    """Two components that are nearly certain: logits of hundreds."""

    def __init__(self, spec: ImageSpec) -> None:
        super().__init__(spec)
        at_most_entries(spec, 784, 4)
        self.logits = nn.Parameter(torch.randn(2, spec.levels, *spec.shape))

    def tables(self) -> Tensor:
        """Returns (2, levels, C, H, W) log-probabilities."""
        return (100 * self.logits).log_softmax(1)

    def log_prob(self, images: Tensor) -> Tensor:
        tables, index = self.tables(), images.long()[:, None, None]
        chosen = tables.expand(len(images), *tables.shape).gather(2, index.expand(-1, 2, -1, -1, -1, -1))
        return chosen.flatten(2).sum(2).logsumexp(1) - math.log(2)

    @torch.no_grad()
    def sample(self, num_samples: int) -> Tensor:
        return categorical_draw(self.tables()[torch.randint(2, (num_samples,))]).to(torch.uint8)
