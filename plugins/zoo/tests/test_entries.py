"""Claims that hold for every entry: it trains, it can be killed, it draws images, and it is not blank."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from harness import Budget, Dataset, ImageSpec, Split, Trainer
from harness_zoo import ENTRIES

SPEC = ImageSpec(channels=1, height=8, width=8, levels=17, num_classes=2)
BINARY = {"bs-gan-discrete"}  # take two levels alone
models = pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.name)


def build(entry, **changes):
    torch.manual_seed(0)
    return entry.load()(spec_of(entry), **{"network": "mlp", "latents": 4, "width": 16, "batch_size": 16, **changes})


def spec_of(entry):
    return replace(SPEC, levels=2) if entry.name in BINARY else SPEC


def some_data(entry):
    """Two kinds of images, bright to the left or to the right, (64, 1, 8, 8) with their labels."""
    spec, labels = spec_of(entry), torch.arange(64) % 2
    images = torch.randint(0, spec.levels // 2 + 1, (64, 1, 8, 8), dtype=torch.uint8)
    images[labels == 0, :, :, :4] += spec.levels // 2
    images[labels == 1, :, :, 4:] += spec.levels // 2
    images.clamp_(max=spec.levels - 1)
    split = Split(images, labels)
    return Dataset("halves", spec, split, split, split)


def state_of(model):
    return {name: value.clone() for name, value in model.state_dict().items()}


@models
def test_an_entry_trains_moves_both_players_and_draws_images(entry):
    model, data = build(entry), some_data(entry)
    before = state_of(model)
    model.fit(data, Trainer(model, data, budget=Budget.parse("12 steps")))
    moved = {
        name.partition(".")[0] for name, value in model.state_dict().items() if not torch.equal(before[name], value)
    }
    assert {"generator", "discriminator"} <= moved
    images = model.eval().sample(30)
    assert images.shape == (30, 1, 8, 8)
    assert images.dtype == torch.uint8
    assert images.max() < spec_of(entry).levels
    assert len(images.unique(dim=0)) > 1


@models
def test_a_training_that_is_killed_goes_on_to_the_same_weights(entry, tmp_path):
    data, budget = some_data(entry), Budget.parse("9 steps")
    whole = build(entry)
    whole.fit(data, Trainer(whole, data, budget=budget))
    first, steps = build(entry), iter(range(9))
    stopped = Trainer(first, data, budget=budget, folder=tmp_path, should_stop=lambda: next(steps) == 4)
    with pytest.raises(RuntimeError, match="stopped at step"):
        first.fit(data, stopped)
    second = build(entry)
    second.fit(data, Trainer(second, data, budget=budget, folder=tmp_path))
    assert all(torch.equal(value, second.state_dict()[name]) for name, value in whole.state_dict().items())


@models
def test_what_a_player_minimises_is_one_finite_number(entry):
    model, data = build(entry).double(), some_data(entry)
    model.train()
    shown = model.show(data.train.take(torch.arange(16)))
    for loss in (model.discriminator_loss(shown.detached()), model.generator_loss(shown)):
        assert loss.shape == ()
        assert torch.isfinite(loss)
        assert loss.dtype == torch.float64
