"""The last layer of a decoder: independent pixels given features, log p(x | f) = <f, W x> + <b, x> - A(f).

The Bernoulli distribution of binary pixels and the categorical one of more levels are both exponential in the one-hot
image x. So the term that depends on the image is an inner product of features. W x is computed once for each image,
however many latent samples it is scored with. What is left for every sample is the log-normaliser A.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from harness import ImageSpec
from harness_layers.pixels import draw_levels, num_outputs, outputs_of
from harness_vae.networks import glorot_linear

_FACTORS = 8


class PixelLayer(nn.Module):
    """Pixels that are independent given features: a logit for each binary entry, or one for each level of an entry.

    Args:
        num_features: F, the width of the features.
        spec: the sample space; D = C * H * W.
    """

    def __init__(self, num_features: int, spec: ImageSpec) -> None:
        super().__init__()
        self.spec, self.binary = spec, spec.levels == 2
        self.linear = glorot_linear(num_features, num_outputs(spec) * spec.num_dimensions)

    def outputs(self, features: Tensor) -> Tensor:
        """Maps (..., F) to (..., O, D), see ``harness_layers.pixels``; entries are innermost."""
        outputs: Tensor = self.linear(features)
        return outputs.view(*outputs.shape[:-1], num_outputs(self.spec), self.spec.num_dimensions)

    def project(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Maps (N, C, H, W) uint8 to W x, (N, F), and <b, x>, (N,), without ever writing the one-hot image."""
        weight, bias = self.linear.weight, self.linear.bias
        if self.binary:
            ones = images.flatten(1).to(weight.dtype)
            return ones @ weight, ones @ bias
        size = self.spec.num_dimensions
        rows = images.flatten(1).long() * size + torch.arange(size, device=images.device)  # (N, D)
        return F.embedding_bag(rows, weight, mode="sum"), bias[rows].sum(1)

    def log_normalizer(self, features: Tensor) -> Tensor:
        """Maps (..., F) to (...) nats: A, the sum over entries of the log of the sum over levels of exp(logit)."""
        outputs = self.outputs(features)
        return sum_softplus(outputs.squeeze(-2)) if self.binary else outputs.logsumexp(-2).sum(-1)

    def log_likelihood(self, projection: tuple[Tensor, Tensor], features: Tensor) -> Tensor:
        """Maps ``project(images)`` of N images and (..., N, F) to (..., N) nats: log p(images | features)."""
        weights, bias = projection
        return (features * weights).sum(-1) + bias - self.log_normalizer(features)

    def expected(self, features: Tensor) -> Tensor:
        """Maps (N, F) to (N, C, H, W) float: the expected image, in levels."""
        outputs = self.outputs(features)
        if self.binary:
            return outputs.sigmoid().view(-1, *self.spec.shape)
        levels = torch.arange(self.spec.levels, dtype=features.dtype, device=features.device)
        return (levels @ outputs.softmax(-2)).view(-1, *self.spec.shape)

    def draw(self, features: Tensor) -> Tensor:
        """Maps (N, F) to (N, C, H, W) uint8, one draw each with torch's global generator."""
        return draw_levels(self.outputs(features), dim=-2).view(-1, *self.spec.shape)

    @torch.no_grad()
    def start_from(self, frequencies: Tensor) -> None:
        """Sets the biases so that zero features give the frequencies (levels, D) of the levels."""
        self.linear.bias.copy_(outputs_of(frequencies, dim=0).flatten())


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
