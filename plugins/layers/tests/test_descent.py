from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch import nn

from harness import Budget, Dataset, ImageSpec, Model, Split, Trainer
from harness_layers.descent import Descent, descend

SPEC = ImageSpec(1, 1, 4, 256)
PLAIN = Descent(learning_rate=0.1, batch_size=40, schedule="constant")


class Affine(Model):
    """Four weights and a bias, whose loss is the square of a sum of pixels, times a scale."""

    def __init__(self, spec, scale):
        super().__init__(spec)
        self.scale = scale
        self.weight, self.bias = nn.Parameter(torch.ones(4)), nn.Parameter(torch.ones(1))

    def loss(self, batch):
        return (batch.images.flatten(1).to(self.dtype) / 255 @ self.weight + self.bias).square() * self.scale

    def fit(self, data, trainer):
        """Is not called."""

    def sample(self, num_samples):
        """Draws nothing."""


def descended(descent, steps, *, scale=1.0):
    """A model after a few steps, with the learning rates and losses of the steps."""
    images = torch.randint(256, (40, *SPEC.shape), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    split, model = Split(images), Affine(SPEC, scale).double()
    data = Dataset("random", SPEC, split, split, split)
    trainer = Trainer(model, data, budget=Budget(steps, "steps"), precision="float64")
    rates, losses = [], []
    track, trainer.log = trainer.track, lambda *, loss: losses.append(loss.item())

    def watched(*, optimizer):
        optimizer.register_step_pre_hook(lambda *_: rates.append(optimizer.param_groups[0]["lr"]))
        track(optimizer=optimizer)

    trainer.track = watched
    descend(model, data, trainer, descent, model.loss, score=lambda split: 0.0)
    return model, rates, losses


def test_a_first_step_of_adam_moves_every_parameter_by_the_learning_rate():
    model = descended(PLAIN, 1)[0]
    torch.testing.assert_close(torch.cat([model.weight, model.bias]), torch.full((5,), 0.9, dtype=torch.float64))


def test_the_loss_is_the_mean_over_the_batch_whatever_the_parts():
    whole, _, losses = descended(PLAIN, 5)
    parts, _, part_losses = descended(replace(PLAIN, part_size=7), 5)
    assert part_losses == pytest.approx(losses, rel=1e-12)
    torch.testing.assert_close(parts.weight, whole.weight, rtol=1e-12, atol=0)


def test_weights_decay_and_biases_do_not():
    model = descended(replace(PLAIN, weight_decay=0.5), 1, scale=0.0)[0]
    assert model.weight.tolist() == pytest.approx([0.95] * 4)  # 1 - rate * decay; no gradient
    assert model.bias.tolist() == [1.0]


def test_gradients_are_clipped_by_the_norm_of_all_of_them():
    # with a large epsilon, a step is the gradient times the learning rate over epsilon
    model = descended(replace(PLAIN, learning_rate=1.0, epsilon=1e6, max_gradient_norm=1e-3), 1)[0]
    steps = torch.cat([1 - model.weight, 1 - model.bias])
    assert steps.norm().item() * 1e6 == pytest.approx(1e-3, rel=1e-3)


def test_the_rate_warms_up_over_a_tenth_of_the_training_at_most_and_falls_as_half_a_cosine():
    rates = descended(replace(PLAIN, schedule="cosine", warm_up_steps=200), 20)[1]
    expected = [0.1 * min(1, (step + 1) / 2) * (1 + math.cos(math.pi * step / 20)) / 2 for step in range(20)]
    assert rates == pytest.approx(expected)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"learning_rate": 0.0}, "learning_rate must be positive, not 0.0"),
        ({"betas": (0.9, 1.0)}, r"betas\[1\] must be at least 0 and below 1, not 1.0"),
        ({"weight_decay": -0.1}, "weight_decay must be at least 0, not -0.1"),
        ({"max_gradient_norm": 0.0}, "max_gradient_norm must be positive, not 0.0"),
        ({"schedule": "steps"}, "schedule must be one of 'constant'"),
        ({"validate_every": "often"}, "often"),
    ],
)
def test_a_number_out_of_range_is_named(given, message):
    with pytest.raises(ValueError, match=message):
        replace(PLAIN, **given)
