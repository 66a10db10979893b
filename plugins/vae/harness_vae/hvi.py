"""Hamiltonian variational inference (Salimans, Kingma & Welling 2015, arXiv 1410.6460)."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from harness import ImageSpec, LatentVariable
from harness_layers.checks import check_positive
from harness_layers.posteriors import DiagonalGaussian, standard_noise, standard_normal_log_prob
from harness_layers.schedules import Schedule
from harness_vae.dense_vae import DenseVAE
from harness_vae.latent_model import Terms
from harness_vae.weight_norm import NormedLinear, standardise

_STEP = 0.1  # of the leapfrog, before training

Target = Callable[[Tensor], tuple[Tensor, Tensor]]  # z (B, D) -> log p(x | z), (B,), and the gradient of log p(x, z)


def leapfrog(target: Target, z: Tensor, v: Tensor, step: Tensor, count: int) -> tuple[Tensor, Tensor, Tensor]:
    """Follows Hamilton's equations for ``count`` steps: keeps volumes, and is its own inverse where v is turned round.

    Args:
        target: whose gradient is the force.
        z, v: (B, D), position and momentum.
        step: (D,), the size of a step for each latent, as masses of their own would have it.
        count: of the steps, at least one.

    Returns:
        z and v at the end, (B, D) each, and the first thing that ``target`` says of this z.
    """
    log_likelihood, force = target(z)
    for _ in range(count):
        half = v + 0.5 * step * force
        z = z + step * half
        log_likelihood, force = target(z)
        v = half + 0.5 * step * force
    return z, v, log_likelihood


class ReverseModel(nn.Module):
    """r(v | z, x): a diagonal Gaussian guess of the momentum at the end, by one hidden layer."""

    def __init__(self, num_features: int, size: int, width: int) -> None:
        super().__init__()
        self.context, self.latents = NormedLinear(num_features, width), NormedLinear(size, width)
        self.last = NormedLinear(width, 2 * size, deviation=0.1)

    def forward(self, z: Tensor, given: Tensor) -> DiagonalGaussian:
        """Maps z (S, N, D) and the image's part of the hidden layer, (N, width), to a Gaussian over (S, N, D)."""
        return DiagonalGaussian(*self.last(F.elu(self.latents(z) + given)).chunk(2, -1))


class HVI(DenseVAE):
    """A diagonal posterior whose draws are moved towards log p(x, z) by Hamiltonian dynamics, none of them rejected.

        z_0 ~ q(z | x),   v'_t ~ N(0, I),   (z_t, v_t) = leapfrog(z_{t-1}, v'_t),   t = 1, ..., T
        log w = log p(x, z_T) - log q(z_0 | x) + sum_t [log r_t(v_t | z_t, x) - log N(v'_t; 0, I)]

    A weight is one over latents and momenta: E[exp w] = p(x), whatever the reverse models r_t and the step sizes, which
    are learned. log q(z_T | x) is not known. Scoring takes gradients of the decoder, also where autograd is off.

    Args:
        spec: the sample space; two levels have a Bernoulli decoder, more a softmax over all levels.
        latents: D.
        width: of all hidden layers of encoder and decoder, dense with ELUs, which are smooth enough for a leapfrog.
        encoder_layers, decoder_layers: how many of them each has.
        iterations: T.
        leapfrog_steps: in each of them.
        reverse_width: of the hidden layer of each reverse model.
        num_samples, warm_up, free_bits, average_decay: see ``harness_vae.latent_model.Objective``.
        learning_rate, batch_size, schedule, max_gradient_norm, validate_every: see ``harness_layers.descent.Descent``.

    Raises:
        ValueError: a number out of its range, an unknown word.
    """

    default_budget = "50 epochs"
    draw_posterior = LatentVariable.draw_posterior
    reverse: Sequence[ReverseModel]

    def __init__(self, spec: ImageSpec, *, latents: int = 40, width: int = 400, encoder_layers: int = 2,
                 decoder_layers: int = 2, iterations: int = 1, leapfrog_steps: int = 4, reverse_width: int = 400,
                 num_samples: int = 1, warm_up: float = 0.0, free_bits: float = 0.0,
                 average_decay: float | None = None, learning_rate: float = 1e-3, batch_size: int = 100,
                 schedule: Schedule = "cosine", max_gradient_norm: float | None = None,
                 validate_every: str = "1 epoch") -> None:  # fmt: skip
        check_positive(iterations=iterations, leapfrog_steps=leapfrog_steps, reverse_width=reverse_width)
        super().__init__(
            spec, latents=latents, width=width, encoder_layers=encoder_layers, decoder_layers=decoder_layers,
            num_samples=num_samples, warm_up=warm_up, free_bits=free_bits, average_decay=average_decay,
            learning_rate=learning_rate, batch_size=batch_size, schedule=schedule,
            max_gradient_norm=max_gradient_norm, validate_every=validate_every,
        )  # fmt: skip
        self.leapfrog_steps = leapfrog_steps
        self.log_steps = nn.Parameter(torch.full((iterations, latents), math.log(_STEP)))
        reverse = [ReverseModel(width, latents, reverse_width) for _ in range(iterations)]
        self.reverse = cast("Sequence[ReverseModel]", nn.ModuleList(reverse))

    def start_from(self, images: Tensor) -> None:
        """Sets the networks as without dynamics, then the reverse models."""
        super().start_from(images)
        some = self.starting_images(images)
        standardise(cast("nn.Module", self.reverse), lambda: self.terms(some, self.features(some), 1))

    def features(self, images: Tensor) -> Sequence[Tensor]:
        """Maps (N, C, H, W) uint8 to the parameters of q(z_0 | x), and the part of each reverse model."""
        features = self.encode_features(images)
        return *self.posterior.of(features), *(reverse.context(features) for reverse in self.reverse)

    def terms(self, images: Tensor, features: Sequence[Tensor], num_samples: int) -> Terms:
        """Maps (N, C, H, W) uint8 and their ``features`` to the parts of (S, N) weights."""
        z, log_q = self._draw(features[:1], num_samples)
        target = self._target(images.repeat(num_samples, 1, 1, 1))
        ratio, log_likelihood = -log_q, log_q
        for reverse, given, log_step in zip(self.reverse, features[1:], self.log_steps, strict=True):
            v = standard_noise(z.shape, z)
            ratio = ratio - standard_normal_log_prob(v)
            moved = leapfrog(target, z.flatten(0, 1), v.flatten(0, 1), log_step.exp(), self.leapfrog_steps)
            z, v, log_likelihood = (value.view(*z.shape[:2], *value.shape[1:]) for value in moved)
            ratio = ratio + reverse(z, given).log_prob(v)
        return Terms(log_likelihood, (ratio + self.log_prior(z.flatten(0, 1)).view(ratio.shape),))

    def _target(self, images: Tensor) -> Target:
        def target(z: Tensor) -> tuple[Tensor, Tensor]:
            learning = z.requires_grad
            with torch.inference_mode(False), torch.enable_grad():
                z = z if learning else z.clone().requires_grad_()
                log_likelihood = self._log_likelihood(images, z)
                log_joint = log_likelihood + standard_normal_log_prob(z)
                (force,) = torch.autograd.grad(log_joint.sum(), z, create_graph=learning)
            return (log_likelihood if learning else log_likelihood.detach()), force

        return target

    def encode(self, images: Tensor) -> Tensor:
        """Maps (N, C, H, W) uint8 to (N, D): the means of q(z_0 | x), where the dynamics begin."""
        return self.posterior.mean(self.features(images)[:1])
