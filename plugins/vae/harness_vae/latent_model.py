"""What deeper variational autoencoders share: weights in parts, what is maximised, and the training."""

from __future__ import annotations

import copy
import math
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from harness import Dataset, ImageSpec, Inference, LatentVariable, Split, Trainer, mean_over
from harness_layers.averaging import update_average
from harness_layers.checks import check_at_least, check_positive, check_share
from harness_layers.descent import Descent, descend


@dataclass(frozen=True)
class Terms:
    """Log importance weights of N images in parts, S draws each: log w = log_likelihood + the sum of log_ratios.

    Attributes:
        log_likelihood: (S, N) nats, log p(x | z).
        log_ratios: (S, N) nats for each layer of latents, the top first: log p(z_l | z above) - log q(z_l | ...).
    """

    log_likelihood: Tensor
    log_ratios: Sequence[Tensor]

    def log_weights(self, share: float = 1.0) -> Tensor:
        """Returns (S, N) nats, with the ratios multiplied by a share of them."""
        return self.log_likelihood + share * torch.stack(list(self.log_ratios)).sum(0)


@dataclass(frozen=True, kw_only=True)
class Objective:
    """What is maximised: the log of the mean of k importance weights, and how much the latents are made to cost.

    Attributes:
        num_samples: k; one for the evidence lower bound (Burda et al. 2016, arXiv 1509.00519).
        warm_up: the share of the training over which the weight of the latents' cost, the KL divergence to the prior,
            grows from zero to one (Sønderby et al. 2016, arXiv 1602.02282).
        free_bits: lambda, nats: what each layer may cost for nothing, on the average of a batch (Kingma et al. 2016,
            arXiv 1606.04934).
        average_decay: of the average of the weights that is validated and kept (Polyak & Juditsky 1992); None keeps
            the weights themselves.

    Raises:
        ValueError: a number out of its range, or free bits with more than one sample.
    """

    num_samples: int = 1
    warm_up: float = 0.0
    free_bits: float = 0.0
    average_decay: float | None = None

    def __post_init__(self) -> None:
        check_positive(num_samples=self.num_samples)
        check_share(warm_up=self.warm_up)
        check_at_least(0, free_bits=self.free_bits)
        if self.average_decay is not None:
            check_share(average_decay=self.average_decay)
        if self.free_bits and self.num_samples > 1:
            raise ValueError(f"free_bits={self.free_bits} needs num_samples=1, not {self.num_samples}")

    def of(self, terms: Terms, fraction: float = 1.0) -> Tensor:
        """Returns (N,) nats: what is maximised where a fraction of the budget is spent; by default, the bound alone."""
        share = min(1.0, fraction / self.warm_up) if self.warm_up else 1.0
        if self.free_bits and fraction < 1:
            costs = -torch.stack([ratio.mean() for ratio in terms.log_ratios])  # (L,), of the batch
            return terms.log_likelihood.mean(0) - share * costs.clamp(min=self.free_bits).sum()
        return terms.log_weights(share).logsumexp(0) - math.log(self.num_samples)


class AmortisedModel(LatentVariable):
    """Latents in layers with an amortised posterior, under any decoder. A subclass says how a weight is made.

    Args:
        spec: the sample space.
        objective: what is maximised.
        descent: how.
    """

    block_rows: ClassVar[int] = 256  # images times draws that are worked through at once, to stay in caches

    def __init__(self, spec: ImageSpec, *, objective: Objective, descent: Descent) -> None:
        super().__init__(spec)
        self.objective, self.descent = objective, descent

    @abstractmethod
    def features(self, images: Tensor) -> Sequence[Tensor]:
        """Maps (N, C, H, W) uint8 to what the posterior is made of, (N, ...) each: computed once for all draws."""

    @abstractmethod
    def terms(self, images: Tensor, features: Sequence[Tensor], num_samples: int) -> Terms:
        """Maps (N, C, H, W) uint8 and their ``features`` to the parts of ``num_samples`` weights of each."""

    def start_from(self, images: Tensor) -> None:
        """Sets what starts from the training images, (M, C, H, W) uint8, before the first step; by default nothing."""

    def log_importance_weights(self, images: Tensor, num_samples: int) -> Tensor:
        """Maps (N, C, H, W) uint8 to (num_samples, N) nats: log p(x, z) - log q(z | x) for z drawn from q."""
        return torch.cat([self._log_weights(part, num_samples) for part in torch.split(images, self.block_rows)], dim=1)

    def _log_weights(self, images: Tensor, num_samples: int) -> Tensor:
        features, most = self.features(images), max(1, self.block_rows // max(1, len(images)))
        sizes = [most] * (num_samples // most) + [num_samples % most] * (num_samples % most > 0)
        return torch.cat([self.terms(images, features, size).log_weights() for size in sizes])

    def layer_divergences(self, images: Tensor) -> Tensor:
        """Maps (N, C, H, W) uint8 to (N, L) nats: one draw of log q - log p of each layer of latents, the top first."""
        parts = [self.terms(part, self.features(part), 1) for part in torch.split(images, self.block_rows)]
        return torch.cat([-torch.cat(list(terms.log_ratios)).T for terms in parts])

    def fit(self, data: Dataset, trainer: Trainer) -> None:
        """Maximises the objective; the weights with the best bound on the validation split are kept."""
        objective, taken_in = self.objective, 0
        self.start_from(data.train.draw(0).images.to(self.device))
        moving = self  # what gradient steps move; this model is their average, where one is asked for
        if objective.average_decay is not None:
            moving = copy.deepcopy(self)
            trainer.track(moving=moving)

        def loss(batch: Split) -> Tensor:
            nonlocal taken_in
            if objective.average_decay is not None and trainer.step != taken_in:
                taken_in = trainer.step
                update_average(self, moving, decay=objective.average_decay, num_steps=taken_in)
            terms = moving.terms(batch.images, moving.features(batch.images), objective.num_samples)
            return -objective.of(terms, trainer.fraction)

        def bound(images: Tensor) -> Tensor:
            weights = self.log_importance_weights(images, objective.num_samples)
            return weights.logsumexp(0) - math.log(objective.num_samples)

        descend(moving, data, trainer, self.descent, loss, score=lambda split: -mean_over(split, bound))


class LatentModel(AmortisedModel, Inference):
    """The same under a decoder whose expected image is known: an autoregressive one can only be drawn from."""
