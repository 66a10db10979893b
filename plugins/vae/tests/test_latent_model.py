"""What deeper variational autoencoders maximise: parts of weights, warm-up, free bits, averages of weights."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import harness
from harness_layers.descent import Descent
from harness_layers.posteriors import DiagonalGaussian, standard_normal_log_prob
from harness_vae.latent_model import LatentModel, Objective, Terms

BINARY = harness.ImageSpec(1, 2, 2, 2)


class Linear(LatentModel):
    """Two latents, linear encoder and decoder: the least that has all of the parts."""

    def __init__(self, spec, **objective):
        super().__init__(spec, objective=Objective(**objective), descent=Descent(learning_rate=0.05, batch_size=8))
        self.encoder, self.decoder = nn.Linear(4, 4), nn.Linear(2, 4)

    @property
    def latent_sizes(self):
        return (2,)

    def features(self, images):
        return (self.encoder(images.flatten(1).to(self.dtype)),)

    def terms(self, images, features, num_samples):
        posterior = DiagonalGaussian(*features[0].chunk(2, 1))
        noise = torch.randn(num_samples, len(images), 2, dtype=self.dtype)
        z = posterior.at(noise)
        ratio = standard_normal_log_prob(z) - posterior.log_prob_at(noise)
        return Terms(self._log_likelihood(images, z), (ratio,))

    def _log_likelihood(self, images, z):
        x = images.flatten(1).to(self.dtype).expand(*z.shape[:-1], 4)
        return -F.binary_cross_entropy_with_logits(self.decoder(z), x, reduction="none").sum(-1)

    def log_prior(self, latents):
        return standard_normal_log_prob(latents)

    def log_likelihood(self, images, latents):
        return self._log_likelihood(images, latents)

    def encode(self, images):
        return self.features(images)[0][:, :2]

    def decode(self, latents):
        return self.decoder(latents).sigmoid().view(-1, 1, 2, 2)

    def sample(self, num_samples):
        return self.decode(torch.randn(num_samples, 2, dtype=self.dtype)).bernoulli().to(torch.uint8)


def linear(**objective):
    torch.manual_seed(0)
    return Linear(BINARY, **objective).double()


def images(count):
    return torch.randint(0, 2, (count, 1, 2, 2), generator=torch.Generator().manual_seed(1), dtype=torch.uint8)


def test_weights_come_for_every_image_and_draw_however_they_are_blocked(monkeypatch):
    model, x = linear(), images(7)
    monkeypatch.setattr(Linear, "block_rows", 3)
    assert model.log_importance_weights(x, 5).shape == (5, 7)
    assert model.log_importance_weights(x[:2], 5).shape == (5, 2)
    many = model.log_importance_weights(x[:1].repeat(2000, 1, 1, 1), 1).exp().mean()
    monkeypatch.setattr(Linear, "block_rows", 4096)
    torch.testing.assert_close(many, model.log_importance_weights(x[:1], 4000).exp().mean(), rtol=0.1, atol=0)


def test_divergences_of_a_layer_are_those_of_its_gaussians():
    model, x = linear(), images(1)
    posterior = DiagonalGaussian(*model.features(x)[0].chunk(2, 1))
    exact = 0.5 * (posterior.mean.square() + posterior.log_variance.exp() - 1 - posterior.log_variance).sum()
    found = model.layer_divergences(x.repeat(4000, 1, 1, 1))
    assert found.shape == (4000, 1)
    assert abs(found.mean() - exact) < 5 * found.std() / math.sqrt(4000)


def test_warm_up_weighs_the_ratios_by_the_share_that_is_spent():
    terms = Terms(torch.tensor([[-3.0]]), (torch.tensor([[-1.0]]), torch.tensor([[-0.5]])))
    objective = Objective(warm_up=0.5)
    assert [objective.of(terms, fraction).item() for fraction in (0, 0.25, 0.5, 1)] == [-3.0, -3.75, -4.5, -4.5]


def test_free_bits_take_the_batchs_mean_cost_of_each_layer_and_none_below_the_threshold():
    ratios = torch.tensor([[-0.1, -0.3]]), torch.tensor([[-4.0, -2.0]])
    terms = Terms(torch.tensor([[-10.0, -20.0]]), ratios)
    torch.testing.assert_close(Objective(free_bits=0.5).of(terms, 0.9), torch.tensor([-13.5, -23.5]))
    torch.testing.assert_close(Objective(free_bits=0.5).of(terms), torch.tensor([-14.1, -22.3]))


def test_several_samples_maximise_the_log_of_the_mean_of_their_weights():
    terms = Terms(torch.tensor([[-3.0], [-2.0]]), (torch.tensor([[-1.0], [0.5]]),))
    expected = math.log((math.exp(-4) + math.exp(-1.5)) / 2)
    assert Objective(num_samples=2).of(terms).item() == pytest.approx(expected)


@pytest.mark.parametrize("wrong", [{"num_samples": 0}, {"warm_up": 2.0}, {"free_bits": -1.0}, {"average_decay": 1.5},
                                   {"free_bits": 1.0, "num_samples": 2}])  # fmt: skip
def test_options_out_of_their_range_are_named(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        Objective(**wrong)


def test_the_average_that_is_kept_lags_behind_the_weights_that_are_moved(harness_tiny_dataset):
    data = harness_tiny_dataset
    plain, averaged = (Wide(data.spec, average_decay=decay) for decay in (None, 0.999))
    averaged.load_state_dict(plain.state_dict())
    start = {name: value.clone() for name, value in plain.state_dict().items()}
    for model in (plain, averaged):
        torch.manual_seed(0)
        model.fit(data, harness.Trainer(model, data, budget=harness.Budget.parse("20 steps")))
    far = [sum(((model.state_dict()[name] - start[name]) ** 2).sum() for name in start) for model in (averaged, plain)]
    assert 0 < far[0] < far[1]


class Wide(Linear):
    """The same for any binary image."""

    def __init__(self, spec, **objective):
        super().__init__(spec, **objective)
        size = spec.num_dimensions
        self.encoder, self.decoder = nn.Linear(size, 4), nn.Linear(2, size)

    def _log_likelihood(self, images, z):
        x = images.flatten(1).to(self.dtype)
        return -F.binary_cross_entropy_with_logits(self.decoder(z), x.expand(len(z), *x.shape), reduction="none").sum(
            -1
        )
