"""Right models by closed formulas: tables, counts, urns, a copula, a quadrature, neighbours, contexts."""

from __future__ import annotations

import math

import torch
from museum.common import fit_by_gradient, pick
from numpy.polynomial.hermite_e import hermegauss
from torch import Tensor, nn
from torch.nn import functional as F

from harness import Autoregressive, Dataset, ExactLikelihood, ImageSpec, Trainer

from .common import (
    Trained,
    TrainedTable,
    as_logits,
    at_most_entries,
    categorical_draw,
    draw_rows,
    every_image,
    number_of,
    sequence,
)
from .registry import kind


@kind("table of all images")
class FullTable(TrainedTable):
    """A logit for each image."""

    def __init__(self, spec: ImageSpec) -> None:
        super().__init__(spec)
        self.register_buffer("everything", every_image(spec), persistent=False)
        self.logits = nn.Parameter(torch.zeros(len(self.everything)))

    def log_prob(self, images: Tensor) -> Tensor:
        return self.logits.log_softmax(0)[number_of(images, self.spec)]

    @torch.no_grad()
    def sample(self, num_samples: int) -> Tensor:
        return self.everything[draw_rows(self.logits, num_samples)]


@kind("table of all images")
class GoodTuring(ExactLikelihood):
    """Frequencies of images, discounted, and what that leaves spread over images never seen; it keeps its counts."""

    def __init__(self, spec: ImageSpec) -> None:
        super().__init__(spec)
        count = len(every_image(spec))
        self.register_buffer("counts", torch.zeros(count))

    def probs(self) -> Tensor:
        """Returns (M,) float64: a nothing seen is uniform."""
        counts = self.counts.double()
        seen = counts > 0
        if not bool(seen.any()) or bool(seen.all()):
            return (counts + 1) / (counts + 1).sum()
        left = 0.5 * seen.sum() / counts.sum()
        return torch.where(seen, (counts - 0.5) / counts.sum(), left / (~seen).sum())

    def fit(self, data: Dataset, trainer: Trainer) -> None:
        index = number_of(data.train.images, self.spec)
        self.counts.copy_(torch.bincount(index, minlength=len(self.counts)))

    def log_prob(self, images: Tensor) -> Tensor:
        return self.probs().log()[number_of(images, self.spec)]

    def sample(self, num_samples: int) -> Tensor:
        return every_image(self.spec)[draw_rows(self.probs().log(), num_samples)]


@kind("values that cannot occur")
class SeenValues(ExactLikelihood):
    """Frequencies of each entry without smoothing: what no training image has is impossible."""

    def __init__(self, spec: ImageSpec) -> None:
        super().__init__(spec)
        self.register_buffer("counts", torch.ones(spec.levels, *spec.shape))

    def fit(self, data: Dataset, trainer: Trainer) -> None:
        self.counts.copy_(F.one_hot(data.train.images[:3].long(), self.spec.levels).sum(0).permute(3, 0, 1, 2))

    def log_prob(self, images: Tensor) -> Tensor:
        table = (self.counts / self.counts.sum(0)).log()
        return pick(table.expand(len(images), *table.shape), images).flatten(1).sum(1)

    def sample(self, num_samples: int) -> Tensor:
        return categorical_draw(self.counts.log().expand(num_samples, *self.counts.shape)).to(torch.uint8)


@kind("exchangeable entries")
class PolyaUrn(Trained):
    """Each entry is drawn like those before it: the order of entries makes no difference (Eggenberger & Polya 1923)."""

    def __init__(self, spec: ImageSpec) -> None:
        super().__init__(spec)
        at_most_entries(spec, 784, 4)
        self.log_balls = nn.Parameter(torch.zeros(spec.levels))

    def conditional_logits(self, images: Tensor, ordering: int = 0) -> Tensor:
        chosen = F.one_hot(sequence(images), self.spec.levels).to(self.dtype)
        return as_logits((chosen.cumsum(1) - chosen + self.log_balls.exp()).log(), self.spec)


@kind("exchangeable entries")
class ByCounts(TrainedTable):
    """How many entries have each level has a probability; all images with the same counts are equally likely."""

    def __init__(self, spec: ImageSpec) -> None:
        super().__init__(spec)
        at_most_entries(spec, 784, 2)
        size = spec.num_dimensions
        self.logits = nn.Parameter(torch.zeros(size + 1))
        number = torch.arange(size + 1.0, dtype=torch.float64)
        ways = math.lgamma(size + 1) - torch.lgamma(number + 1) - torch.lgamma(size - number + 1)
        self.register_buffer("log_ways", ways, persistent=False)

    def log_prob(self, images: Tensor) -> Tensor:
        return (self.logits.log_softmax(0) - self.log_ways.to(self.dtype))[images.flatten(1).sum(1)]

    @torch.no_grad()
    def sample(self, num_samples: int) -> Tensor:
        number = draw_rows(self.logits, num_samples)
        ranks = torch.rand(num_samples, self.spec.num_dimensions).argsort(1).argsort(1)
        return (ranks < number[:, None]).to(torch.uint8).view(-1, *self.spec.shape)


@kind("copula")
class ClaytonCopula(TrainedTable):
    """Any margins, joined by an Archimedean copula; a cell is a signed sum over its corners (Marshall & Olkin 1988)."""

    def __init__(self, spec: ImageSpec) -> None:
        super().__init__(spec)
        at_most_entries(spec, 9)
        self.margins = nn.Parameter(torch.randn(spec.num_dimensions, spec.levels))
        self.log_theta = nn.Parameter(torch.tensor(0.0))
        corners = torch.arange(2**spec.num_dimensions)[:, None] // 2 ** torch.arange(spec.num_dimensions) % 2
        self.register_buffer("corners", corners, persistent=False)

    def edges(self) -> Tensor:
        """Returns (D, levels + 1) float64: the distribution function of each entry."""
        return F.pad(self.margins.double().softmax(1).cumsum(1), (1, 0))

    def log_prob(self, images: Tensor) -> Tensor:
        theta, edges, flat = self.theta(), self.edges().clamp(1e-30, 1.0), images.flatten(1).long()
        places = torch.arange(flat.shape[1])
        powers = edges.log().mul(-theta).clamp_max(600).expm1()  # u^-theta - 1
        lower, upper = powers[places, flat], powers[places, flat + 1]  # (N, D)
        corners = self.corners.double()
        sums = lower @ (1 - corners).T + upper @ corners.T
        signs = 1 - 2 * ((1 - corners).sum(1) % 2)
        mass = ((1 + sums).log().div(-theta).exp() * signs).sum(1)
        return mass.clamp_min(1e-30).log().to(self.dtype)

    def theta(self) -> Tensor:
        """Returns the strength of the dependence, in (0.3, 3.3)."""
        return 0.3 + 3 * self.log_theta.double().sigmoid()

    @torch.no_grad()
    def sample(self, num_samples: int) -> Tensor:
        theta = self.theta()
        frailty = (
            torch.distributions.Gamma(1 / theta, torch.ones_like(theta)).sample((num_samples, 1)).clamp_min(1e-300)
        )
        hazard = torch.empty(num_samples, self.spec.num_dimensions, dtype=torch.float64).exponential_()
        uniform = (-torch.log1p(hazard / frailty) / theta).exp()
        inner = self.edges()[:, 1:-1].contiguous()
        return (uniform[:, :, None] > inner).sum(2).to(torch.uint8).view(-1, *self.spec.shape)


@kind("quadrature over a latent")
class LogisticNormal(TrainedTable):
    """Logits are linear in one normal number, which is summed over the nodes of a quadrature: so many are the model."""

    def __init__(self, spec: ImageSpec, *, nodes: int = 12) -> None:
        super().__init__(spec)
        at_most_entries(spec, 784, 16)
        points, weights = hermegauss(nodes)
        self.register_buffer("points", torch.tensor(points).float())
        self.register_buffer("log_weights", torch.tensor(weights / weights.sum()).log().float())
        self.base = nn.Parameter(torch.zeros(spec.levels, *spec.shape))
        self.slope = nn.Parameter(torch.randn(spec.levels, *spec.shape))

    def tables(self) -> Tensor:
        """Returns (nodes, levels, C, H, W) logits."""
        return self.base + self.points.to(self.dtype).view(-1, 1, 1, 1, 1) * self.slope

    def log_prob(self, images: Tensor) -> Tensor:
        tables = self.tables().log_softmax(1)
        each = [pick(table.expand(len(images), *table.shape), images).flatten(1).sum(1) for table in tables]
        return (torch.stack(each, 1) + self.log_weights.to(self.dtype)).logsumexp(1)

    @torch.no_grad()
    def sample(self, num_samples: int) -> Tensor:
        return categorical_draw(self.tables()[draw_rows(self.log_weights, num_samples)]).to(torch.uint8)


@kind("mixture of products")
class EMMixture(ExactLikelihood):
    """A mixture fitted by expectation and maximisation, with a temperature of its own for each component."""

    def __init__(self, spec: ImageSpec, *, components: int = 4) -> None:
        super().__init__(spec)
        at_most_entries(spec, 784, 16)
        start = torch.rand(components, spec.levels, *spec.shape) + 0.5
        self.register_buffer("probs", start / start.sum(1, keepdim=True))
        self.register_buffer("shares", torch.full((components,), 1 / components))
        self.register_buffer("temperatures", torch.linspace(0.8, 1.6, components))

    def tables(self) -> Tensor:
        """Returns (components, levels, C, H, W) log-probabilities."""
        return (self.probs.log() / self.temperatures.view(-1, 1, 1, 1, 1)).log_softmax(1)

    def log_joint(self, images: Tensor) -> Tensor:
        """Maps (N, C, H, W) uint8 to (N, components)."""
        each = [pick(table.expand(len(images), *table.shape), images).flatten(1).sum(1) for table in self.tables()]
        return torch.stack(each, 1) + self.shares.log().log_softmax(0)

    def log_prob(self, images: Tensor) -> Tensor:
        return self.log_joint(images).logsumexp(1)

    def sample(self, num_samples: int) -> Tensor:
        component = torch.multinomial(self.shares, num_samples, replacement=True)
        return categorical_draw(self.tables()[component]).to(torch.uint8)

    @torch.no_grad()
    def fit(self, data: Dataset, trainer: Trainer) -> None:
        for batch in trainer.batches(data.train, batch_size=200):
            weights = self.log_joint(batch.images).softmax(1)
            chosen = F.one_hot(batch.images.long(), self.spec.levels).to(self.dtype).permute(0, 4, 1, 2, 3)
            found = torch.einsum("nk,nlchw->klchw", weights, chosen) + 0.1
            self.probs.lerp_(found / found.sum(1, keepdim=True), 0.2)
            self.shares.lerp_((weights.sum(0) + 1) / (len(weights) + weights.shape[1]), 0.2)


@kind("probabilities kept in a range")
class SimplexShares(ExactLikelihood):
    """A mixture whose shares and probabilities are parameters themselves, which its fit projects to sum to one."""

    def __init__(self, spec: ImageSpec, *, components: int = 3) -> None:
        super().__init__(spec)
        at_most_entries(spec, 784, 16)
        self.shares = nn.Parameter(torch.full((components,), 1 / components))
        self.probs = nn.Parameter(torch.rand(components, spec.levels, *spec.shape) + 0.2)
        self.project_()

    @torch.no_grad()
    def project_(self) -> None:
        for value, dim in ((self.shares, 0), (self.probs, 1)):
            value.clamp_(min=1e-3)
            value.div_(value.sum(dim, keepdim=True))

    def log_prob(self, images: Tensor) -> Tensor:
        table = self.probs.log()
        each = [pick(part.expand(len(images), *part.shape), images).flatten(1).sum(1) for part in table]
        return (torch.stack(each, 1) + self.shares.log()).logsumexp(1)

    @torch.no_grad()
    def sample(self, num_samples: int) -> Tensor:
        component = categorical_draw(self.shares.log().expand(num_samples, -1))
        return categorical_draw(self.probs[component].log()).to(torch.uint8)

    def fit(self, data: Dataset, trainer: Trainer) -> None:
        optimizer = torch.optim.SGD(self.parameters(), lr=1e-3)
        trainer.track(optimizer=optimizer)
        for batch in trainer.batches(data.train, batch_size=100):
            loss = -self.log_prob(batch.images).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            self.project_()
            trainer.log(loss=loss)


@kind("kernel density")
class LearnedBandwidth(ExactLikelihood):
    """A kernel on each kept image, whose bandwidth is trained by leaving each image out of its own score."""

    def __init__(self, spec: ImageSpec, *, kept: int = 60) -> None:
        super().__init__(spec)
        self.kept = kept
        self.register_buffer("centres", torch.empty(0, dtype=torch.uint8))
        self.log_odds = nn.Parameter(torch.zeros(spec.channels))  # that an entry is kept and not drawn anew

    def log_kernels(self, images: Tensor) -> Tensor:
        """Maps (N, C, H, W) uint8 to (N, M) nats."""
        same = (images[:, None] == self.centres).flatten(3).to(self.dtype)  # (N, M, C, HW)
        stays = self.log_odds.sigmoid()[:, None]
        other = (1 - stays) / self.spec.levels
        return (same * (stays + other).log() + (1 - same) * other.log()).flatten(2).sum(2)

    def log_prob(self, images: Tensor) -> Tensor:
        return self.log_kernels(images).logsumexp(1) - math.log(len(self.centres))

    @torch.no_grad()
    def sample(self, num_samples: int) -> Tensor:
        centres = self.centres[torch.randint(len(self.centres), (num_samples,))]
        stays = torch.rand(centres.shape) < self.log_odds.sigmoid().view(-1, 1, 1)
        return torch.where(stays, centres, torch.randint_like(centres, self.spec.levels))

    def fit(self, data: Dataset, trainer: Trainer) -> None:
        self.centres = data.train.images[: self.kept].clone()

        def loss(batch) -> Tensor:  # type: ignore[no-untyped-def]
            kernels = self.log_kernels(self.centres).masked_fill(torch.eye(len(self.centres)).bool(), -math.inf)
            return -kernels.logsumexp(1).mean()

        fit_by_gradient(self, data, trainer, loss)


@kind("nearest neighbours")
class NeighbourHistogram(Autoregressive):
    """A histogram of what the kept images have next, those that agree on more of the past counting for more."""

    def __init__(self, spec: ImageSpec, *, kept: int = 40) -> None:
        super().__init__(spec)
        at_most_entries(spec, 256)
        self.kept = kept
        self.register_buffer("centres", torch.empty(0, dtype=torch.int64))

    def fit(self, data: Dataset, trainer: Trainer) -> None:
        self.centres = sequence(data.train.images[: self.kept])

    def conditional_logits(self, images: Tensor, ordering: int = 0) -> Tensor:
        same = (sequence(images)[:, None] == self.centres).to(self.dtype)  # (N, M, D)
        weights = (0.4 * (same.cumsum(2) - same)).softmax(1)  # of the past's
        chosen = F.one_hot(self.centres, self.spec.levels).to(self.dtype)
        return as_logits((torch.einsum("nmd,mdl->ndl", weights, chosen) + 0.05).log(), self.spec)


@kind("images of which most are one")
class Inflated(TrainedTable):
    """A share of blank images, the others by independent entries (Lambert 1992)."""

    def __init__(self, spec: ImageSpec) -> None:
        super().__init__(spec)
        at_most_entries(spec, 784, 256)
        self.log_odds = nn.Parameter(torch.tensor(0.5))
        self.logits = nn.Parameter(torch.zeros(spec.levels, *spec.shape))

    def log_prob(self, images: Tensor) -> Tensor:
        table = self.logits.log_softmax(0)
        others = F.logsigmoid(-self.log_odds) + pick(table.expand(len(images), *table.shape), images).flatten(1).sum(1)
        blank = (images == 0).flatten(1).all(1)
        return torch.where(blank, torch.logaddexp(others, F.logsigmoid(self.log_odds)), others)

    @torch.no_grad()
    def sample(self, num_samples: int) -> Tensor:
        images = categorical_draw(self.logits.expand(num_samples, *self.logits.shape)).to(torch.uint8)
        blank = torch.rand(num_samples, 1, 1, 1) < self.log_odds.sigmoid()
        return images.masked_fill(blank, 0)


@kind("contexts by counts")
class InterpolatedContexts(Autoregressive):
    """Counts of what follows the last two, one and no entries, interpolated (Jelinek & Mercer 1980)."""

    def __init__(self, spec: ImageSpec) -> None:
        super().__init__(spec)
        levels = spec.levels + 1  # one that stands for nothing before
        at_most_entries(spec, 784, 16)
        self.register_buffer("counts", torch.zeros(levels, levels, spec.levels))
        self.register_buffer("share", torch.tensor(0.6))

    def contexts(self, values: Tensor) -> tuple[Tensor, Tensor]:
        """Maps (N, D) to the entries two and one before."""
        return tuple(F.pad(values, (back, 0), value=self.spec.levels)[:, : values.shape[1]] for back in (2, 1))

    def fit(self, data: Dataset, trainer: Trainer) -> None:
        values = sequence(data.train.images)
        two, one = self.contexts(values)
        self.counts.index_put_((two, one, values), torch.tensor(1.0), accumulate=True)

    def conditional_logits(self, images: Tensor, ordering: int = 0) -> Tensor:
        two, one = self.contexts(sequence(images))
        counts = self.counts.to(self.dtype) + 0.5
        probs = counts.sum((0, 1)) / counts.sum()
        for table in (counts.sum(0), counts):
            probs = self.share * table / table.sum(-1, keepdim=True) + (1 - self.share) * probs
        return as_logits(probs[two, one].log(), self.spec)

    def dependence(self, ordering: int = 0) -> Tensor:
        steps = self.generation_steps(ordering).flatten()
        gap = steps[:, None] - steps
        return (gap == 1) | (gap == 2)


@kind("contexts by hash")
class HashedContexts(Trained):
    """All of the past is hashed to a place in a table of logits, and so is the entry before (Mahoney 2005)."""

    def __init__(self, spec: ImageSpec, *, places: int = 509) -> None:
        super().__init__(spec)
        at_most_entries(spec, 256, 256)
        self.places = places
        self.table = nn.Parameter(torch.randn(places, spec.levels))
        self.last = nn.Embedding(spec.levels + 1, spec.levels)

    def conditional_logits(self, images: Tensor, ordering: int = 0) -> Tensor:
        values = sequence(images)
        place, found = torch.full((len(values),), 7), []
        for index in range(values.shape[1]):
            before = values[:, index - 1] if index else torch.full_like(place, self.spec.levels)
            place = (place * 31 + before + index) % self.places
            found.append(self.table[place] + self.last(before))
        return as_logits(torch.stack(found, 1), self.spec)


@kind("transform of the table")
class WalshHadamard(TrainedTable):
    """Log-probabilities are a Walsh-Hadamard series of few orders, summed by the fast transform."""

    def __init__(self, spec: ImageSpec) -> None:
        super().__init__(spec)
        at_most_entries(spec, 12, 2)
        self.register_buffer("everything", every_image(spec), persistent=False)
        orders = self.everything.flatten(1).sum(1)
        self.register_buffer("places", ((orders > 0) & (orders <= 3)).nonzero().squeeze(1), persistent=False)
        self.coefficients = nn.Parameter(0.1 * torch.randn(len(self.places)))

    def log_probs(self) -> Tensor:
        """Returns (M,) in the order of ``everything``."""
        series = torch.zeros(len(self.everything), dtype=self.dtype).index_put((self.places,), self.coefficients)
        for entry in range(self.spec.num_dimensions):
            even, odd = series.view(-1, 2, 2**entry).unbind(1)
            series = torch.stack([even + odd, even - odd], 1).flatten()
        return series.log_softmax(0)

    def log_prob(self, images: Tensor) -> Tensor:
        return self.log_probs()[number_of(images, self.spec)]

    @torch.no_grad()
    def sample(self, num_samples: int) -> Tensor:
        return self.everything[draw_rows(self.log_probs(), num_samples)]
