r"""A discretized logistic over levels, whose edge bins take the tails (Kingma et al. 2016, arXiv 1606.04934).

With levels scaled to [-1, 1], x_k = 2k / (K - 1) - 1, half a bin h = 1 / (K - 1), and F the logistic function,

    p(k) = F((x_k + h - m) / s) - F((x_k - h - m) / s),    F((x_0 - h - m) / s) = 0,    F((x_{K-1} + h - m) / s) = 1

so that the mass of all levels is one. A difference is scored without a cancellation: F(b) - F(a) =
F(b) F(-a) (1 - exp(a - b)). Two levels are a Bernoulli with logit m / s.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from harness import ImageSpec
from harness_layers.pixels import scale

_FIRST_LOG_SCALE = -2.0  # 17 levels of 256


class LogisticPixels(nn.Module):
    """Pixels that are independent given their means, (..., C, H, W) in units of [-1, 1], of any size.

    Each channel has a scale, which is learned; with two levels, it is one, and the means are logits.

    Args:
        spec: the sample space.
    """

    log_scale: Tensor

    def __init__(self, spec: ImageSpec) -> None:
        super().__init__()
        self.levels, shape = spec.levels, (spec.channels, 1, 1)
        if self.levels > 2:
            self.log_scale = nn.Parameter(torch.full(shape, _FIRST_LOG_SCALE))
        else:
            self.register_buffer("log_scale", torch.zeros(shape), persistent=False)

    def project(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Maps (N, C, H, W) uint8 to the same scaled to [-1, 1], and to -1 and 1 at the edges, 0 elsewhere."""
        edges = (images == self.levels - 1).to(torch.int8) - (images == 0).to(torch.int8)
        return scale(images, self.levels, self.log_scale.dtype), edges

    def log_likelihood(self, projection: tuple[Tensor, Tensor], means: Tensor) -> Tensor:
        """Maps ``project(images)`` of N images and means (..., N, C, H, W) to (..., N) nats: log p(images | means)."""
        return self.log_probs(projection, means).flatten(-3).sum(-1)

    def log_probs(self, projection: tuple[Tensor, Tensor], means: Tensor) -> Tensor:
        """Maps ``project(images)`` of N images and means (..., N, C, H, W) to nats of each entry, of that shape."""
        (images, edges), half, inverse = projection, 1 / (self.levels - 1), (-self.log_scale).exp()
        apart = images - means
        at_most, at_least = F.logsigmoid((apart + half) * inverse), F.logsigmoid((half - apart) * inverse)
        inside = at_most + at_least + (-torch.expm1(-2 * half * inverse)).log()
        return torch.where(edges < 0, at_most, torch.where(edges > 0, at_least, inside))

    def expected(self, means: Tensor) -> Tensor:
        """Maps (..., C, H, W) to the expected image in levels: the sum over k > 0 of the chance of k or more."""
        inverse, total = (-self.log_scale).exp(), torch.zeros_like(means)
        for level in range(1, self.levels):
            edge = (2 * level - 1) / (self.levels - 1) - 1
            total = total + ((means - edge) * inverse).sigmoid()
        return total

    def draw(self, means: Tensor) -> Tensor:
        """Maps (..., C, H, W) to the same uint8: a logistic draw rounded to the nearest level, the tails to the edges.

        Noise is drawn from torch's global generator.
        """
        drawn = means + self.log_scale.exp() * torch.rand_like(means).logit()
        return ((drawn + 1) * ((self.levels - 1) / 2)).round().clamp(0, self.levels - 1).to(torch.uint8)
