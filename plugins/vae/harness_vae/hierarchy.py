"""A chain of Gaussian latent layers under a decoder, with its encoder and its importance weights.

    p(x, h) = N(h_L; 0, I) prod_l p(h_l | h_{l+1}) p(x | h_1),    q(h | x) = q(h_1 | x) prod_l q(h_{l+1} | h_l)

All conditionals of latents are diagonal Gaussians by tanh networks (Kingma & Welling 2014, arXiv 1312.6114; the sizes
and the training of Burda, Grosse & Salakhutdinov 2016, arXiv 1509.00519). Models differ in their objective alone.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Sequence
from typing import ClassVar, Literal, get_args

import torch
from torch import Tensor, nn

from harness import Dataset, ImageSpec, Inference, LatentVariable, Split, Trainer, mean_over
from harness_layers.checks import check_choice, check_positive, check_widths
from harness_layers.descent import Descent, descend
from harness_layers.pixels import level_counts
from harness_layers.posteriors import DiagonalGaussian, standard_noise, standard_normal_log_prob
from harness_layers.schedules import Schedule
from harness_vae.networks import GaussianNetwork, TanhNetwork
from harness_vae.pixels import PixelLayer

# About a thousand rows of logits stay in a processor's cache, where three quarters of the work of a weight is done.
_BLOCK_ROWS = 1000
_SAMPLED_ENTRIES = 2**23
_SMOOTHING = 1e-3  # the share of uniform levels in the frequencies that the decoder starts from
_LATE = 0.6

SampleSchedule = Literal["constant", "late"]


class GaussianHierarchy(LatentVariable, Inference):
    """One or more stochastic layers; a subclass says what is maximised.

    Args:
        spec: the sample space; two levels have a Bernoulli decoder, more a softmax over all levels.
        latents: units of the stochastic layers, the bottom h_1 first.
        hidden: widths of the tanh layers below each stochastic layer, in the encoder and in the decoder; one for each
            layer.
        hidden_layers: how many tanh layers each of these networks has.
        num_samples: k, the importance samples for each image of the training objective; None takes the model's own.
        sample_schedule: ``constant`` trains with k samples throughout, ``late`` with one for 60 % of the budget, then
            with more and more, up to k, at a fraction of the cost. Validation takes k throughout.
        learning_rate: of Adam (0.9, 0.999).
        schedule: how the learning rate falls with the budget: ``stages``, ``cosine``, ``linear`` or ``constant``.
        epsilon: of Adam.
        batch_size: images in each step.
        validate_every: how often the validation split is scored, such as ``1 epoch`` or ``500 steps``.

    Raises:
        ValueError: a size or rate that is not positive, more or fewer ``hidden`` than ``latents``, an unknown schedule.
    """

    default_num_samples: ClassVar[int] = 1

    def __init__(self, spec: ImageSpec, *, latents: tuple[int, ...] = (50,), hidden: tuple[int, ...] = (200,),
                 hidden_layers: int = 2, num_samples: int | None = None, sample_schedule: SampleSchedule = "constant",
                 learning_rate: float = 1e-3, schedule: Schedule = "stages", epsilon: float = 1e-4,
                 batch_size: int = 20, validate_every: str = "1 epoch") -> None:  # fmt: skip
        super().__init__(spec)
        self.num_samples = self.default_num_samples if num_samples is None else num_samples
        check_widths(latents=latents, hidden=hidden)
        check_positive(hidden_layers=hidden_layers, num_samples=self.num_samples)
        if len(hidden) != len(latents):
            raise ValueError(f"hidden={tuple(hidden)} needs one width for each of latents={tuple(latents)}")
        check_choice(get_args(SampleSchedule), sample_schedule=sample_schedule)
        self.descent = Descent(
            learning_rate=learning_rate, schedule=schedule, epsilon=epsilon, batch_size=batch_size,
            validate_every=validate_every,
        )  # fmt: skip
        self.latents, self.sample_schedule = tuple(latents), sample_schedule
        widths = [[width] * hidden_layers for width in hidden]
        below = [spec.num_dimensions, *latents]
        self.encoders = nn.ModuleList(map(GaussianNetwork, below, widths, latents))
        self.decoders = nn.ModuleList(map(GaussianNetwork, latents[1:], widths[1:], latents))
        self.pixel_features = TanhNetwork(latents[0], widths[0])
        self.pixels = PixelLayer(hidden[0], spec)
        self.pixel_mean: Tensor
        self.register_buffer("pixel_mean", torch.full((spec.num_dimensions,), 0.5))

    @property
    def latent_sizes(self) -> tuple[int, ...]:
        """The units of each stochastic layer, top level first."""
        return self.latents[::-1]

    @abstractmethod
    def objective(self, images: Tensor, num_samples: int) -> Tensor:
        """Maps (N, C, H, W) uint8 to (N,) nats: the bound of ``num_samples`` draws that training maximises."""

    def fit(self, data: Dataset, trainer: Trainer) -> None:
        """Maximises the objective; the weights of the epoch with the best objective on the validation split are kept.

        The encoder's inputs are centred by the training images' means, and the decoder's biases start at the training
        images' frequencies, as in the code of Burda et al.
        """
        images, levels = data.train.draw(0).images, self.spec.levels
        counts = level_counts(images, levels).flatten(1).double()  # (levels, D)
        frequencies = ((1 - _SMOOTHING) * counts / len(images) + _SMOOTHING / levels).to(self.device)
        self.pixel_mean.copy_(torch.arange(levels).to(frequencies) @ frequencies / (levels - 1))
        self.pixels.start_from(frequencies)

        def loss(batch: Split) -> Tensor:
            return -self.objective(batch.images, self.samples_at(trainer.fraction))

        def score(split: Split) -> float:
            return -mean_over(split, lambda images: self.objective(images, self.num_samples))

        descend(self, data, trainer, self.descent, loss, score=score)

    def samples_at(self, fraction: float) -> int:
        """Returns how many samples an image is trained with where a fraction of the budget is spent."""
        exponent = 1.0 if self.sample_schedule == "constant" else max(0.0, (fraction - _LATE) / (1 - _LATE))
        return round(math.pow(self.num_samples, exponent))

    def log_importance_weights(self, images: Tensor, num_samples: int) -> Tensor:
        """Maps (N, C, H, W) uint8 to (num_samples, N) nats: log p(x, h) - log q(h | x) for h drawn from q.

        Noise is drawn from torch's global generator, one tensor (num_samples, N, units) a stochastic layer, the bottom
        layer first.
        """
        posterior: DiagonalGaussian = self.encoders[0](self._inputs(images))
        projection = self.pixels.project(images)
        noise = [standard_noise((num_samples, len(images), size), posterior.mean) for size in self.latents]
        blocks = [torch.split(layer, max(1, _BLOCK_ROWS // max(1, len(images)))) for layer in noise]
        return torch.cat([self._log_weights(posterior, projection, block) for block in zip(*blocks, strict=True)])

    def _log_weights(self, posterior: DiagonalGaussian, projection: tuple[Tensor, Tensor],
                     noise: Sequence[Tensor]) -> Tensor:  # fmt: skip
        values: list[Tensor] = []
        log_posterior = torch.zeros((), dtype=posterior.mean.dtype, device=posterior.mean.device)
        for index, layer_noise in enumerate(noise):
            if index > 0:
                posterior = self.encoders[index](values[-1])
            values.append(posterior.at(layer_noise))  # (S, N, units)
            log_posterior = log_posterior + posterior.log_prob_at(layer_noise)
        log_likelihood = self.pixels.log_likelihood(projection, self.pixel_features(values[0]))
        return self._log_prior(values) + log_likelihood - log_posterior  # (S, N)

    def _log_prior(self, values: Sequence[Tensor]) -> Tensor:
        total = standard_normal_log_prob(values[-1])
        for decoder, below, above in zip(self.decoders, values, values[1:], strict=False):
            total = total + decoder(above).log_prob(below)
        return total

    def layer_divergences(self, images: Tensor) -> Tensor:
        """Maps (N, C, H, W) uint8 to (N, L) nats: one draw of log q - log p of each layer, top level first."""
        code, values, log_q = self._inputs(images), list[Tensor](), list[Tensor]()
        for encoder in self.encoders:
            posterior: DiagonalGaussian = encoder(code)
            noise = torch.randn_like(posterior.mean)
            code = posterior.at(noise)
            values.append(code)
            log_q.append(posterior.log_prob_at(noise))
        priors = zip(self.decoders, values, values[1:], strict=False)
        log_p = [decoder(above).log_prob(below) for decoder, below, above in priors]
        log_p.append(standard_normal_log_prob(values[-1]))
        return torch.stack([q - p for q, p in zip(log_q, log_p, strict=True)][::-1], dim=1)

    def _inputs(self, images: Tensor) -> Tensor:
        return images.flatten(1).to(self.pixel_mean.dtype) / (self.spec.levels - 1) - self.pixel_mean

    def log_prior(self, latents: Tensor) -> Tensor:
        """Maps (N, D), top level first, to (N,) nats: log p(h_L) + sum_l log p(h_l | h_{l+1})."""
        return self._log_prior(torch.split(latents, list(self.latent_sizes), dim=1)[::-1])

    def log_likelihood(self, images: Tensor, latents: Tensor) -> Tensor:
        """Maps (N, C, H, W) uint8 and (N, D) to (N,) nats: log p(x | h_1)."""
        features = self.pixel_features(latents[:, -self.latents[0] :])
        return self.pixels.log_likelihood(self.pixels.project(images), features)

    def encode(self, images: Tensor) -> Tensor:
        """Maps (N, C, H, W) uint8 to (N, D), top level first.

        The bottom layer is the mean of q(h_1 | x); every layer above is the mean of q(h_{l+1} | h_l) at the code of the
        layer below, and not its average over draws of h_l: a deterministic function of the image.
        """
        code, codes = self._inputs(images), []
        for encoder in self.encoders:
            posterior: DiagonalGaussian = encoder(code)
            code = posterior.mean
            codes.append(code)
        return torch.cat(codes[::-1], dim=1)

    def decode(self, latents: Tensor) -> Tensor:
        """Maps (N, D), top level first, to (N, C, H, W) float: E[x | h_1], in levels. Only h_1 matters, given all."""
        return self.pixels.expected(self.pixel_features(latents[:, -self.latents[0] :]))

    @torch.no_grad()
    def sample(self, num_samples: int) -> Tensor:
        """Returns (num_samples, C, H, W) uint8: latents from the prior, top down, then a draw of the pixels."""
        rows = max(1, _SAMPLED_ENTRIES // (self.spec.num_dimensions * self.spec.levels))
        sizes = [rows] * (num_samples // rows) + [num_samples % rows]
        return torch.cat([self._sample_block(size) for size in sizes])

    def _sample_block(self, num_samples: int) -> Tensor:
        values = standard_noise((num_samples, self.latents[-1]), self.pixel_mean)
        for decoder in reversed(self.decoders):
            prior: DiagonalGaussian = decoder(values)
            values = prior.at(torch.randn_like(prior.mean))
        return self.pixels.draw(self.pixel_features(values))
