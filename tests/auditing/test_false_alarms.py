"""Right models of kinds that were once failed: each group is one cause of false alarms, and passes on every seed."""

import math

import pytest
import torch
from museum.autoregressive import MADE
from museum.common import at_most, categorical_draw
from museum.latent import IWAE
from torch import nn

import harness
from harness import audit


def only(*sizes):
    """Makes of a model's class one that takes some sample spaces alone, so that its audit is quick."""

    def make(model):
        def construct(spec):
            if (spec.channels, spec.height, spec.width, spec.levels) not in sizes:
                raise harness.Unsupported(f"{sizes} alone")
            return model(spec)

        return construct

    return make


def failures(model, *checks, seed=0, sizes=((1, 2, 2, 4),)):
    subject = harness.Subject(model.__name__, only(*sizes)(model))
    report = audit(subject, seed=seed, only=checks or None)
    return [f"{result.check}: {result.meaning}, {result.failures}" for result in report.failed]


# --- values that cannot occur ---


class UnusedLevel(MADE):
    """Its last level has probability zero: a token that is never used."""

    def conditional_logits(self, images, ordering=0):
        logits = super().conditional_logits(images, ordering).clone()
        logits[:, -1] = -math.inf
        return logits

    def fit(self, data, trainer):
        raise harness.Unsupported("data have that level")


class NeverDarker(MADE):
    """An entry is at least as bright as the one before it: which values are impossible depends on the past."""

    def conditional_logits(self, images, ordering=0):
        before = torch.cat([torch.zeros(len(images), 1, dtype=torch.uint8), images.flatten(1)[:, :-1]], 1)
        levels = torch.arange(self.spec.levels).view(1, -1, 1, 1, 1)
        impossible = levels < before.view(len(images), 1, *self.spec.shape)
        return super().conditional_logits(images, ordering).masked_fill(impossible, -math.inf)

    def fit(self, data, trainer):
        raise harness.Unsupported("data are darker")


class EvenImages(harness.ExactLikelihood):
    """A table of the images whose sum is even; the others have probability zero."""

    def __init__(self, spec):
        super().__init__(spec)
        at_most(spec, 16)
        self.energies = nn.Parameter(torch.randn(spec.levels**spec.num_dimensions))

    def table(self):
        powers = self.spec.levels ** torch.arange(self.spec.num_dimensions)
        values = torch.arange(len(self.energies))[:, None] // powers % self.spec.levels
        return self.energies.masked_fill(values.sum(1) % 2 == 1, -math.inf).log_softmax(0)

    def log_prob(self, images):
        powers = self.spec.levels ** torch.arange(self.spec.num_dimensions)
        return self.table()[(images.flatten(1).long() * powers).sum(1)]

    def sample(self, num_samples):
        index = categorical_draw(self.table().detach().expand(num_samples, -1))
        powers = self.spec.levels ** torch.arange(self.spec.num_dimensions)
        return (index[:, None] // powers % self.spec.levels).view(-1, *self.spec.shape).to(torch.uint8)

    def fit(self, data, trainer):
        raise harness.Unsupported("data are odd, too")


class UnusedLevelVAE(IWAE):
    """A VAE whose decoder never draws the last level."""

    def logits(self, latents):
        logits = super().logits(latents).clone()
        logits[:, -1] = -math.inf
        return logits

    def fit(self, data, trainer):
        raise harness.Unsupported("data have that level")


@pytest.mark.parametrize("model", [UnusedLevel, NeverDarker, EvenImages, UnusedLevelVAE])
def test_values_that_cannot_occur_are_neither_nan_nor_a_leak(model):
    assert failures(model) == []
