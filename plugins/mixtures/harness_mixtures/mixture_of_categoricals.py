"""A mixture of products of categoricals, by expectation maximisation (Dempster, Laird & Rubin 1977)."""

from __future__ import annotations

from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from harness import Dataset, ExactLikelihood, ImageSpec, Trainer, mean_over
from harness_layers.checks import check_positive
from harness_mixtures.seeding import log_weights_of, nearest_seed, seeds_among

_CHUNK = 1024


def log_likelihoods(images: Tensor, log_probs: Tensor) -> Tensor:
    """Maps (N, D) integer images and (D, levels, K) tables to (N, K) nats: sum_i log_probs[i, x_i, k]."""
    dimensions, levels, components = log_probs.shape
    table = log_probs.reshape(dimensions * levels, components)
    if levels == 2:  # A dense product is several times faster where half of the table is used anyway.
        ones = images.to(table)  # (N, D)
        return ones @ (log_probs[:, 1] - log_probs[:, 0]) + log_probs[:, 0].sum(0)
    rows = images.long() + levels * torch.arange(dimensions, device=images.device)
    return F.embedding_bag(rows, table, mode="sum")


def maximise(counts: Tensor, sizes: Tensor, *, pseudocount: float) -> tuple[Tensor, Tensor]:
    """The M step, under symmetric Dirichlet priors that add ``pseudocount`` images of uniform data to each entry.

    Args:
        counts: (D, levels, K): how many images have the value at the entry and belong to the component.
        sizes: (K,): how many images belong to the component.
        pseudocount: images' worth of uniform data in each component.

    Returns:
        (K,) log-weights and (D, levels, K) log-probabilities.
    """
    levels = counts.shape[1]
    log_probs = ((counts + pseudocount / levels) / (sizes + pseudocount)).log()
    return log_weights_of(sizes), log_probs


def em_step(
    images: Tensor, log_weights: Tensor, log_probs: Tensor, *, pseudocount: float
) -> tuple[Tensor, Tensor, float]:
    """One iteration of EM.

    The objective, log-likelihood plus log-prior, (pseudocount / levels) * sum(log_probs), never falls.

    Args:
        images: (N, D) integers.
        log_weights: (K,) nats, float64.
        log_probs: (D, levels, K) nats, float64.
        pseudocount: images' worth of uniform data in each component.

    Returns:
        New log-weights, new log-probabilities, and the log-likelihood of the *old* ones, in nats an image.
    """
    total, sizes, counts = 0.0, torch.zeros_like(log_weights), torch.zeros_like(log_probs)
    with torch.enable_grad():
        weights, table = log_weights.detach().requires_grad_(), log_probs.detach().requires_grad_()
        for start in range(0, len(images), _CHUNK):
            chunk = images[start : start + _CHUNK]
            log_likelihood = (log_likelihoods(chunk, table) + weights).logsumexp(1).sum()
            # Expected counts are derivatives of the log-likelihood by the log-probabilities (Fisher's identity).
            share, count = torch.autograd.grad(log_likelihood, (weights, table))
            sizes += share
            counts += count
            total += log_likelihood.item()
    new_weights, new_probs = maximise(counts, sizes, pseudocount=pseudocount)
    return new_weights, new_probs, total / len(images)


class MixtureOfCategoricals(ExactLikelihood):
    """K products of categoricals; of Bernoullis, where images are binary.

    log p(x) = log sum_k weight_k prod_i theta[i, x_i, k]

    A step is one iteration of EM on the whole training split (Dempster, Laird & Rubin 1977) from k-means++ seeds, with
    theta smoothed as in ``IndependentPixels``. The best iteration on the validation split is kept. Before ``fit``,
    every component is uniform.

    Args:
        spec: the sample space.
        components: K.
        pseudocount: images' worth of uniform data added to each component's entries, spread evenly over the levels.

    Raises:
        ValueError: ``components`` is below 1, or ``pseudocount`` is not a positive, finite number.
    """

    default_budget: ClassVar[str] = "50 epochs"

    def __init__(self, spec: ImageSpec, *, components: int = 50, pseudocount: float = 1.0) -> None:
        super().__init__(spec)
        check_positive(components=components, pseudocount=pseudocount)
        self.pseudocount = pseudocount
        # Normalised where they are used, so that rounding to the parameters' precision costs no probability.
        self.weight_logits = nn.Parameter(torch.zeros(components), requires_grad=False)
        self.logits = nn.Parameter(torch.zeros(spec.num_dimensions, spec.levels, components), requires_grad=False)

    @torch.no_grad()
    def fit(self, data: Dataset, trainer: Trainer) -> None:
        """Runs EM until the budget is spent."""
        self._start(data.train.draw(0).images)
        trainer.validate(lambda split: -mean_over(split, self.log_prob), every="1 epoch")
        for batch in trainer.batches(data.train, batch_size=len(data.train)):
            weights, probs, log_likelihood = em_step(
                batch.images.flatten(1),
                self.weight_logits.double().log_softmax(0),
                self.logits.double().log_softmax(1),
                pseudocount=self.pseudocount,
            )
            self.weight_logits.copy_(weights)
            self.logits.copy_(probs)
            trainer.log(loss=-log_likelihood)

    def _start(self, images: Tensor) -> None:
        dimensions, levels, components = self.logits.shape
        points = images.flatten(1)
        seeds = seeds_among(images, components, self.device)
        counts = torch.zeros(dimensions * levels * components, dtype=torch.int64, device=self.device)
        sizes = torch.zeros(components, dtype=torch.int64, device=self.device)
        first = levels * torch.arange(dimensions, device=self.device)
        for start in range(0, len(points), _CHUNK):
            chunk = points[start : start + _CHUNK].to(self.device)
            nearest = nearest_seed(chunk.double(), seeds)  # (B,)
            sizes += torch.bincount(nearest, minlength=components)
            cells = (chunk.long() + first) * components + nearest[:, None]  # (B, D)
            counts += torch.bincount(cells.flatten(), minlength=len(counts))
        table = counts.double().view(dimensions, levels, components)
        weights, probs = maximise(table, sizes.double(), pseudocount=self.pseudocount)
        self.weight_logits.copy_(weights)
        self.logits.copy_(probs)

    def log_prob(self, images: Tensor) -> Tensor:
        """Maps (N, C, H, W) uint8 to (N,) nats."""
        log_joint = log_likelihoods(images.flatten(1), self.logits.log_softmax(1)) + self.weight_logits.log_softmax(0)
        return log_joint.logsumexp(1)

    @torch.no_grad()
    def sample(self, num_samples: int) -> Tensor:
        """Returns (num_samples, C, H, W) uint8."""
        images = torch.empty(num_samples, self.spec.num_dimensions, dtype=torch.uint8, device=self.device)
        if num_samples > 0:
            component = torch.multinomial(self.weight_logits.softmax(0), num_samples, replacement=True)
            for k in sorted(set(component.tolist())):
                rows = (component == k).nonzero().flatten()
                values = torch.multinomial(self.logits[:, :, k].softmax(1), len(rows), replacement=True)  # (D, rows)
                images[rows] = values.T.to(torch.uint8)
        return images.view(num_samples, *self.spec.shape)
