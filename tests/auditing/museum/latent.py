"""Right latent-variable models: one layer, two layers, discrete latents, a flow as posterior, a bound alone."""

from __future__ import annotations

import itertools

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from harness import (
    Dataset,
    ExactLikelihood,
    ImageSpec,
    ImportanceWeighted,
    Inference,
    LatentVariable,
    Trainer,
    Unsupported,
    VariationalBound,
)

from .common import at_most, categorical_draw, centred, fit_by_gradient, log_normal, pick
from .registry import right

HIDDEN = 16


def network(into: int, out: int) -> nn.Sequential:
    """Returns a network with one hidden layer."""
    return nn.Sequential(nn.Linear(into, HIDDEN), nn.Tanh(), nn.Linear(HIDDEN, out))


@right
class VAE(LatentVariable):
    """Gaussian latents and posterior, a categorical for every entry (Kingma & Welling 2013, arXiv 1312.6114)."""

    def __init__(self, spec: ImageSpec, *, latents: int = 2) -> None:
        super().__init__(spec)
        at_most(spec, 1600)
        self.latents = latents
        self.encoder = network(spec.num_dimensions, 2 * latents)
        self.decoder = network(latents, spec.levels * spec.num_dimensions)

    def posterior(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Maps (N, C, H, W) uint8 to means and log standard deviations, (N, Z) each."""
        mean, log_std = self.encoder(centred(images, self.spec, self.dtype)).chunk(2, 1)
        return mean, log_std

    def log_posterior(self, latents: Tensor, mean: Tensor, log_std: Tensor) -> Tensor:
        """Maps latents (..., N, Z) to (..., N) nats."""
        return log_normal(latents, mean, log_std).sum(-1)

    def draw_latents(self, mean: Tensor, log_std: Tensor, num_samples: int) -> Tensor:
        """Draws (num_samples, N, Z)."""
        return mean + log_std.exp() * torch.randn(num_samples, *mean.shape, dtype=mean.dtype)

    def log_prior(self, latents: Tensor) -> Tensor:
        return log_normal(latents).sum(-1)

    def log_likelihood(self, images: Tensor, latents: Tensor) -> Tensor:
        return pick(self.logits(latents).log_softmax(1), images).flatten(1).sum(1)

    def logits(self, latents: Tensor) -> Tensor:
        """Maps (N, Z) to (N, levels, C, H, W)."""
        return self.decoder(latents).view(len(latents), self.spec.levels, *self.spec.shape)

    def log_importance_weights(self, images: Tensor, num_samples: int) -> Tensor:
        mean, log_std = self.posterior(images)
        latents = self.draw_latents(mean, log_std, num_samples)
        flat = self.log_likelihood(images.repeat(num_samples, 1, 1, 1), latents.flatten(0, 1))
        return flat.view(num_samples, -1) + self.log_prior(latents) - self.log_posterior(latents, mean, log_std)

    @torch.no_grad()
    def sample(self, num_samples: int) -> Tensor:
        return categorical_draw(self.logits(self.draw_prior(num_samples))).to(torch.uint8)

    def draw_prior(self, num_samples: int) -> Tensor:
        """Draws (num_samples, Z)."""
        return torch.randn(num_samples, self.latents, dtype=self.dtype)

    def fit(self, data: Dataset, trainer: Trainer) -> None:
        fit_by_gradient(self, data, trainer, lambda batch: -self.log_importance_weights(batch.images, 1).mean())


@right
class IWAE(VAE):
    """Trained by five weights; its ELBO has the KL divergence in closed form (Burda et al. 2015, arXiv 1509.00519)."""

    def fit(self, data: Dataset, trainer: Trainer) -> None:
        fit_by_gradient(
            self, data, trainer, lambda batch: -self.log_importance_weights(batch.images, 5).logsumexp(0).mean()
        )

    def elbo(self, images: Tensor) -> Tensor:
        mean, log_std = self.posterior(images)
        return self.reconstruction(images, mean, log_std) - self.divergence(mean, log_std)

    def reconstruction(self, images: Tensor, mean: Tensor, log_std: Tensor) -> Tensor:
        """Maps images and their posteriors to one draw of log p(image | latents), (N,) nats."""
        return self.log_likelihood(images, self.draw_latents(mean, log_std, 1)[0])

    def divergence(self, mean: Tensor, log_std: Tensor) -> Tensor:
        """Maps posteriors to KL(q || p), (N,) nats."""
        return (0.5 * (mean.square() + (2 * log_std).exp() - 1) - log_std).sum(1)


@right
class TwoLayerVAE(ImportanceWeighted):
    """Latents above latents: p(z2) p(z1 | z2) p(x | z1), q(z1 | x) q(z2 | z1) (Burda et al. 2015, arXiv 1509.00519)."""

    def __init__(self, spec: ImageSpec, *, lower: int = 3, upper: int = 2) -> None:
        super().__init__(spec)
        at_most(spec, 1600)
        self.upper = upper
        self.encode_lower = network(spec.num_dimensions, 2 * lower)
        self.encode_upper = network(lower, 2 * upper)
        self.decode_upper = network(upper, 2 * lower)
        self.decode_lower = network(lower, spec.levels * spec.num_dimensions)

    def log_importance_weights(self, images: Tensor, num_samples: int) -> Tensor:
        pixels = centred(images, self.spec, self.dtype).repeat(num_samples, 1)
        lower, log_q = gaussian_draw(self.encode_lower(pixels))
        upper, log_q_upper = gaussian_draw(self.encode_upper(lower))
        mean, log_std = self.decode_upper(upper).chunk(2, 1)
        log_p = log_normal(upper).sum(1) + log_normal(lower, mean, log_std).sum(1)
        table = self.logits(lower).log_softmax(1)
        log_p = log_p + pick(table, images.repeat(num_samples, 1, 1, 1)).flatten(1).sum(1)
        return (log_p - log_q - log_q_upper).view(num_samples, len(images))

    def logits(self, lower: Tensor) -> Tensor:
        """Maps (N, Z1) to (N, levels, C, H, W)."""
        return self.decode_lower(lower).view(len(lower), self.spec.levels, *self.spec.shape)

    @torch.no_grad()
    def sample(self, num_samples: int) -> Tensor:
        upper = torch.randn(num_samples, self.upper, dtype=self.dtype)
        lower, _ = gaussian_draw(self.decode_upper(upper))
        return categorical_draw(self.logits(lower)).to(torch.uint8)

    def fit(self, data: Dataset, trainer: Trainer) -> None:
        fit_by_gradient(self, data, trainer, lambda batch: -self.log_importance_weights(batch.images, 1).mean())


def gaussian_draw(parameters: Tensor) -> tuple[Tensor, Tensor]:
    """Maps means and log standard deviations (N, 2 Z) to draws (N, Z) and their log-densities (N,)."""
    mean, log_std = parameters.chunk(2, 1)
    value = mean + log_std.exp() * torch.randn_like(mean)
    return value, log_normal(value, mean, log_std).sum(1)


@right
class DiscreteLatent(ImportanceWeighted):
    """Three binary latents, fitted by the sum over all eight states: importance weights have ties."""

    def __init__(self, spec: ImageSpec, *, units: int = 3) -> None:
        super().__init__(spec)
        at_most(spec, 1600)
        self.prior_logits = nn.Parameter(torch.zeros(units))
        self.encoder = nn.Linear(spec.num_dimensions, units)
        self.decoder = nn.Linear(units, spec.levels * spec.num_dimensions)
        states = torch.tensor(list(itertools.product([0.0, 1.0], repeat=units)))
        self.register_buffer("states", states, persistent=False)  # (S, units)

    def log_joint(self, images: Tensor) -> Tensor:
        """Maps (N, C, H, W) uint8 to (N, S) nats: log p(image, state)."""
        table = self.decoder(self.states).view(-1, self.spec.levels, *self.spec.shape).log_softmax(1)
        per_entry = torch.stack([pick(part.expand(len(images), *part.shape), images) for part in table], 1)
        return per_entry.flatten(2).sum(2) + self.log_bernoulli(self.prior_logits)

    def log_bernoulli(self, logits: Tensor) -> Tensor:
        """Maps logits (..., units) to the log-probabilities of all states (..., S)."""
        signed = (2 * self.states - 1) * logits.unsqueeze(-2)
        return F.logsigmoid(signed).sum(-1)

    def log_posterior(self, images: Tensor) -> Tensor:
        """Maps (N, C, H, W) uint8 to (N, S) nats: log q(state | image)."""
        return self.log_bernoulli(self.encoder(centred(images, self.spec, self.dtype)))

    def log_importance_weights(self, images: Tensor, num_samples: int) -> Tensor:
        log_q = self.log_posterior(images)
        state = categorical_draw(log_q.expand(num_samples, *log_q.shape), dim=2)  # (K, N)
        weights = self.log_joint(images) - log_q
        return weights.expand(num_samples, *weights.shape).gather(2, state.unsqueeze(2)).squeeze(2)

    @torch.no_grad()
    def sample(self, num_samples: int) -> Tensor:
        state = categorical_draw(self.log_bernoulli(self.prior_logits).expand(num_samples, -1))
        logits = self.decoder(self.states[state]).view(-1, self.spec.levels, *self.spec.shape)
        return categorical_draw(logits).to(torch.uint8)

    def fit(self, data: Dataset, trainer: Trainer) -> None:
        def negative_elbo(images: Tensor) -> Tensor:
            log_q = self.log_posterior(images)
            return -(log_q.exp() * (self.log_joint(images) - log_q)).sum(1).mean()

        fit_by_gradient(self, data, trainer, lambda batch: negative_elbo(batch.images))


@right
class EnumeratedLatent(DiscreteLatent, ExactLikelihood):
    """The same, whose likelihood is the sum over all states: bounds and log p of one model can be compared."""

    def log_prob(self, images: Tensor) -> Tensor:
        return self.log_joint(images).logsumexp(1)


@right
class PlanarPosteriorVAE(VAE):
    """A posterior made richer by a planar flow, kept invertible (Rezende & Mohamed 2015, arXiv 1505.05770)."""

    def __init__(self, spec: ImageSpec, *, latents: int = 2) -> None:
        super().__init__(spec, latents=latents)
        self.weight, self.direction = nn.Parameter(torch.randn(latents)), nn.Parameter(torch.randn(latents))
        self.bias = nn.Parameter(torch.zeros(()))

    def log_importance_weights(self, images: Tensor, num_samples: int) -> Tensor:
        mean, log_std = self.posterior(images)
        base = self.draw_latents(mean, log_std, num_samples)
        latents, log_det = self.planar(base)
        flat = self.log_likelihood(images.repeat(num_samples, 1, 1, 1), latents.flatten(0, 1))
        log_q = self.log_posterior(base, mean, log_std) - log_det
        return flat.view(num_samples, -1) + self.log_prior(latents) - log_q

    def planar(self, base: Tensor) -> tuple[Tensor, Tensor]:
        """Maps (..., Z) to (..., Z) and the log-determinant (...)."""
        inner = self.weight @ self.direction
        direction = self.direction + (F.softplus(inner) - 1 - inner) * self.weight / self.weight.square().sum()
        bent = torch.tanh(base @ self.weight + self.bias)
        log_det = (1 + (1 - bent.square()) * (self.weight @ direction)).log()
        return base + bent.unsqueeze(-1) * direction, log_det


@right
class BoundOnly(VariationalBound):
    """A VAE behind a bound alone: what a hierarchy whose weights nobody can compute offers."""

    def __init__(self, spec: ImageSpec) -> None:
        super().__init__(spec)
        self.vae = IWAE(spec)

    def elbo(self, images: Tensor) -> Tensor:
        return self.vae.elbo(images)

    def sample(self, num_samples: int) -> Tensor:
        return self.vae.sample(num_samples)

    def fit(self, data: Dataset, trainer: Trainer) -> None:
        fit_by_gradient(self, data, trainer, lambda batch: -self.elbo(batch.images).mean())


@right
class CodedVAE(VAE, Inference):
    """Has an encoder and a decoder as well, on small spaces alone."""

    def __init__(self, spec: ImageSpec, *, latents: int = 2) -> None:
        super().__init__(spec, latents=latents)
        if spec.num_dimensions not in (4, 9):
            raise Unsupported("what it shows is seen on small spaces")

    @property
    def latent_sizes(self) -> tuple[int, ...]:
        return (self.latents,)

    def encode(self, images: Tensor) -> Tensor:
        return self.posterior(images)[0]

    def decode(self, latents: Tensor) -> Tensor:
        levels = torch.arange(self.spec.levels, dtype=self.dtype).view(-1, 1, 1, 1)
        return (self.logits(latents).softmax(1) * levels).sum(1)


@right
class TwoLayerJoint(TwoLayerVAE, LatentVariable):
    """Has the joint density of both layers, the upper first, and says how it draws them; its weights call neither."""

    def __init__(self, spec: ImageSpec, *, lower: int = 3, upper: int = 2) -> None:
        super().__init__(spec, lower=lower, upper=upper)
        if spec.num_dimensions not in (4, 9):
            raise Unsupported("what it shows is seen on small spaces")

    def log_prior(self, latents: Tensor) -> Tensor:
        upper, lower = latents[:, : self.upper], latents[:, self.upper :]
        mean, log_std = self.decode_upper(upper).chunk(2, 1)
        return log_normal(upper).sum(1) + log_normal(lower, mean, log_std).sum(1)

    def log_likelihood(self, images: Tensor, latents: Tensor) -> Tensor:
        table = self.logits(latents[:, self.upper :]).log_softmax(1)
        return pick(table, images).flatten(1).sum(1)

    def draw_posterior(self, images: Tensor) -> tuple[Tensor, Tensor]:
        lower, log_q = gaussian_draw(self.encode_lower(centred(images, self.spec, self.dtype)))
        upper, log_q_upper = gaussian_draw(self.encode_upper(lower))
        return torch.cat([upper, lower], 1), log_q + log_q_upper


class LatentBits(DiscreteLatent, LatentVariable):
    """Three binary latents as a vector of zeros and ones, with their joint density."""

    def log_prior(self, latents: Tensor) -> Tensor:
        return F.logsigmoid((2 * latents - 1) * self.prior_logits).sum(1)

    def log_likelihood(self, images: Tensor, latents: Tensor) -> Tensor:
        table = self.decoder(latents).view(-1, self.spec.levels, *self.spec.shape).log_softmax(1)
        return pick(table, images).flatten(1).sum(1)

    def log_importance_weights(self, images: Tensor, num_samples: int) -> Tensor:
        log_q = self.log_posterior(images)
        state = categorical_draw(log_q.expand(num_samples, *log_q.shape), dim=2)  # (K, N)
        latents = self.states[state.flatten()].to(self.dtype)
        log_p = self.log_prior(latents) + self.log_likelihood(images.repeat(num_samples, 1, 1, 1), latents)
        return (
            log_p.view(state.shape)
            - self.log_density(log_q).expand(num_samples, -1, -1).gather(2, state[..., None])[..., 0]
        )

    def log_density(self, log_q: Tensor) -> Tensor:
        """Maps what states are drawn by, (N, S), to what the weights say of it."""
        return log_q
