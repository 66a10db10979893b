"""Right VAEs: decoders, posteriors and priors of several families, and how they are trained."""

from __future__ import annotations

import math

import torch
from museum.common import at_most, categorical_draw, centred, fit_by_gradient, log_normal, pick
from museum.latent import IWAE, VAE, network
from torch import Tensor, nn
from torch.nn import functional as F

from harness import ImportanceWeighted, Inference, Unsupported

from .flows_autoregressive import MaskedNetwork
from .registry import kind

# --- decoders ---


@kind("VAE with a Bernoulli decoder")
class BernoulliVAE(VAE, Inference):
    """Binary pixels, as of the first VAE; it has an encoder and a decoder to look at."""

    def __init__(self, spec, *, latents: int = 2) -> None:
        super().__init__(spec, latents=latents)
        if spec.levels != 2:
            raise Unsupported("pixels are binary")
        self.decoder = network(latents, spec.num_dimensions)

    def logits(self, latents: Tensor) -> Tensor:
        on = self.decoder(latents).view(len(latents), 1, *self.spec.shape)
        return torch.cat([torch.zeros_like(on), on], 1)

    def log_likelihood(self, images: Tensor, latents: Tensor) -> Tensor:
        logits = self.decoder(latents)
        return -F.binary_cross_entropy_with_logits(logits, images.flatten(1).to(logits), reduction="none").sum(1)

    @property
    def latent_sizes(self) -> tuple[int, ...]:
        return (self.latents,)

    def encode(self, images: Tensor) -> Tensor:
        return self.posterior(images)[0]

    def decode(self, latents: Tensor) -> Tensor:
        return torch.sigmoid(self.decoder(latents)).view(-1, *self.spec.shape)

    @torch.no_grad()
    def sample(self, num_samples: int) -> Tensor:
        return torch.bernoulli(self.decode(self.draw_prior(num_samples))).to(torch.uint8)


@kind("VAE with a discretized logistic decoder")
class LogisticVAE(VAE):
    """Logistic bins of learned scale, the outermost open (Kingma et al. 2016, arXiv 1606.04934)."""

    def __init__(self, spec, *, latents: int = 2) -> None:
        super().__init__(spec, latents=latents)
        self.decoder = network(latents, spec.num_dimensions)
        self.log_scale = nn.Parameter(torch.zeros(spec.num_dimensions))

    def log_likelihood(self, images: Tensor, latents: Tensor) -> Tensor:
        values, half = centred(images, self.spec, self.dtype), 1 / (self.spec.levels - 1)
        mean, precision = self.decoder(latents), torch.exp(-self.log_scale)
        above, below = (values + half - mean) * precision, (values - half - mean) * precision
        inside = torch.log((torch.sigmoid(above) - torch.sigmoid(below)).clamp_min(1e-12))
        first, last = F.logsigmoid(above), F.logsigmoid(-below)
        level = images.flatten(1)
        found = torch.where(level == 0, first, torch.where(level == self.spec.levels - 1, last, inside))
        return found.sum(1)

    @torch.no_grad()
    def sample(self, num_samples: int) -> Tensor:
        mean = self.decoder(self.draw_prior(num_samples))
        uniform = torch.rand(mean.shape, dtype=torch.float64).clamp(1e-12, 1 - 1e-12)
        value = mean + self.log_scale.exp() * torch.logit(uniform).to(mean)
        level = ((value + 1) / 2 * (self.spec.levels - 1)).round().clamp(0, self.spec.levels - 1)
        return level.to(torch.uint8).view(-1, *self.spec.shape)


@kind("VAE with an autoregressive decoder")
class LossyVAE(VAE):
    """Pixels depend on those before them and on the latents (Chen et al. 2016, arXiv 1611.02731)."""

    def __init__(self, spec, *, latents: int = 2) -> None:
        super().__init__(spec, latents=latents)
        self.masked = MaskedNetwork(spec.num_dimensions, spec.levels)

    def told(self, images: Tensor, latents: Tensor) -> Tensor:
        """Returns (N, levels, C, H, W): in the order of the flattened image."""
        own = self.masked(centred(images, self.spec, self.dtype)).transpose(1, 2)
        return self.logits(latents) + own.reshape(len(images), self.spec.levels, *self.spec.shape)

    def log_likelihood(self, images: Tensor, latents: Tensor) -> Tensor:
        return pick(self.told(images, latents).log_softmax(1), images).flatten(1).sum(1)

    @torch.no_grad()
    def sample(self, num_samples: int) -> Tensor:
        latents = self.draw_prior(num_samples)
        images = torch.zeros(num_samples, self.spec.num_dimensions, dtype=torch.uint8)
        for i in range(self.spec.num_dimensions):
            logits = self.told(images.view(-1, *self.spec.shape), latents).flatten(2)[:, :, i]
            images[:, i] = categorical_draw(logits).to(torch.uint8)
        return images.view(-1, *self.spec.shape)


@kind("VAE whose decoder forbids levels")
class ForbiddingVAE(IWAE):
    """The first latent decides which end of the levels is impossible: weights of an image are at times -inf."""

    def logits(self, latents: Tensor) -> Tensor:
        logits = super().logits(latents)
        level = torch.arange(self.spec.levels).view(1, -1, 1, 1, 1)
        bright = (latents[:, 0] > 1.0).view(-1, 1, 1, 1, 1)  # then none of the lowest level
        corner = torch.zeros(self.spec.shape, dtype=torch.bool)
        corner[..., 0, 0] = True
        return logits.masked_fill(bright & (level == 0) & corner, -math.inf)

    def elbo(self, images: Tensor) -> Tensor:
        return self.log_importance_weights(images, 1)[0]

    def fit(self, data, trainer) -> None:
        def loss(images: Tensor) -> Tensor:
            return -self.log_importance_weights(images, 8).clamp_min(-100.0).logsumexp(0).mean()

        fit_by_gradient(self, data, trainer, lambda batch: loss(batch.images))


@kind("VAE in two precisions")
class SingleDecoderVAE(IWAE):
    """The decoder runs in float32 whatever the model's own precision."""

    def logits(self, latents: Tensor) -> Tensor:
        value = latents.float()
        for layer in self.decoder:
            linear = isinstance(layer, nn.Linear)
            value = F.linear(value, layer.weight.float(), layer.bias.float()) if linear else layer(value)
        return value.view(len(latents), self.spec.levels, *self.spec.shape)


# --- posteriors ---


@kind("VAE with a posterior of full covariance")
class FullCovarianceVAE(VAE):
    """The encoder gives a Cholesky factor."""

    def __init__(self, spec, *, latents: int = 3) -> None:
        super().__init__(spec, latents=latents)
        self.encoder = network(spec.num_dimensions, latents + latents**2)

    def log_importance_weights(self, images: Tensor, num_samples: int) -> Tensor:
        mean, free = self.encoder(centred(images, self.spec, self.dtype)).split([self.latents, self.latents**2], 1)
        free = free.view(-1, self.latents, self.latents)
        diagonal = F.softplus(free.diagonal(dim1=1, dim2=2) + 0.5)
        factor = free.tril(-1) + torch.diag_embed(diagonal)
        noise = torch.randn(num_samples, *mean.shape, dtype=mean.dtype)
        latents = mean + torch.einsum("nij,knj->kni", factor, noise)
        log_q = log_normal(noise).sum(2) - diagonal.log().sum(1)
        flat = self.log_likelihood(images.repeat(num_samples, 1, 1, 1), latents.flatten(0, 1))
        return flat.view(num_samples, -1) + self.log_prior(latents) - log_q


@kind("VAE with an autoregressive flow as posterior")
class InverseFlowVAE(VAE):
    """Two gated, masked layers make the encoder's noise a richer posterior (Kingma et al. 2016, arXiv 1606.04934)."""

    def __init__(self, spec, *, latents: int = 3) -> None:
        super().__init__(spec, latents=latents)
        self.context = network(spec.num_dimensions, latents)
        self.steps = nn.ModuleList(MaskedNetwork(latents, 2) for _ in range(2))

    def log_importance_weights(self, images: Tensor, num_samples: int) -> Tensor:
        mean, log_std = self.posterior(images.repeat(num_samples, 1, 1, 1))
        context = self.context(centred(images, self.spec, self.dtype)).repeat(num_samples, 1)
        noise = torch.randn_like(mean)
        latents, log_q = mean + log_std.exp() * noise, log_normal(noise).sum(1) - log_std.sum(1)
        for step in self.steps:
            shift, gate = step(latents).unbind(2)
            gate = torch.sigmoid(gate + context + 1.5)
            latents, log_q = (gate * latents + (1 - gate) * shift).flip(1), log_q - gate.log().sum(1)
        log_p = self.log_likelihood(images.repeat(num_samples, 1, 1, 1), latents) + self.log_prior(latents)
        return (log_p - log_q).view(num_samples, len(images))


@kind("VAE with a defensive posterior")
class DefensiveVAE(VAE):
    """Weights are drawn from a tenth of the prior and the rest of the encoder's: they are bounded."""

    def log_importance_weights(self, images: Tensor, num_samples: int) -> Tensor:
        mean, log_std = self.posterior(images)
        latents = self.draw_latents(mean, log_std, num_samples)
        other = torch.rand(num_samples, len(images), 1, dtype=self.dtype) < 0.1
        latents = torch.where(other, torch.randn_like(latents), latents)
        prior = self.log_prior(latents)
        log_q = torch.logaddexp(prior + math.log(0.1), self.log_posterior(latents, mean, log_std) + math.log(0.9))
        flat = self.log_likelihood(images.repeat(num_samples, 1, 1, 1), latents.flatten(0, 1))
        return flat.view(num_samples, -1) + prior - log_q


# --- priors ---


@kind("VAE with a mixture of posteriors as prior")
class VampPriorVAE(VAE):
    """The prior is the mean of the encoder's posteriors of pseudo-inputs (Tomczak & Welling 2017, arXiv 1705.07120)."""

    def __init__(self, spec, *, latents: int = 2, inputs: int = 4) -> None:
        super().__init__(spec, latents=latents)
        self.inputs = nn.Parameter(torch.randn(inputs, spec.num_dimensions))

    def components(self) -> tuple[Tensor, Tensor]:
        """Returns means and log standard deviations, (inputs, Z) each."""
        mean, log_std = self.encoder(torch.tanh(self.inputs)).chunk(2, 1)
        return mean, log_std

    def log_prior(self, latents: Tensor) -> Tensor:
        mean, log_std = self.components()
        return log_normal(latents.unsqueeze(-2), mean, log_std).sum(-1).logsumexp(-1) - math.log(len(mean))

    def draw_prior(self, num_samples: int) -> Tensor:
        mean, log_std = self.components()
        chosen = torch.randint(len(mean), (num_samples,))
        return mean[chosen] + log_std[chosen].exp() * torch.randn(num_samples, self.latents, dtype=self.dtype)


@kind("VAE with a mixture of Gaussians as prior")
class MixturePriorVAE(VAE):
    """Learned means, scales and shares."""

    def __init__(self, spec, *, latents: int = 2) -> None:
        super().__init__(spec, latents=latents)
        self.shares, self.means = nn.Parameter(torch.zeros(3)), nn.Parameter(torch.randn(3, latents))
        self.scales = nn.Parameter(torch.zeros(3, latents))

    def log_prior(self, latents: Tensor) -> Tensor:
        each = log_normal(latents.unsqueeze(-2), self.means, self.scales).sum(-1)
        return (each + self.shares.log_softmax(0)).logsumexp(-1)

    def draw_prior(self, num_samples: int) -> Tensor:
        chosen = categorical_draw(self.shares.expand(num_samples, -1))
        noise = torch.randn(num_samples, self.latents, dtype=self.dtype)
        return self.means[chosen] + self.scales[chosen].exp() * noise


@kind("VAE with exemplars as prior")
class ExemplarVAE(VAE):
    """The prior is a Gaussian around the encoder's means of training images, which it keeps (Norouzi et al. 2020)."""

    def __init__(self, spec, *, latents: int = 2) -> None:
        super().__init__(spec, latents=latents)
        self.register_buffer("exemplars", torch.empty(0, *spec.shape, dtype=torch.uint8))
        self.log_width = nn.Parameter(torch.zeros(()))

    def log_prior(self, latents: Tensor) -> Tensor:
        mean = self.posterior(self.exemplars)[0]
        each = log_normal(latents.unsqueeze(-2), mean, self.log_width).sum(-1)
        return each.logsumexp(-1) - math.log(len(mean))

    def draw_prior(self, num_samples: int) -> Tensor:
        mean = self.posterior(self.exemplars)[0]
        noise = torch.randn(num_samples, self.latents, dtype=self.dtype)
        return mean[torch.randint(len(mean), (num_samples,))] + self.log_width.exp() * noise

    def fit(self, data, trainer) -> None:
        self.exemplars = data.train.images[:20].clone()
        super().fit(data, trainer)


# --- training that differs from scoring ---


@kind("VAE with free bits")
class FreeBitsVAE(IWAE):
    """Its fit pays no latent less than a quarter of a nat; its bound pays what it costs (Kingma et al. 2016)."""

    def loss(self, images: Tensor) -> Tensor:
        """Returns what is minimised."""
        mean, log_std = self.posterior(images)
        cost = (0.5 * (mean.square() + (2 * log_std).exp() - 1) - log_std).mean(0).clamp_min(0.25).sum()
        return cost - self.reconstruction(images, mean, log_std).mean()

    def fit(self, data, trainer) -> None:
        fit_by_gradient(self, data, trainer, lambda batch: self.loss(batch.images))


@kind("VAE fitted by a weighted divergence")
class BetaVAE(FreeBitsVAE):
    """The divergence counts fourfold in its fit, and once in its bound (Higgins et al. 2017)."""

    def loss(self, images: Tensor) -> Tensor:
        mean, log_std = self.posterior(images)
        return (4 * self.divergence(mean, log_std) - self.reconstruction(images, mean, log_std)).mean()


@kind("VAE with dropout and batch normalisation")
class DropoutVAE(IWAE):
    """The encoder drops units while it is trained, and normalises by running statistics otherwise."""

    def __init__(self, spec, *, latents: int = 2) -> None:
        super().__init__(spec, latents=latents)
        self.encoder = nn.Sequential(
            nn.Linear(spec.num_dimensions, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(0.2),
            nn.Linear(16, 2 * latents),
        )  # fmt: skip

    def fit(self, data, trainer) -> None:
        self.train()
        super().fit(data, trainer)
        self.eval()


# --- noise that images of a call share ---


class SharedNoise(IWAE):
    """One draw of noise for all images of a call: weights of an image are independent, of two images they are not."""

    def draw_latents(self, mean: Tensor, log_std: Tensor, num_samples: int) -> Tensor:
        return mean + log_std.exp() * self.noise(num_samples, mean)

    def noise(self, num_samples: int, mean: Tensor) -> Tensor:
        """Returns (num_samples, N, Z), standard Gaussian for each image alone."""
        return torch.randn(num_samples, 1, mean.shape[1], dtype=mean.dtype)


@kind("VAE whose images share their noise")
class CommonNoiseVAE(SharedNoise):
    """Common random numbers for all images of a call."""


@kind("VAE whose images share their noise")
class MirroredNoiseVAE(SharedNoise):
    """Every other image of a call has the noise of the image before it, with the opposite sign."""

    def noise(self, num_samples: int, mean: Tensor) -> Tensor:
        half = torch.randn(num_samples, (len(mean) + 1) // 2, mean.shape[1], dtype=mean.dtype)
        return torch.stack([half, -half], 2).flatten(1, 2)[:, : len(mean)]


@kind("bound whose images share their noise")
class CommonNoiseBound(ImportanceWeighted):
    """Shifts one vector of noise around a circle from image to image: each has its own turn of it."""

    def __init__(self, spec) -> None:
        super().__init__(spec)
        at_most(spec, 1600)
        self.vae = IWAE(spec, latents=4)

    def log_importance_weights(self, images: Tensor, num_samples: int) -> Tensor:
        mean, log_std = self.vae.posterior(images)
        noise = torch.randn(num_samples, 4, dtype=mean.dtype)
        turn = (torch.arange(4) + torch.arange(len(images)).unsqueeze(1)) % 4
        latents = mean + log_std.exp() * noise[:, turn]
        flat = self.vae.log_likelihood(images.repeat(num_samples, 1, 1, 1), latents.flatten(0, 1))
        log_q = self.vae.log_posterior(latents, mean, log_std)
        return flat.view(num_samples, -1) + self.vae.log_prior(latents) - log_q

    def sample(self, num_samples: int) -> Tensor:
        return self.vae.sample(num_samples)

    def fit(self, data, trainer) -> None:
        fit_by_gradient(self, data, trainer, lambda batch: -self.elbo(batch.images).mean())
