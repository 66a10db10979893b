"""active-units on encoders whose covariances are known."""

import math

import pytest
import torch

from harness import Dataset, Evaluation, ImageSpec, Inference, NonFiniteScore, Split
from harness.builtin.metrics.likelihood import ActiveUnits

SPEC = ImageSpec(1, 1, 1, levels=2)


class Scaled(Inference):
    """The single pixel, 0 or 1, times a scale a unit plus an offset: half ones give a variance of scale^2 / 4."""

    def __init__(self, spec, *, scales, offset=0.0, sizes=None):
        super().__init__(spec)
        self.scales, self.offset, self.sizes = torch.tensor(scales), offset, sizes

    @property
    def latent_sizes(self):
        return super().latent_sizes if self.sizes is None else self.sizes

    def encode(self, images):
        return images.flatten(1).double() * self.scales + self.offset

    def decode(self, latents):
        raise NotImplementedError

    def fit(self, data, trainer): ...

    def sample(self, num_samples):
        raise NotImplementedError


def evaluate(model, **options):
    images = (torch.arange(10) % 2).to(torch.uint8).view(10, 1, 1, 1)
    data = Dataset("toy", SPEC, Split(images), Split(images), Split(images))
    return ActiveUnits().evaluate(Evaluation(model, data, **options))


def test_units_count_whose_posterior_mean_has_a_variance_above_a_hundredth():
    # variances 0.0099, 0.0101, 0, 1
    score = evaluate(Scaled(SPEC, scales=[2 * math.sqrt(0.0099), 2 * math.sqrt(0.0101), 0.0, 2.0]))
    assert score.value == 2
    assert score.details == {"units": 4}


def test_a_large_constant_mean_does_not_make_a_unit_active():
    assert evaluate(Scaled(SPEC, scales=[0.0, 1e-3, 1.0], offset=1000.0)).value == 1


def test_the_count_does_not_depend_on_the_batch_size():
    model = Scaled(SPEC, scales=[0.19, 0.21, 2.0])
    assert {evaluate(model, batch_size=size).value for size in (1, 3, 10, 100)} == {2}


def test_each_stochastic_layer_is_counted_where_the_model_says_its_sizes():
    score = evaluate(Scaled(SPEC, scales=[1.0, 0.0, 0.0, 1.0, 1.0], sizes=(2, 3)))
    assert score.details == {
        "units": 5,
        "layer_1_active": 1,
        "layer_1_units": 2,
        "layer_2_active": 2,
        "layer_2_units": 3,
    }


def test_sizes_that_do_not_add_up_are_an_error():
    with pytest.raises(ValueError, match="add up to 4"):
        evaluate(Scaled(SPEC, scales=[1.0, 1.0, 1.0], sizes=(2, 2)))


def test_a_posterior_mean_that_is_not_a_number_is_an_error():
    with pytest.raises(NonFiniteScore, match="posterior mean"):
        evaluate(Scaled(SPEC, scales=[1.0, math.nan]))
