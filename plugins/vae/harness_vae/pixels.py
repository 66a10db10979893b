"""The last layer of a decoder: independent pixels given features, log p(x | f) = <f, W x> + <b, x> - A(f).

Both families below are exponential in the one-hot image x, so the term that depends on the image is an inner product
of features, and W x is computed once an image, however many latent samples it is scored with. What is left for every
sample is the log-normaliser A.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from harness import ImageSpec
from harness_vae.gaussian import glorot_linear

_SMOOTHING = 1e-3
_COUNTED_IMAGES = 1000
_FACTORS = 8


class PixelLayer(nn.Module, ABC):
    """Pixels that are independent given features.

    Args:
        num_features: F, the width of the features.
        spec: the sample space; D = C * H * W.
        num_logits: logits an entry of the image.
    """

    def __init__(self, num_features: int, spec: ImageSpec, num_logits: int) -> None:
        super().__init__()
        self.spec = spec
        self.linear = glorot_linear(num_features, num_logits * spec.num_dimensions)

    @abstractmethod
    def project(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Maps (N, C, H, W) uint8 to W x, (N, F), and <b, x>, (N,)."""

    @abstractmethod
    def log_normalizer(self, features: Tensor) -> Tensor:
        """Maps (..., F) to (...) nats: A, the sum over entries of the log of the sum over levels of exp(logit)."""

    @abstractmethod
    def expected(self, features: Tensor) -> Tensor:
        """Maps (N, F) to (N, C, H, W) float: the expected image, in levels."""

    @abstractmethod
    def draw(self, features: Tensor) -> Tensor:
        """Maps (N, F) to (N, C, H, W) uint8, one draw each with torch's global generator."""

    @abstractmethod
    def start_from(self, frequencies: Tensor) -> None:
        """Sets the biases so that zero features give the frequencies (levels, D) of the levels."""

    def log_likelihood(self, projection: tuple[Tensor, Tensor], features: Tensor) -> Tensor:
        """Maps ``project(images)`` of N images and (..., N, F) to (..., N) nats: log p(images | features)."""
        weights, bias = projection
        return (features * weights).sum(-1) + bias - self.log_normalizer(features)


class BernoulliPixels(PixelLayer):
    """Binary entries with one logit each; the logit of a zero is 0."""

    def __init__(self, num_features: int, spec: ImageSpec) -> None:
        super().__init__(num_features, spec, 1)

    def project(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Maps (N, C, H, W) uint8 to (N, F) and (N,)."""
        ones = images.flatten(1).to(self.linear.weight.dtype)
        return ones @ self.linear.weight, ones @ self.linear.bias

    def log_normalizer(self, features: Tensor) -> Tensor:
        """Maps (..., F) to (...) nats."""
        return sum_softplus(self.linear(features))

    def expected(self, features: Tensor) -> Tensor:
        """Maps (N, F) to (N, C, H, W) float, in [0, 1]."""
        probabilities: Tensor = self.linear(features).sigmoid()
        return probabilities.view(-1, *self.spec.shape)

    def draw(self, features: Tensor) -> Tensor:
        """Maps (N, F) to (N, C, H, W) uint8."""
        probabilities = self.expected(features)
        return (torch.rand_like(probabilities) < probabilities).to(torch.uint8)

    def start_from(self, frequencies: Tensor) -> None:
        """Takes (2, D)."""
        with torch.no_grad():
            self.linear.bias.copy_(frequencies[1].log() - frequencies[0].log())


class CategoricalPixels(PixelLayer):
    """Entries with a softmax over all levels; the logits are laid out (levels, D), entries innermost."""

    def __init__(self, num_features: int, spec: ImageSpec) -> None:
        super().__init__(num_features, spec, spec.levels)

    def _logits(self, features: Tensor) -> Tensor:
        logits: Tensor = self.linear(features)
        return logits.view(*logits.shape[:-1], self.spec.levels, self.spec.num_dimensions)  # (..., levels, D)

    def project(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Maps (N, C, H, W) uint8 to (N, F) and (N,), without ever writing the one-hot image."""
        size = self.spec.num_dimensions
        rows = images.flatten(1).long() * size + torch.arange(size, device=images.device)  # (N, D)
        return F.embedding_bag(rows, self.linear.weight, mode="sum"), self.linear.bias[rows].sum(1)

    def log_normalizer(self, features: Tensor) -> Tensor:
        """Maps (..., F) to (...) nats."""
        return self._logits(features).logsumexp(-2).sum(-1)

    def expected(self, features: Tensor) -> Tensor:
        """Maps (N, F) to (N, C, H, W) float, in [0, levels - 1]."""
        probabilities = self._logits(features).softmax(-2)
        levels = torch.arange(self.spec.levels, dtype=features.dtype, device=features.device)
        return (levels @ probabilities).view(-1, *self.spec.shape)

    def draw(self, features: Tensor) -> Tensor:
        """Maps (N, F) to (N, C, H, W) uint8, by a race of exponential clocks."""
        logits = self._logits(features)
        log_clocks = torch.empty_like(logits).exponential_().clamp_min(torch.finfo(logits.dtype).tiny).log()
        return (logits - log_clocks).argmax(-2).to(torch.uint8).view(-1, *self.spec.shape)

    def start_from(self, frequencies: Tensor) -> None:
        """Takes (levels, D)."""
        with torch.no_grad():
            self.linear.bias.copy_(frequencies.log().flatten())


def pixel_layer(num_features: int, spec: ImageSpec) -> PixelLayer:
    """Returns Bernoulli pixels for two levels and categorical ones for more."""
    return (BernoulliPixels if spec.levels == 2 else CategoricalPixels)(num_features, spec)


def level_frequencies(images: Tensor, levels: int) -> Tensor:
    """Maps (N, C, H, W) uint8 to (levels, D) float64: how often each level occurs, mixed with a little uniform."""
    size = images[0].numel()
    counts = torch.zeros(levels * size, dtype=torch.int64, device=images.device)
    for part in torch.split(images.flatten(1), _COUNTED_IMAGES):
        rows = part.long() * size + torch.arange(size, device=images.device)
        counts += torch.bincount(rows.flatten(), minlength=levels * size)
    return (1 - _SMOOTHING) * counts.view(levels, size).double() / len(images) + _SMOOTHING / levels


class _SumSoftplus(torch.autograd.Function):
    """``softplus(logits).sum(-1)``; sum log1p(exp(-|l|)) is taken as the log of products of a few factors in [1, 2].

    Logarithms are what costs here, on a processor as much as the matrix product before them; a product of eight factors
    needs one for eight entries, stays below 2^8, and is as accurate as the factors are.
    """

    @staticmethod
    def forward(ctx: Any, logits: Tensor) -> Tensor:
        ctx.save_for_backward(logits)
        factors = logits.abs().neg_().exp_().add_(1)  # (..., D), in [1, 2]
        groups = logits.shape[-1] // _FACTORS
        even = _FACTORS * groups
        grouped = factors[..., :even].view(*logits.shape[:-1], _FACTORS, groups).prod(-2)
        total = grouped.log_().sum(-1) + factors[..., even:].log().sum(-1)
        return total + torch.clamp_min(logits, 0, out=factors).sum(-1)  # in the factors' memory: fresh pages cost more

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        (logits,) = ctx.saved_tensors
        slope: Tensor = logits.sigmoid().mul_(gradient.unsqueeze(-1))
        return slope


def sum_softplus(logits: Tensor) -> Tensor:
    """Maps (..., D) to (...): the sum over entries of log(1 + exp(logit))."""
    if logits.dtype in (torch.bfloat16, torch.float16):  # a product of eight factors would lose what precision there is
        logits = logits.float()
    total: Tensor = _SumSoftplus.apply(logits)  # type: ignore[no-untyped-call]
    return total
