"""Binomial diffusion, the kernel of Deep Diffusion on binary images."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from harness_diffusion.deep_kernels import Kernel


class BinomialKernel(Kernel):
    """Binomial diffusion of binary images: a pixel is drawn anew, by a fair coin, with probability beta_t.

        q(x_t = 1 | x_{t-1}) = (1 - beta_t) x_{t-1} + beta_t / 2,    beta_t = 1 / (T - t + 1)
        p(x_{t-1} = 1 | x_t) = sum_b pi_b q(x_{t-1} = 1 | x_t, x_0 = b)

    An equal share of the image is erased by each step, and after T of them nothing is left. pi_1 is the network's
    guess at x_0 = 1; in the paper the network gives the left side itself, which is the same family, as pi is free. The
    bound is one of the binary image.
    """

    inputs, outputs, first_step = 1, 1, 1

    def start(self, images: Tensor, dtype: torch.dtype) -> Tensor:
        """Maps (N, C, H, W) uint8 to the same numbers."""
        return images.to(dtype)

    def finish(self, x: Tensor) -> Tensor:
        """Maps zeros and ones to uint8."""
        return x.to(torch.uint8)

    def ends(self, x: Tensor) -> Tensor:
        """Returns zeros (N,): x_T is fair coins, under q as under p."""
        return x.new_zeros(len(x))

    def diffuse(self, x: Tensor, steps: Tensor) -> tuple[Tensor, Tensor]:
        """Returns x_t, and x_0."""
        erased = torch.rand_like(x) < _entry(steps, x) / self.num_steps
        return torch.where(erased, torch.rand_like(x).round(), x), x

    def features(self, noisy: Tensor, steps: Tensor) -> Tensor:
        """Maps zeros and ones to -1 and 1."""
        return 2 * noisy - 1

    def posterior(self, noisy: Tensor, value: float | Tensor, steps: Tensor) -> Tensor:
        """Returns q(x_{t-1} = 1 | x_t, x_0), (N, C, H, W), of x_t and x_0 = ``value``."""
        t = _entry(steps, noisy)
        beta, kept = 1 / (self.num_steps - t + 1), 1 - (t - 1) / self.num_steps
        prior = kept * value + (1 - kept) / 2
        one, zero = ((1 - beta) * same + beta / 2 for same in (noisy, 1 - noisy))
        return prior * one / (prior * one + (1 - prior) * zero)

    def divergence(self, noisy: Tensor, known: Tensor, outputs: Tensor, steps: Tensor) -> Tensor:
        """KL of two Bernoulli distributions; of step 1 it is -log p(x_0 | x_1)."""
        true = self.posterior(noisy, known, steps)
        log_one, log_zero = F.logsigmoid(outputs[:, 0]), F.logsigmoid(-outputs[:, 0])
        total = torch.zeros_like(true)
        low, high = (self.posterior(noisy, value, steps) for value in (0.0, 1.0))
        for share, of_zero, of_one in ((true, low, high), (1 - true, 1 - low, 1 - high)):
            log_prob = torch.logaddexp(log_zero + of_zero.log(), log_one + of_one.log())
            total = total + torch.xlogy(share, share) - share * log_prob
        return total.flatten(1).sum(1)

    def draw_noise(self, num_samples: int, like: Tensor) -> Tensor:
        """Draws fair coins."""
        return torch.rand(num_samples, *self.spec.shape, dtype=like.dtype, device=like.device).round()

    def reverse(self, noisy: Tensor, outputs: Tensor, steps: Tensor) -> Tensor:
        """Draws x_{t-1}."""
        low, high = (self.posterior(noisy, value, steps) for value in (0.0, 1.0))
        chance = low + outputs[:, 0].sigmoid() * (high - low)
        return (torch.rand_like(chance) < chance).to(noisy.dtype)


def _entry(steps: Tensor, x: Tensor) -> Tensor:
    return steps.view(-1, 1, 1, 1).to(x.dtype)
