"""The variational Gaussian process as the posterior of a small deep latent Gaussian model (arXiv 1511.06499)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from harness import ImageSpec
from harness_layers.checks import check_at_least, check_positive, check_widths
from harness_layers.descent import Descent
from harness_layers.pixels import level_counts
from harness_layers.posteriors import DiagonalGaussian, standard_noise, standard_normal_log_prob
from harness_layers.schedules import Schedule
from harness_vae.latent_model import LatentModel, Objective, Terms
from harness_vae.networks import GaussianNetwork, TanhNetwork, glorot_linear
from harness_vae.pixels import PixelLayer

_LOG_AMPLITUDE = -2.0  # log a at first: where no data are near, f has this deviation
_SMOOTHING = 1e-3  # the share of uniform levels in the frequencies that the decoder starts from


class Warp(nn.Module):
    r"""Gaussian processes f_1, ..., f_D, given variational data: inputs s, shared, and outputs t of each image.

    .. math::
        f_i(\xi) | s, t \sim N(k^T K^{-1} t_i, \ a^2 (1 - k^T K^{-1} k)), \quad
        k_n = k(\xi, s_n), \quad K_{nm} = k(s_n, s_m), \quad
        k(u, v) = \exp(-\tfrac{1}{2} \sum_j \omega_j (u_j - v_j)^2), \quad k(u, u) = 1 + jitter

    Args:
        points: M, the number of variational data.
        inputs: c, the width of xi.
        jitter: of the kernel's diagonal, which bounds the variance from below.
    """

    def __init__(self, points: int, inputs: int, *, jitter: float = 1e-3) -> None:
        super().__init__()
        self.jitter = jitter
        self.places = nn.Parameter(torch.randn(points, inputs))
        self.log_scales = nn.Parameter(torch.zeros(inputs))  # log omega / 2
        self.log_amplitude = nn.Parameter(torch.tensor(_LOG_AMPLITUDE))

    def forward(self, xi: Tensor) -> tuple[Tensor, Tensor]:
        """Maps (R, c) to the weights (R, M) of t in the mean of each f_i, and the log-variance (R,) of all of them."""
        near = self._kernel(xi)
        weights = self._solve(near)
        variance = 1 + self.jitter - (weights * near).sum(1)
        return weights, 2 * self.log_amplitude + variance.clamp(min=self.jitter).log()

    def mean_weights(self) -> Tensor:
        """Returns (M,), the mean of the weights over xi from N(0, I), in closed form."""
        omega = (2 * self.log_scales).exp()
        exponent = (omega / (1 + omega) * self.places.square() + (1 + omega).log()).sum(1)
        return self._solve((-0.5 * exponent).exp()[None])[0]

    def _kernel(self, values: Tensor) -> Tensor:
        a, b = (each * self.log_scales.exp() for each in (values, self.places))
        squares = a.square().sum(1)[:, None] + b.square().sum(1) - 2 * a @ b.T
        return (-0.5 * squares.clamp(min=0)).exp()  # (R, M)

    def _solve(self, near: Tensor) -> Tensor:
        jitter = self.jitter * torch.eye(len(self.places), dtype=near.dtype, device=near.device)
        root = torch.linalg.cholesky(self._kernel(self.places) + jitter)
        return torch.cholesky_solve(near.T, root).T


class VGP(LatentModel):
    r"""A VAE with one stochastic layer, whose posterior is a mixture of Gaussians over warped noise (Tran et al. 2016).

    .. math::
        \xi \sim N(0, I), \quad f \sim GP(\xi | s, t(x)), \quad z \sim N(\mu(x) + f, \sigma^2(x)), \quad
        w = \frac{p(z) p(x | z) r(\xi | z, x)}{q(\xi) q(z | \xi, x)}

    The weights are of the augmented space (z, xi): E[w] = p(x) for any r, which is a Gaussian here, and the better it
    undoes the warp, the tighter is the bound. f is integrated out: the best of all r(f | xi, z, x). log q(z | x) itself
    has no closed form; ``log_prior`` and ``log_likelihood`` are of z alone.

    Args:
        spec: the sample space; two levels have a Bernoulli decoder, more a softmax over all levels.
        latents: D.
        hidden: widths of the tanh layers of the encoder, and of the decoder backwards.
        points: M, the number of variational data.
        inputs: c, the width of xi.
        reverse: widths of the tanh layers of r.
        num_samples, warm_up, free_bits, average_decay: of the objective, see ``Objective``.
        learning_rate: of Adam.
        batch_size: images in each step.
        schedule: how the learning rate falls with the budget.
        max_gradient_norm: where gradients are clipped, in nats an image.
        validate_every: how often the validation split is scored, such as ``1 epoch`` or ``500 steps``.

    Raises:
        ValueError: a number out of its range, an unknown schedule.
    """

    default_budget = "100 epochs"

    def __init__(self, spec: ImageSpec, *, latents: int = 40, hidden: tuple[int, ...] = (400, 400), points: int = 20,
                 inputs: int = 4, reverse: tuple[int, ...] = (200,), num_samples: int = 1, warm_up: float = 0.0,
                 free_bits: float = 0.0, average_decay: float | None = None, learning_rate: float = 1e-3,
                 batch_size: int = 100, schedule: Schedule = "cosine", max_gradient_norm: float | None = 10.0,
                 validate_every: str = "1 epoch") -> None:  # fmt: skip
        super().__init__(
            spec,
            objective=Objective(num_samples=num_samples, warm_up=warm_up, free_bits=free_bits,
                                average_decay=average_decay),
            descent=Descent(learning_rate=learning_rate, batch_size=batch_size, schedule=schedule,
                            max_gradient_norm=max_gradient_norm, validate_every=validate_every),
        )  # fmt: skip
        check_positive(latents=latents, inputs=inputs)
        check_at_least(1, points=points)
        check_widths(hidden=hidden, reverse=reverse)
        self.latents, self.inputs = latents, inputs
        self.encoder = TanhNetwork(spec.num_dimensions, hidden)
        self.gaussian = glorot_linear(hidden[-1], 2 * latents)
        self.data = glorot_linear(hidden[-1], points * latents)  # t
        self.warp = Warp(points, inputs)
        self.reverse = GaussianNetwork(hidden[-1] + latents, reverse, inputs)
        self.decoder = TanhNetwork(latents, hidden[::-1])
        self.pixels = PixelLayer(hidden[0], spec)

    def start_from(self, images: Tensor) -> None:
        """Starts the decoder's biases at the frequencies of the levels in the training images (M, C, H, W)."""
        counts = level_counts(images, self.spec.levels).flatten(1).to(self.dtype)
        self.pixels.start_from((1 - _SMOOTHING) * counts / len(images) + _SMOOTHING / self.spec.levels)

    @property
    def latent_sizes(self) -> tuple[int, ...]:
        """The units of the one layer."""
        return (self.latents,)

    def features(self, images: Tensor) -> Sequence[Tensor]:
        """Maps (N, C, H, W) uint8 to the encoder's features, mean and log-variance, t (N, M, D), and sums of pixels."""
        hidden = self.encoder(images.flatten(1).to(self.dtype) / (self.spec.levels - 1))
        data = self.data(hidden).unflatten(1, (-1, self.latents))
        return hidden, *self.gaussian(hidden).chunk(2, dim=1), data, *self.pixels.project(images)

    def terms(self, images: Tensor, features: Sequence[Tensor], num_samples: int) -> Terms:
        """Maps (N, C, H, W) uint8 and their features to the parts of ``num_samples`` weights; xi costs with z."""
        hidden, mean, log_variance, data, *projection = features
        shape = (num_samples, len(images))
        xi, noise = standard_noise((*shape, self.inputs), mean), standard_noise((*shape, self.latents), mean)
        weights, spread = (values.unflatten(0, shape) for values in self.warp(xi.flatten(0, 1)))
        centre = mean + torch.einsum("snm,nmd->snd", weights, data)
        posterior = DiagonalGaussian(centre, torch.logaddexp(log_variance, spread[..., None]))
        z = posterior.at(noise)
        log_r = self.reverse(torch.cat([hidden.expand(*shape, -1), z], dim=2)).log_prob(xi)
        log_q = standard_normal_log_prob(xi) + posterior.log_prob_at(noise)
        return Terms(self._log_likelihood(projection, z), (standard_normal_log_prob(z) + log_r - log_q,))

    def _log_likelihood(self, projection: Sequence[Tensor], latents: Tensor) -> Tensor:
        weights, bias = projection
        return self.pixels.log_likelihood((weights, bias), self.decoder(latents))

    def log_prior(self, latents: Tensor) -> Tensor:
        """Maps (N, D) to (N,) nats."""
        return standard_normal_log_prob(latents)

    def log_likelihood(self, images: Tensor, latents: Tensor) -> Tensor:
        """Maps (N, C, H, W) uint8 and (N, D) to (N,) nats: log p(x | z)."""
        return self._log_likelihood(self.pixels.project(images), latents)

    def encode(self, images: Tensor) -> Tensor:
        """Maps (N, C, H, W) uint8 to (N, D): E[z | x], with the warp's mean over xi in closed form."""
        _, mean, _, data, *_ = self.features(images)
        return mean + torch.einsum("m,nmd->nd", self.warp.mean_weights(), data)

    def decode(self, latents: Tensor) -> Tensor:
        """Maps (N, D) to (N, C, H, W) float: E[x | z], in levels."""
        return self.pixels.expected(self.decoder(latents))

    @torch.no_grad()
    def sample(self, num_samples: int) -> Tensor:
        """Returns (num_samples, C, H, W) uint8: latents from N(0, I), then a draw of the pixels."""
        latents = torch.randn(num_samples, self.latents, dtype=self.dtype, device=self.device)
        return self.pixels.draw(self.decoder(latents))
