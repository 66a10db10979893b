"""One histogram for each entry: what a model gets that knows where the ink is and nothing else."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn

from harness import Dataset, ExactLikelihood, ImageSpec, Trainer
from harness_layers.checks import check_positive
from harness_layers.pixels import level_counts


class IndependentPixels(ExactLikelihood):
    """A categorical distribution for every entry, independent of all the others, by smoothed maximum likelihood.

    log p(x) = sum_i log theta[x_i, i],  theta[v, i] = (n[v, i] + pseudocount / levels) / (n + pseudocount),

    where n[v, i] of the n training images have value v at entry i. This is the posterior mean under a symmetric
    Dirichlet prior whose parameters sum to ``pseudocount`` at each entry: one uniform image's worth of data by default.
    Random data count all their fixed draws. Before ``fit``, theta is uniform.

    Args:
        spec: the sample space.
        pseudocount: images' worth of uniform data added to every entry, spread evenly over the levels; positive.

    Raises:
        ValueError: ``pseudocount`` is not a positive, finite number.
    """

    default_budget: ClassVar[str] = "1 epoch"

    def __init__(self, spec: ImageSpec, *, pseudocount: float = 1.0) -> None:
        super().__init__(spec)
        check_positive(pseudocount=pseudocount)  # values that were never seen need a probability
        self.pseudocount = pseudocount
        # Normalised where they are used, so that rounding to the parameters' precision costs no probability.
        self.logits = nn.Parameter(torch.zeros(spec.levels, *spec.shape), requires_grad=False)

    @torch.no_grad()
    def fit(self, data: Dataset, trainer: Trainer) -> None:
        """Counts."""
        levels, split = self.spec.levels, data.train
        counts = torch.zeros(self.logits.shape, dtype=torch.float64)
        for draw in range(split.num_draws):
            counts += level_counts(split.draw(draw).images.cpu(), levels)
        total = split.num_draws * len(split)
        self.logits.copy_(((counts + self.pseudocount / levels) / (total + self.pseudocount)).log())

    def log_prob(self, images: Tensor) -> Tensor:
        """Maps (N, C, H, W) uint8 to (N,) nats."""
        table = self.logits.log_softmax(0).expand(len(images), *self.logits.shape)  # (N, levels, C, H, W)
        return table.gather(1, images.long().unsqueeze(1)).flatten(1).sum(1)

    def sample(self, num_samples: int) -> Tensor:
        """Returns (num_samples, C, H, W) uint8."""
        if num_samples == 0:
            return torch.empty(0, *self.spec.shape, dtype=torch.uint8, device=self.device)
        probs = self.logits.flatten(1).T.softmax(1)  # (D, levels)
        values = torch.multinomial(probs, num_samples, replacement=True)  # (D, num_samples)
        return values.T.reshape(num_samples, *self.spec.shape).to(torch.uint8)
