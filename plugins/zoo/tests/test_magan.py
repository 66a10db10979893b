from __future__ import annotations

import math

import pytest
import torch

from harness import Budget, Dataset, ImageSpec, Split, Trainer
from harness_gan.adversarial import Round
from harness_zoo.magan import MAGAN

SPEC = ImageSpec(channels=1, height=4, width=4, levels=3)


def small(**changes):
    torch.manual_seed(0)
    return MAGAN(SPEC, **{"network": "mlp", "latents": 2, "width": 8, "batch_size": 4, **changes})


def some_data(num_images=10):
    split = Split(torch.randint(0, 3, (num_images, 1, 4, 4), dtype=torch.uint8), None)
    return Dataset("noise", SPEC, split, split, split)


def number(value):
    return torch.tensor(value, dtype=torch.float64)


@pytest.mark.parametrize(
    ("margin", "before", "real", "fake", "after"),
    [
        (1.0, 1.5, 0.5, 2.0, 0.5),
        (0.5, 1.5, 1.0, 2.0, 0.5),  # it never grows
        (1.0, 0.25, 0.75, 0.5, 1.0),  # generated images are below the real ones
        (1.0, 2.5, 0.5, 2.0, 1.0),  # the generator gains ground
        (1.0, math.inf, 0.5, 2.0, 1.0),  # the first epoch
    ],
)
def test_the_margin_falls_to_the_energy_of_the_data_by_the_rule(margin, before, real, fake, after):
    model = small().double()
    model.margin.fill_(margin)
    model.before.fill_(before)
    model.adapt(number(real), number(fake))
    assert model.margin.item() == after
    assert model.before.item() == fake


def test_an_epochs_energies_are_means_over_all_of_its_images():
    model, epochs = small().double(), []
    model.images_an_epoch = 5
    model.adapt = lambda real, fake: epochs.append((real.item(), fake.item()))
    real, fake = (torch.rand(10, 1, 4, 4, dtype=torch.float64) for _ in range(2))
    for part in (slice(0, 4), slice(4, 5), slice(5, 9), slice(9, 10)):
        model.after_discriminator(Round(real[part], fake[part], torch.zeros(1)))
    energies = [
        [model.judge(images[part]).mean().item() for images in (real, fake)] for part in (slice(5), slice(5, 10))
    ]
    assert [pytest.approx(pair) for pair in energies] == epochs


def test_the_margin_starts_at_the_energy_of_the_data_after_training_the_autoencoder_alone():
    model, data, seen = small(pretraining=0.5), some_data(), []
    generator = [weight.clone() for weight in model.generator.parameters()]
    untrained = model.mean_energy(data).item()

    def look(shown):
        seen.append((model.margin.item(), model.mean_energy(data).item()))
        same = all(torch.equal(a, b) for a, b in zip(generator, model.generator.parameters(), strict=True))
        assert same == (len(seen) == 1)
        return MAGAN.discriminator_loss(model, shown)

    model.discriminator_loss = look
    model.fit(data, Trainer(model, data, budget=Budget.parse("10 steps")))
    assert len(seen) == 5
    assert seen[0][0] == seen[0][1] < untrained
    assert seen[1][0] == seen[0][0] != seen[1][1]


@pytest.mark.parametrize("stop", [2, 5])
def test_a_training_that_is_killed_in_either_stage_goes_on_to_the_same_weights(stop, tmp_path):
    data, budget = some_data(), Budget.parse("9 steps")
    whole = small(pretraining=0.4)
    whole.fit(data, Trainer(whole, data, budget=budget))
    steps = iter(range(9))
    first = small(pretraining=0.4)
    with pytest.raises(RuntimeError, match="stopped at step"):
        first.fit(data, Trainer(first, data, budget=budget, folder=tmp_path, should_stop=lambda: next(steps) == stop))
    second = small(pretraining=0.4)
    second.fit(data, Trainer(second, data, budget=budget, folder=tmp_path))
    assert all(torch.equal(value, second.state_dict()[name]) for name, value in whole.state_dict().items())
