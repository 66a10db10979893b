"""Weights in states that show what a model computes: random ones of several kinds."""

from __future__ import annotations

import math

import torch

from harness.auditing.trial import NotApplicable
from harness.interface.model import ImportanceWeighted, Model
from harness.support.observers import TouchedStorages
from harness.support.randomness import derive_seed, generator

SHRINKS = (1.0, 0.7, 0.5, 0.35, 0.25, 0.17, 0.1, 0.05, 0.02)
"""Factors of the weights in the variants of the states ``shrunk`` and ``lopsided``."""


@torch.no_grad()
def randomise(model: Model, *, gain: float, seed: int, shrink: float = 1.0, positive: bool = False) -> None:
    """Adds noise to all weights that are trained by gradients, so that no mask, bias or branch hides behind a zero.

    Weights of one row or less, such as biases, get noise of standard deviation 0.3 gain; others gain / sqrt(fan-in), so
    that signals keep their size. ``shrink`` then scales all of them. ``positive`` weights replace the model's own
    instead, small enough for the same: no unit is dead then, and no two paths cancel.
    """
    random = generator(seed, "randomise")
    for value in model.parameters():
        if value.requires_grad and value.is_floating_point():
            fan_in = value[0].numel() if value.ndim > 1 else 0
            deviation = gain / math.sqrt(fan_in) if fan_in else 0.3 * gain
            noise = torch.randn(value.shape, dtype=torch.float64, generator=random)
            if positive:
                value.copy_((noise.abs() / max(fan_in, 3)).to(value))
            else:
                value.add_((deviation * noise).to(value)).mul_(shrink)


def make_lopsided(model: Model, shrink: float, *, seed: int) -> None:
    """Gives a model random weights, small where samples depend on them: a far encoder, and a simple decoder.

    Raises:
        NotApplicable: samples depend on all of them.
    """
    watch = TouchedStorages()
    with torch.no_grad(), watch:
        model.sample(2)
    sampling = {name for name, value in model.named_parameters() if value in watch}
    if all(name in sampling for name, value in model.named_parameters() if value.requires_grad):
        raise NotApplicable("scoring has no weights of its own")
    randomise(model, gain=1.0, seed=seed)  # so that samples are those of ``shrunk``
    with torch.no_grad():
        for name, value in model.named_parameters():
            if name in sampling and value.requires_grad:
                value.mul_(shrink)


def make_gentle(model: ImportanceWeighted, *, seed: int) -> None:
    """Gives a model random weights, shrunk until importance weights vary little: their averages mean something then.

    Raises:
        NotApplicable: they vary too much, however small the weights are.
    """
    start = {name: value.detach().clone() for name, value in model.named_parameters()}
    random = generator(seed, "gentle images")
    images = torch.randint(model.spec.levels, (64, *model.spec.shape), generator=random, dtype=torch.uint8)
    for shrink in (1.0, 0.7, 0.5, 0.35, 0.25, 0.15, 0.1, 0.05):
        with torch.no_grad():
            for name, value in model.named_parameters():
                value.copy_(start[name])
        randomise(model, gain=1.0, seed=derive_seed(seed, "gentle"), shrink=shrink)
        with torch.no_grad():
            weights = model.log_importance_weights(images, 200).double()
        log_ess = 2 * weights.logsumexp(0) - (2 * weights).logsumexp(0) - math.log(len(weights))
        if bool((log_ess.exp() > 0.3).all()):
            return
    raise NotApplicable("importance weights vary too much, however small the weights are")
