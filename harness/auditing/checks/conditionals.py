"""Conditionals: the likelihood is the product of the conditionals that it is sampled from."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch

from harness.auditing.laboratory import Laboratory
from harness.auditing.subject import Specimen
from harness.auditing.trial import Evidence, Trial
from harness.interface.model import Autoregressive

_IMAGES = 64


def conditionals(laboratory: Laboratory) -> Iterator[Evidence]:
    """Yields how far ``log_prob`` and ``conditional_log_probs`` are from what ``conditional_logits`` say."""
    laboratory.require(Autoregressive, "the model is not autoregressive")
    for specimen in laboratory.specimens("random", "fitted", spaces=laboratory.some(4)):
        yield from _agreement(specimen)


@torch.no_grad()
def _agreement(specimen: Specimen) -> Iterator[Trial]:
    model = specimen.model_as(Autoregressive)
    images = specimen.images(_IMAGES, "conditionals")
    members, worst = [], 0.0
    for ordering in range(model.num_orderings):
        table = model.conditional_logits(images, ordering).log_softmax(1)
        expected = table.gather(1, images.long().unsqueeze(1)).squeeze(1)
        worst = max(worst, _distance(model.conditional_log_probs(images, ordering), expected))
        members.append(expected.flatten(1).sum(1))
    mixture = torch.stack(members).logsumexp(0) - math.log(model.num_orderings)
    scale = float(mixture.abs().max())
    yield Trial.exact(
        specimen.where, "conditional_log_probs against the log-softmax of conditional_logits", worst, unit="nats",
        tolerance=specimen.tolerance(scale=scale), meaning="conditional_log_probs are not those of conditional_logits",
    )  # fmt: skip
    meaning = (
        "log_prob is not the sum of the conditionals' log-probabilities: what is scored is not what is sampled "
        "(another activation or clamp, a mean, a missing entry, or a mixture over orderings that is averaged in logs)"
    )
    yield Trial.exact(
        specimen.where, "log_prob against the sum of the conditionals", _distance(model.log_prob(images), mixture),
        tolerance=specimen.tolerance(scale=scale), unit="nats", meaning=meaning,
    )  # fmt: skip


def _distance(found: torch.Tensor, expected: torch.Tensor) -> float:
    return float((found - expected).abs().max())
