"""Right models that have a bound alone, or no likelihood: diffusions, generators."""

from __future__ import annotations

from itertools import pairwise

import torch
from museum.common import at_most, categorical_draw, centred, fit_by_gradient, pick
from museum.implicit import GAN
from museum.latent import network
from torch import Tensor
from torch.nn import functional as F

from harness import Inference, Model, Unsupported, VariationalBound

from .registry import kind


class Bound(VariationalBound):
    """Fitted by its bound; refuses large images."""

    def __init__(self, spec) -> None:
        super().__init__(spec)
        at_most(spec, 1600)

    def fit(self, data, trainer) -> None:
        fit_by_gradient(self, data, trainer, lambda batch: -self.elbo(batch.images).mean())

    def draw_pixels(self, logits: Tensor) -> Tensor:
        """Maps (N, levels D) to images (N, C, H, W) uint8."""
        return categorical_draw(logits.view(len(logits), self.spec.levels, *self.spec.shape)).to(torch.uint8)

    def log_pixels(self, logits: Tensor, images: Tensor) -> Tensor:
        """Maps (N, levels D) and (N, C, H, W) to (N,) nats."""
        table = logits.view(len(images), self.spec.levels, *self.spec.shape)
        return pick(table.log_softmax(1), images).flatten(1).sum(1)


# --- diffusions of levels ---


class CategoricalDiffusion(Bound):
    """Levels that are drawn anew; the network says what the image was (Austin et al. 2021, arXiv 2107.03006).

    q(x_t | x_0) keeps an entry with probability a_t and draws it uniformly otherwise; a_T = 0: the last is noise.
    """

    keeps = (1.0, 0.5, 0.0)  # a_0, ..., a_T

    def __init__(self, spec) -> None:
        super().__init__(spec)
        steps = len(self.keeps) - 1
        self.network = network(spec.num_dimensions * spec.levels + steps, spec.levels * spec.num_dimensions)

    @property
    def steps(self) -> int:
        return len(self.keeps) - 1

    def one_hot(self, levels: Tensor) -> Tensor:
        """Maps (N, D) int64 to (N, D, levels)."""
        return F.one_hot(levels, self.spec.levels).to(self.dtype)

    def noisy(self, start: Tensor, keep: Tensor) -> Tensor:
        """Maps x_0 (N, D) and what is kept (N, 1) to a draw of x_t."""
        random = torch.randint(self.spec.levels, start.shape)
        return torch.where(torch.rand(start.shape, dtype=self.dtype) < keep, start, random)

    def guess(self, noisy: Tensor, step: Tensor) -> Tensor:
        """Maps x_t (N, D) and t (N,) to p(x_0 | x_t), (N, D, levels)."""
        told = torch.cat([self.one_hot(noisy).flatten(1), F.one_hot(step - 1, self.steps).to(self.dtype)], 1)
        return self.network(told).view(len(noisy), self.spec.levels, -1).softmax(1).transpose(1, 2)

    def posteriors(self) -> Tensor:
        """Returns q(x_(t-1) | x_t, x_0), (steps + 1, levels, levels, levels): by t, x_t, x_0 and x_(t-1)."""
        keeps, eye = torch.tensor(self.keeps, dtype=self.dtype), torch.eye(self.spec.levels, dtype=self.dtype)
        found = [torch.zeros(self.spec.levels, self.spec.levels, self.spec.levels, dtype=self.dtype)]
        for earlier, now in pairwise(keeps):
            single = now / earlier
            forward = single * eye + (1 - single) / self.spec.levels  # of x_t, by x_(t-1)
            joint = forward[:, None] * (earlier * eye + (1 - earlier) / self.spec.levels)
            found.append(joint / joint.sum(2, keepdim=True))
        return torch.stack(found)

    def told(self, noisy: Tensor, step: Tensor) -> Tensor:
        """Returns p(x_(t-1) | x_t), (N, D, levels): the mixture of posteriors over what x_0 is guessed to be."""
        tables = self.posteriors()[step.unsqueeze(1), noisy]  # (N, D, levels of x_0, levels)
        return (tables * self.guess(noisy, step).unsqueeze(3)).sum(2)

    def term(self, images: Tensor, step: Tensor) -> Tensor:
        """Maps images and steps t (N,) to a draw of what step t costs, (N,) nats: for t = 1, -log p(x_0 | x_1)."""
        start = images.flatten(1).long()
        keeps = torch.tensor(self.keeps, dtype=self.dtype)
        noisy = self.noisy(start, keeps[step].unsqueeze(1))
        real = self.posteriors()[step.unsqueeze(1), noisy, start]
        told = self.told(noisy, step)
        return (torch.xlogy(real, real) - torch.xlogy(real, told)).flatten(1).sum(1)

    def elbo(self, images: Tensor) -> Tensor:
        every = [self.term(images, torch.full((len(images),), t)) for t in range(1, self.steps + 1)]
        return -torch.stack(every).sum(0)  # the last step's noise is the prior itself: it costs nothing

    @torch.no_grad()
    def sample(self, num_samples: int) -> Tensor:
        value = torch.randint(self.spec.levels, (num_samples, self.spec.num_dimensions))
        for t in range(self.steps, 0, -1):
            step = torch.full((num_samples,), t)
            value = categorical_draw(self.told(value, step).log(), dim=2)
        return value.view(-1, *self.spec.shape).to(torch.uint8)


@kind("diffusion of levels")
class UniformDiffusion(CategoricalDiffusion):
    """All steps are summed, one draw of noise for each."""


@kind("diffusion of levels, of random steps")
class RandomStepDiffusion(CategoricalDiffusion):
    """One step of each image is drawn, and counts as often as there are steps: an estimate that varies much."""

    def elbo(self, images: Tensor) -> Tensor:
        step = torch.randint(1, self.steps + 1, (len(images),))
        return -self.steps * self.term(images, step)


@kind("diffusion by masks")
class AbsorbingDiffusion(Bound):
    """Entries are revealed in a random order, and the bound looks at one place of it (Hoogeboom et al. 2021).

    E over a random order of log p: a place k is drawn, k entries are known, and the others' mean counts D times.
    """

    def __init__(self, spec) -> None:
        super().__init__(spec)
        self.network = network(2 * spec.num_dimensions, spec.levels * spec.num_dimensions)

    def table(self, levels: Tensor, known: Tensor) -> Tensor:
        """Maps levels (N, D) uint8 and which are known to log-probabilities (N, levels, D)."""
        pixels = centred(levels.view(-1, *self.spec.shape), self.spec, self.dtype)
        told = torch.cat([pixels * known, known.to(self.dtype)], 1)
        return self.network(told).view(len(levels), self.spec.levels, -1).log_softmax(1)

    def elbo(self, images: Tensor) -> Tensor:
        levels, size = images.flatten(1), self.spec.num_dimensions
        place = torch.randint(size, (len(images), 1))  # how many are known
        known = torch.rand(levels.shape).argsort(1).argsort(1) < place
        log_probs = self.table(levels, known).gather(1, levels.long().unsqueeze(1)).squeeze(1)
        return size * (log_probs * ~known).sum(1) / (size - place.squeeze(1))

    @torch.no_grad()
    def sample(self, num_samples: int) -> Tensor:
        size = self.spec.num_dimensions
        order, rows = torch.rand(num_samples, size).argsort(1), torch.arange(num_samples)
        levels, known = torch.zeros(num_samples, size, dtype=torch.uint8), torch.zeros(num_samples, size, dtype=bool)
        for k in range(size):
            here = order[:, k]
            levels[rows, here] = categorical_draw(self.table(levels, known)[rows, :, here]).to(torch.uint8)
            known[rows, here] = True
        return levels.view(-1, *self.spec.shape)


@kind("Gaussian diffusion")
class GaussianDiffusion(Bound):
    """Six steps to noise, which the network predicts; pixels are drawn last (Ho et al. 2020, arXiv 2006.11239).

    One step of each image is drawn. p(x_0 | x_1) is a categorical for every entry of an own network.
    """

    signal = (0.99, 0.9, 0.7, 0.45, 0.2, 0.05)  # the share of variance that is signal after steps 1, ..., T

    def __init__(self, spec) -> None:
        super().__init__(spec)
        size = spec.num_dimensions
        self.network, self.decoder = network(size + 1, size), network(size, spec.levels * size)

    def noise_of(self, value: Tensor, step: Tensor) -> Tensor:
        """Maps x_t (N, D) and t (N,) to what the network takes for its noise."""
        return self.network(torch.cat([value, step.to(value).unsqueeze(1) / len(self.signal) - 0.5], 1))

    def constants(self, step: Tensor) -> tuple[Tensor, ...]:
        """Returns, from t = 2 on, the weights of x_0 and x_t in the posterior's mean, its variance, the signal."""
        signal = torch.tensor((1.0, *self.signal), dtype=self.dtype)
        now, earlier = signal[step].unsqueeze(1), signal[step - 1].unsqueeze(1)
        single = now / earlier
        variance = (1 - earlier) / (1 - now) * (1 - single)
        return earlier.sqrt() * (1 - single) / (1 - now), single.sqrt() * (1 - earlier) / (1 - now), variance, now

    def elbo(self, images: Tensor) -> Tensor:
        pixels, steps = centred(images, self.spec, self.dtype), len(self.signal)
        step = torch.randint(1, steps + 1, (len(images),))
        first, _, variance, now = self.constants(step.clamp_min(2))
        now = torch.where(step.unsqueeze(1) == 1, self.signal[0], now)
        noise = torch.randn_like(pixels)
        value = now.sqrt() * pixels + (1 - now).sqrt() * noise
        error = (self.noise_of(value, step) - noise) * ((1 - now) / now).sqrt()  # of what it takes for x_0
        divergence = (first.square() * error.square() / (2 * variance)).sum(1)
        cost = torch.where(step == 1, -self.log_pixels(self.decoder(value), images), divergence)
        last = torch.tensor(self.signal[-1], dtype=self.dtype)
        prior = 0.5 * (last * pixels.square() - last - torch.log1p(-last)).sum(1)
        return -(steps * cost + prior)

    @torch.no_grad()
    def sample(self, num_samples: int) -> Tensor:
        value = torch.randn(num_samples, self.spec.num_dimensions, dtype=self.dtype)
        for t in range(len(self.signal), 1, -1):
            step = torch.full((num_samples,), t)
            first, second, variance, now = self.constants(step)
            start = (value - (1 - now).sqrt() * self.noise_of(value, step)) / now.sqrt()
            value = first * start + second * value + variance.sqrt() * torch.randn_like(value)
        return self.draw_pixels(self.decoder(value))


# --- no likelihood ---


@kind("Wasserstein GAN")
class WassersteinGAN(GAN):
    """A critic whose weights are clipped, five steps of it for one of the generator (Arjovsky et al. 2017)."""

    def fit(self, data, trainer) -> None:
        first = torch.optim.RMSprop(self.generator.parameters(), lr=0.005)
        second = torch.optim.RMSprop(self.discriminator.parameters(), lr=0.005)
        trainer.track(generator=first, critic=second)
        for count, batch in enumerate(trainer.batches(data.train, batch_size=100)):
            real = (batch.images.flatten(1).to(self.dtype) + 0.5) / self.spec.levels
            gap = self.discriminator(self.generate(len(real)).detach()).mean() - self.discriminator(real).mean()
            second.zero_grad()
            gap.backward()
            second.step()
            self.project_()
            if count % 5 == 4:
                loss = -self.discriminator(self.generate(len(real))).mean()
                first.zero_grad()
                loss.backward()
                first.step()
            trainer.log(loss=gap)

    @torch.no_grad()
    def project_(self) -> None:
        for value in self.discriminator.parameters():
            value.clamp_(-0.3, 0.3)


@kind("generator of matched moments")
class MomentMatching(GAN):
    """No discriminator: kernels compare batches (Li et al. 2015, arXiv 1502.02761)."""

    def __init__(self, spec) -> None:
        super().__init__(spec)
        del self.discriminator

    def fit(self, data, trainer) -> None:
        def kernel(one: Tensor, other: Tensor) -> Tensor:
            far = (one[:, None] - other).square().sum(2)
            return torch.stack([(-far / width).exp() for width in (0.5, 2.0, 8.0)]).mean()

        def loss(images: Tensor) -> Tensor:
            real = (images.flatten(1).to(self.dtype) + 0.5) / self.spec.levels
            fake = self.generate(len(real))
            return kernel(fake, fake) - 2 * kernel(fake, real)

        fit_by_gradient(self, data, trainer, lambda batch: loss(batch.images))


@kind("adversarially learned inference")
class LearnedInference(GAN, Inference):
    """A generator with an encoder; the discriminator sees pairs (Dumoulin et al. 2016, arXiv 1606.00704)."""

    def __init__(self, spec) -> None:
        super().__init__(spec)
        self.encoder = network(spec.num_dimensions, self.noise)
        self.discriminator = network(spec.num_dimensions + self.noise, 1)

    @property
    def latent_sizes(self) -> tuple[int, ...]:
        return (self.noise,)

    def encode(self, images: Tensor) -> Tensor:
        return self.encoder(centred(images, self.spec, self.dtype))

    def decode(self, latents: Tensor) -> Tensor:
        return torch.sigmoid(self.generator(latents)).view(-1, *self.spec.shape) * (self.spec.levels - 1)

    def fit(self, data, trainer) -> None:
        first = torch.optim.Adam([*self.generator.parameters(), *self.encoder.parameters()], lr=0.005)
        second = torch.optim.Adam(self.discriminator.parameters(), lr=0.005)
        trainer.track(generator=first, discriminator=second)
        for batch in trainer.batches(data.train, batch_size=100):
            real, noise = centred(batch.images, self.spec, self.dtype), torch.randn(len(batch.images), self.noise)
            fake = 2 * torch.sigmoid(self.generator(noise.to(real))) - 1
            pairs = torch.cat([real, self.encoder(real)], 1), torch.cat([fake, noise.to(real)], 1)
            told = F.softplus(-self.discriminator(pairs[0].detach())) + F.softplus(
                self.discriminator(pairs[1].detach())
            )
            second.zero_grad()
            told.mean().backward()
            second.step()
            fooled = F.softplus(self.discriminator(pairs[0])) + F.softplus(-self.discriminator(pairs[1]))
            first.zero_grad()
            fooled.mean().backward()
            first.step()
            trainer.log(loss=told.mean())


@kind("bootstrap of patches")
class PatchBootstrap(Model):
    """No network: rows of training images in the order of one that is drawn. It keeps its data."""

    def __init__(self, spec) -> None:
        super().__init__(spec)
        if spec.num_dimensions * spec.levels > 1600:
            raise Unsupported("small images alone")
        self.register_buffer("kept", torch.empty(0, *spec.shape, dtype=torch.uint8))

    def fit(self, data, trainer) -> None:
        self.kept = data.train.images[:200].clone()

    def sample(self, num_samples: int) -> Tensor:
        rows = torch.randint(len(self.kept), (num_samples, self.spec.height))
        drawn = self.kept[rows, :, torch.arange(self.spec.height)]  # (N, H, C, W)
        return drawn.transpose(1, 2).contiguous()
