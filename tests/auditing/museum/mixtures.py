"""Right models whose likelihood is a closed formula: tables, mixtures, kernels."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from harness import Dataset, ExactLikelihood, ImageSpec, Trainer

from .common import at_most, categorical_draw, fit_by_gradient, pick
from .registry import right


@right
class Mixture(ExactLikelihood):
    """A mixture of products of categoricals: of Bernoullis where there are two levels (Lazarsfeld 1950)."""

    def __init__(self, spec: ImageSpec, *, num_components: int = 4) -> None:
        super().__init__(spec)
        at_most(spec, 1600)
        self.shares = nn.Parameter(torch.zeros(num_components))
        self.logits = nn.Parameter(torch.randn(num_components, spec.levels, *spec.shape))

    def log_joint(self, images: Tensor) -> Tensor:
        """Maps (N, C, H, W) uint8 to (N, K) nats: log p(image, component)."""
        table = self.logits.log_softmax(1)
        per_entry = torch.stack([pick(part.expand(len(images), *part.shape), images) for part in table], 1)
        return self.shares.log_softmax(0) + per_entry.flatten(2).sum(2)

    def log_prob(self, images: Tensor) -> Tensor:
        return self.log_joint(images).logsumexp(1)

    @torch.no_grad()
    def sample(self, num_samples: int) -> Tensor:
        component = categorical_draw(self.shares.expand(num_samples, -1))
        return categorical_draw(self.logits[component]).to(torch.uint8)

    def fit(self, data: Dataset, trainer: Trainer) -> None:
        fit_by_gradient(self, data, trainer, lambda batch: -self.log_prob(batch.images).mean())


@right
class KernelDensity(ExactLikelihood):
    """A kernel on every training image, each entry of which is redrawn with a probability (Aitchison & Aitken 1976)."""

    def __init__(self, spec: ImageSpec, *, num_centres: int = 100) -> None:
        super().__init__(spec)
        self.num_centres = num_centres
        self.register_buffer("centres", torch.empty(0, dtype=torch.uint8))
        self.register_buffer("redrawn", torch.tensor(0.5))

    def fit(self, data: Dataset, trainer: Trainer) -> None:
        for batch in trainer.batches(data.train, batch_size=self.num_centres):
            self.centres = batch.images.clone()
            break
        candidates = torch.linspace(0.05, 0.9, 18).tolist()
        scores = []
        for candidate in candidates:
            self.redrawn.fill_(candidate)
            scores.append(float(self.log_prob(data.valid.images).sum()))
        self.redrawn.fill_(candidates[scores.index(max(scores))])

    def log_kernels(self, images: Tensor) -> Tensor:
        """Maps (N, C, H, W) uint8 to (N, M) nats: log p(image | centre)."""
        size = self.spec.num_dimensions
        same = (images.flatten(1)[:, None] == self.centres.flatten(1)).sum(2).to(self.dtype)
        other = self.redrawn.to(self.dtype) / self.spec.levels
        return same * (1 - self.redrawn.to(self.dtype) + other).log() + (size - same) * other.log()

    def log_prob(self, images: Tensor) -> Tensor:
        return self.log_kernels(images).logsumexp(1) - math.log(len(self.centres))

    def sample(self, num_samples: int) -> Tensor:
        centres = self.centres[torch.randint(len(self.centres), (num_samples,))]
        redrawn = torch.rand(centres.shape, dtype=torch.float64) < self.redrawn
        return torch.where(redrawn, torch.randint_like(centres, self.spec.levels), centres)


@right
class DiscretizedLogistic(ExactLikelihood):
    """Discretized logistics whose outermost bins absorb the tails (Salimans et al. 2017, arXiv 1701.05517)."""

    def __init__(self, spec: ImageSpec, *, num_components: int = 3) -> None:
        super().__init__(spec)
        at_most(spec, 20_000)
        shape = (num_components, *spec.shape)
        self.shares = nn.Parameter(torch.zeros(num_components))
        self.means = nn.Parameter((spec.levels - 1) * torch.rand(shape))
        self.log_scales = nn.Parameter(torch.zeros(shape))

    def cumulative(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Maps (N, 1, C, H, W) uint8 to the distribution function at the edges of their bins, (N, K, C, H, W) each."""
        lower, upper = self.edges(images)
        below, above = (torch.sigmoid((edge - self.means) / self.log_scales.exp()) for edge in (lower, upper))
        below = torch.where(images == 0, torch.zeros_like(below), below)
        return below, torch.where(images == self.spec.levels - 1, torch.ones_like(above), above)

    def edges(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Maps images (N, 1, C, H, W) uint8 to the lower and upper edges of their bins, in levels."""
        middle = images.to(self.dtype)
        return middle - 0.5, middle + 0.5

    def log_joint(self, images: Tensor) -> Tensor:
        """Maps (N, C, H, W) uint8 to (N, K) nats: log p(image, component)."""
        below, above = self.cumulative(images[:, None])
        per_entry = (above - below).clamp_min(1e-300).log()
        return self.shares.log_softmax(0) + per_entry.flatten(2).sum(2)

    def log_prob(self, images: Tensor) -> Tensor:
        return self.log_joint(images).logsumexp(1)

    @torch.no_grad()
    def sample(self, num_samples: int) -> Tensor:
        component = categorical_draw(self.shares.expand(num_samples, -1))
        uniform = torch.rand(num_samples, *self.spec.shape, dtype=self.dtype)
        value = self.means[component] + self.log_scales[component].exp() * torch.logit(uniform, eps=1e-12)
        return value.round().clamp(0, self.spec.levels - 1).to(torch.uint8)

    def fit(self, data: Dataset, trainer: Trainer) -> None:
        fit_by_gradient(self, data, trainer, lambda batch: -self.log_prob(batch.images).mean())


@right
class Independent(ExactLikelihood):
    """Every entry drawn on its own, by its frequency in the training images with one count added (Laplace 1774)."""

    def __init__(self, spec: ImageSpec) -> None:
        super().__init__(spec)
        self.register_buffer("probs", torch.empty(0))

    def fit(self, data: Dataset, trainer: Trainer) -> None:
        counts = F.one_hot(data.train.images.long(), self.spec.levels).sum(0).to(self.dtype) + 1  # (C, H, W, levels)
        self.probs = counts / counts.sum(-1, keepdim=True)

    def log_prob(self, images: Tensor) -> Tensor:
        chosen = self.probs.expand(len(images), *self.probs.shape).gather(-1, images.long().unsqueeze(-1))
        return chosen.log().flatten(1).sum(1)

    def sample(self, num_samples: int) -> Tensor:
        return categorical_draw(self.probs.log().expand(num_samples, *self.probs.shape), dim=-1).to(torch.uint8)
