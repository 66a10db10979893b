"""Right models of several stochastic layers, of discrete latents, and of linear ones."""

from __future__ import annotations

import itertools

import torch
from museum.common import at_most, categorical_draw, centred, fit_by_gradient, log_normal, pick
from museum.latent import gaussian_draw, network
from torch import Tensor, nn
from torch.nn import functional as F

from harness import ExactLikelihood, ImportanceWeighted, Inference, LatentVariable

from .registry import kind


class Weighted(ImportanceWeighted):
    """Fitted by one weight of each image; refuses large images."""

    def __init__(self, spec) -> None:
        super().__init__(spec)
        at_most(spec, 1600)

    def fit(self, data, trainer) -> None:
        fit_by_gradient(self, data, trainer, lambda batch: -self.elbo(batch.images).mean())

    def log_pixels(self, logits: Tensor, images: Tensor) -> Tensor:
        """Maps (N, levels D) and (N, C, H, W) to (N,) nats."""
        table = logits.view(len(images), self.spec.levels, *self.spec.shape)
        return pick(table.log_softmax(1), images).flatten(1).sum(1)

    def draw_pixels(self, logits: Tensor) -> Tensor:
        """Maps (N, levels D) to images (N, C, H, W) uint8."""
        return categorical_draw(logits.view(len(logits), self.spec.levels, *self.spec.shape)).to(torch.uint8)


@kind("hierarchical VAE")
class ThreeLayerVAE(Weighted, Inference):
    """p(z3) p(z2 | z3) p(z1 | z2) p(x | z1), inferred from the image upwards; skips lead from above to the pixels."""

    sizes = (3, 2, 2)

    def __init__(self, spec) -> None:
        super().__init__(spec)
        up, down = (spec.num_dimensions, *self.sizes[:-1]), self.sizes
        self.up = nn.ModuleList(network(into, 2 * out) for into, out in zip(up, self.sizes, strict=True))
        self.down = nn.ModuleList(network(above, 2 * here) for here, above in itertools.pairwise(down))
        self.decoder = network(sum(self.sizes), spec.levels * spec.num_dimensions)

    def log_importance_weights(self, images: Tensor, num_samples: int) -> Tensor:
        images_repeated, found = images.repeat(num_samples, 1, 1, 1), list[Tensor]()
        value, log_q = centred(images_repeated, self.spec, self.dtype), 0.0
        for step in self.up:
            value, added = gaussian_draw(step(value))
            found.append(value)
            log_q = log_q + added
        log_p = log_normal(found[-1]).sum(1)
        for step, here, above in zip(self.down, found[:-1], found[1:], strict=True):
            log_p = log_p + log_normal(here, *step(above).chunk(2, 1)).sum(1)
        log_p = log_p + self.log_pixels(self.decoder(torch.cat(found, 1)), images_repeated)
        return (log_p - log_q).view(num_samples, len(images))

    @torch.no_grad()
    def sample(self, num_samples: int) -> Tensor:
        found = [torch.randn(num_samples, self.sizes[-1], dtype=self.dtype)]
        for step in reversed(self.down):
            found.insert(0, gaussian_draw(step(found[0]))[0])
        return self.draw_pixels(self.decoder(torch.cat(found, 1)))

    @property
    def latent_sizes(self) -> tuple[int, ...]:
        return self.sizes[::-1]

    def encode(self, images: Tensor) -> Tensor:
        value, means = centred(images, self.spec, self.dtype), list[Tensor]()
        for step in self.up:
            value = step(value).chunk(2, 1)[0]
            means.insert(0, value)
        return torch.cat(means, 1)

    def decode(self, latents: Tensor) -> Tensor:
        latents = torch.cat(latents.split(self.latent_sizes, 1)[::-1], 1)
        table = self.decoder(latents).view(-1, self.spec.levels, *self.spec.shape).softmax(1)
        return torch.einsum("nlchw,l->nchw", table, torch.arange(self.spec.levels, dtype=table.dtype))


@kind("ladder VAE")
class LadderVAE(Weighted):
    """Posteriors merge what comes from below with the prior from above, by precision (Sonderby et al. 2016)."""

    def __init__(self, spec, *, lower: int = 3, upper: int = 2) -> None:
        super().__init__(spec)
        self.upper = upper
        self.encode_lower = network(spec.num_dimensions, 2 * lower)
        self.encode_upper = network(2 * lower, 2 * upper)
        self.decode_upper, self.decoder = network(upper, 2 * lower), network(lower, spec.levels * spec.num_dimensions)

    def log_importance_weights(self, images: Tensor, num_samples: int) -> Tensor:
        repeated = images.repeat(num_samples, 1, 1, 1)
        below = self.encode_lower(centred(repeated, self.spec, self.dtype))
        upper, log_q = gaussian_draw(self.encode_upper(below))
        mean, log_std = self.decode_upper(upper).chunk(2, 1)
        told, told_std = below.chunk(2, 1)
        precision, own = torch.exp(-2 * told_std), torch.exp(-2 * log_std)
        merged = (told * precision + mean * own) / (precision + own)
        lower, added = gaussian_draw(torch.cat([merged, -0.5 * (precision + own).log()], 1))
        log_p = log_normal(upper).sum(1) + log_normal(lower, mean, log_std).sum(1)
        log_p = log_p + self.log_pixels(self.decoder(lower), repeated)
        return (log_p - log_q - added).view(num_samples, len(images))

    @torch.no_grad()
    def sample(self, num_samples: int) -> Tensor:
        upper = torch.randn(num_samples, self.upper, dtype=self.dtype)
        return self.draw_pixels(self.decoder(gaussian_draw(self.decode_upper(upper))[0]))


@kind("sigmoid belief network")
class BeliefNetwork(Weighted):
    """Two layers of binary units, fitted by the score with a running baseline (Mnih & Gregor 2014, arXiv 1402.0030)."""

    units = (4, 3)  # next to the pixels, and above

    def __init__(self, spec) -> None:
        super().__init__(spec)
        first, second = self.units
        self.encode_first, self.encode_second = nn.Linear(spec.num_dimensions, first), nn.Linear(first, second)
        self.top, self.down = nn.Parameter(torch.zeros(second)), nn.Linear(second, first)
        self.decoder = nn.Linear(first, spec.levels * spec.num_dimensions)
        self.register_buffer("baseline", torch.zeros(()))

    def draw(self, logits: Tensor) -> tuple[Tensor, Tensor]:
        """Returns units (N, U) of zeros and ones, and their log-probabilities (N,)."""
        value = torch.bernoulli(torch.sigmoid(logits.detach()))
        return value, self.log_units(logits, value)

    def log_units(self, logits: Tensor, value: Tensor) -> Tensor:
        return F.logsigmoid((2 * value - 1) * logits).sum(1)

    def log_terms(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Returns log p(image, units) and log q(units | image), (N,) each, of units that are drawn."""
        first, log_q = self.draw(self.encode_first(centred(images, self.spec, self.dtype)))
        second, added = self.draw(self.encode_second(first))
        log_p = self.log_units(self.top.expand(len(images), -1), second) + self.log_units(self.down(second), first)
        return log_p + self.log_pixels(self.decoder(first), images), log_q + added

    def log_importance_weights(self, images: Tensor, num_samples: int) -> Tensor:
        log_p, log_q = self.log_terms(images.repeat(num_samples, 1, 1, 1))
        return (log_p - log_q).view(num_samples, len(images))

    @torch.no_grad()
    def sample(self, num_samples: int) -> Tensor:
        second, _ = self.draw(self.top.expand(num_samples, -1))
        return self.draw_pixels(self.decoder(self.draw(self.down(second))[0]))

    def fit(self, data, trainer) -> None:
        def loss(images: Tensor) -> Tensor:
            log_p, log_q = self.log_terms(images)
            signal = (log_p - log_q).detach()
            self.baseline.lerp_(signal.mean(), 0.1)
            return -(log_p + (signal - self.baseline) * log_q).mean()

        fit_by_gradient(self, data, trainer, lambda batch: loss(batch.images))


@kind("Helmholtz machine")
class HelmholtzMachine(BeliefNetwork):
    """The same network, fitted by waking and sleeping (Hinton et al. 1995)."""

    def fit(self, data, trainer) -> None:
        def loss(images: Tensor) -> Tensor:
            wake = -self.log_terms(images)[0].mean()  # units are drawn: the encoder has no part in log p
            with torch.no_grad():
                second, _ = self.draw(self.top.expand(len(images), -1))
                first, _ = self.draw(self.down(second))
                dream = centred(self.draw_pixels(self.decoder(first)), self.spec, self.dtype)
            told = self.log_units(self.encode_first(dream), first) + self.log_units(self.encode_second(first), second)
            return wake - told.mean()

        fit_by_gradient(self, data, trainer, lambda batch: loss(batch.images))


@kind("sum over a codebook")
class CodebookModel(Weighted, ExactLikelihood):
    """Two positions, each with one of four codes; their prior is a chain, and the sum over all sixteen is exact.

    Codes of the encoder's nearest neighbours are what its bound looks at: q is a softmax of distances.
    """

    codes = 4

    def __init__(self, spec) -> None:
        super().__init__(spec)
        self.book, self.encoder = nn.Parameter(torch.randn(self.codes, 2)), network(spec.num_dimensions, 4)
        self.first = nn.Parameter(torch.zeros(self.codes))
        self.second = nn.Parameter(torch.zeros(self.codes, self.codes))
        self.decoder = network(4, spec.levels * spec.num_dimensions)

    def log_prior(self) -> Tensor:
        """Returns (codes, codes) nats."""
        return self.first.log_softmax(0)[:, None] + self.second.log_softmax(1)

    def tables(self) -> Tensor:
        """Returns logits of every pair of codes, (codes^2, levels D)."""
        book = self.book
        pairs = torch.cat([book.repeat_interleave(self.codes, 0), book.repeat(self.codes, 1)], 1)
        return self.decoder(pairs)

    def log_joint(self, images: Tensor) -> Tensor:
        """Maps (N, C, H, W) to (N, codes^2) nats."""
        each = [self.log_pixels(table.expand(len(images), -1), images) for table in self.tables()]
        return torch.stack(each, 1) + self.log_prior().flatten()

    def log_prob(self, images: Tensor) -> Tensor:
        return self.log_joint(images).logsumexp(1)

    def log_importance_weights(self, images: Tensor, num_samples: int) -> Tensor:
        found = self.encoder(centred(images, self.spec, self.dtype)).view(-1, 2, 1, 2)
        one, other = (-(found - self.book).square().sum(3)).log_softmax(2).unbind(1)  # (N, codes) each
        log_q = (one[:, :, None] + other[:, None]).flatten(1)
        index = categorical_draw(log_q.expand(num_samples, -1, -1), dim=2)
        weights = (self.log_joint(images) - log_q).expand(num_samples, -1, -1)
        return weights.gather(2, index.unsqueeze(2)).squeeze(2)

    @torch.no_grad()
    def sample(self, num_samples: int) -> Tensor:
        index = categorical_draw(self.log_prior().flatten().expand(num_samples, -1))
        return self.draw_pixels(self.tables()[index])

    def fit(self, data, trainer) -> None:
        def loss(images: Tensor) -> Tensor:
            return -(self.log_prob(images) + self.elbo(images)).mean()

        fit_by_gradient(self, data, trainer, lambda batch: loss(batch.images))


@kind("factor analysis, rounded")
class FactorAnalysis(Weighted, LatentVariable):
    """x is W z + m + Gaussian noise, rounded to a level; weights from the posterior as if nothing had been rounded."""

    def __init__(self, spec, *, latents: int = 2) -> None:
        super().__init__(spec)
        size = spec.num_dimensions
        self.latents, self.loading = latents, nn.Parameter(0.3 * torch.randn(size, latents))
        self.mean, self.log_std = nn.Parameter(torch.zeros(size)), nn.Parameter(torch.full((size,), -0.3))

    def deviation(self) -> Tensor:
        """Returns the noise's standard deviations, (D,)."""
        return self.log_std.exp()

    def log_prior(self, latents: Tensor) -> Tensor:
        return log_normal(latents).sum(-1)

    def log_likelihood(self, images: Tensor, latents: Tensor) -> Tensor:
        return self.log_bins(images, latents @ self.loading.T + self.mean)

    def log_bins(self, images: Tensor, mean: Tensor) -> Tensor:
        """Maps images and means (N, D) to nats (N,): the Gaussian's mass between midpoints, its tails at the ends."""
        values, half = centred(images, self.spec, self.dtype), 1 / (self.spec.levels - 1)
        last, level = self.spec.levels - 1, images.flatten(1)
        high = torch.where(level == last, 1e6, (values + half - mean) / self.deviation())
        low = torch.where(level == 0, -1e6, (values - half - mean) / self.deviation())
        flip = low > 0  # in the upper tail, differences are taken in the lower one
        low, high = torch.where(flip, -high, low), torch.where(flip, -low, high)
        one, other = torch.special.log_ndtr(high), torch.special.log_ndtr(low)
        return (one + torch.log1p(-(other - one).exp().clamp_max(1 - 1e-12))).sum(1)

    def log_importance_weights(self, images: Tensor, num_samples: int) -> Tensor:
        scaled = self.loading / self.deviation().square()[:, None]
        precision = torch.eye(self.latents, dtype=self.dtype) + self.loading.T @ scaled
        factor = torch.linalg.cholesky(precision)  # of the inverse of the posterior's covariance
        mean = torch.cholesky_solve(((centred(images, self.spec, self.dtype) - self.mean) @ scaled).T, factor).T
        noise = torch.randn(num_samples, *mean.shape, dtype=self.dtype)
        latents = mean + torch.linalg.solve_triangular(factor.T, noise.flatten(0, 1).T, upper=True).T.view_as(noise)
        log_q = log_normal(noise).sum(2) + factor.diagonal().log().sum()
        flat = self.log_likelihood(images.repeat(num_samples, 1, 1, 1), latents.flatten(0, 1))
        return flat.view(num_samples, -1) + self.log_prior(latents) - log_q

    @torch.no_grad()
    def sample(self, num_samples: int) -> Tensor:
        latents = torch.randn(num_samples, self.latents, dtype=self.dtype)
        return self.rounded(latents @ self.loading.T + self.mean)

    def rounded(self, mean: Tensor) -> Tensor:
        value = mean + self.deviation() * torch.randn_like(mean)
        level = ((value + 1) / 2 * (self.spec.levels - 1)).round().clamp(0, self.spec.levels - 1)
        return level.to(torch.uint8).view(-1, *self.spec.shape)


@kind("factor analysis, rounded")
class PrincipalComponents(FactorAnalysis):
    """Probabilistic principal components: one variance for all entries (Tipping & Bishop 1999), floored at 0.1."""

    def __init__(self, spec, *, latents: int = 2) -> None:
        super().__init__(spec, latents=latents)
        self.log_std = nn.Parameter(torch.zeros(()))

    def deviation(self) -> Tensor:
        return (F.softplus(self.log_std) + 0.1).expand(self.spec.num_dimensions)


@kind("mixture of factor analysers, rounded")
class FactorAnalysers(Weighted):
    """Which of three analysers an image comes from is drawn by a network's guess (Ghahramani & Hinton 1996)."""

    def __init__(self, spec) -> None:
        super().__init__(spec)
        self.parts = nn.ModuleList(FactorAnalysis(spec, latents=1) for _ in range(3))
        with torch.no_grad():
            for part in self.parts:
                part.mean.normal_(0, 0.5)
        self.shares, self.guess = nn.Parameter(torch.zeros(3)), nn.Linear(spec.num_dimensions, 3)

    def log_importance_weights(self, images: Tensor, num_samples: int) -> Tensor:
        log_q = self.guess(centred(images, self.spec, self.dtype)).log_softmax(1)
        chosen = categorical_draw(log_q.expand(num_samples, -1, -1), dim=2)  # (K, N)
        weights = torch.stack([part.log_importance_weights(images, num_samples) for part in self.parts])
        weights = weights.gather(0, chosen.unsqueeze(0)).squeeze(0)
        return weights + self.shares.log_softmax(0)[chosen] - log_q[torch.arange(len(images)), chosen]

    @torch.no_grad()
    def sample(self, num_samples: int) -> Tensor:
        chosen = categorical_draw(self.shares.expand(num_samples, -1))
        drawn = torch.stack([part.sample(num_samples) for part in self.parts], 1)
        return drawn[torch.arange(num_samples), chosen]
