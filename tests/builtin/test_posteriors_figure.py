"""The figure of posteriors: each of four different images in a cloud of its own, and all of them together."""

from __future__ import annotations

import math

import pytest
import torch

from harness import Dataset, ImageSpec, LatentVariable, ShownModel, Split
from harness.builtin.figures.posteriors import draw_posteriors

SPEC = ImageSpec(1, 2, 2, 2)
CENTRES = torch.tensor([[-2.0, -2.0], [-2.0, 2.0], [2.0, -2.0], [2.0, 2.0]])


class Clouds(LatentVariable):
    """Its posterior of the image whose pixel k is set is N(CENTRES[k], 0.1^2)."""

    def fit(self, data, trainer):
        raise NotImplementedError

    def sample(self, num_samples):
        raise NotImplementedError

    def log_importance_weights(self, images, num_samples):
        raise NotImplementedError

    def log_prior(self, latents):
        raise NotImplementedError

    def log_likelihood(self, images, latents):
        raise NotImplementedError

    def draw_posterior(self, images):
        noise = torch.randn(len(images), 2)
        return images.flatten(1).float() @ CENTRES + 0.1 * noise, torch.zeros(len(images))


class Silent(Clouds):
    """The same without a way to draw."""

    draw_posterior = LatentVariable.draw_posterior


def shown(model):
    order = torch.tensor([1, 1, 3, 1, 0, 2, *torch.arange(4).repeat(50)])
    split = Split(torch.eye(4, dtype=torch.uint8)[order].view(-1, 1, 2, 2))
    return ShownModel("clouds", model(SPEC), Dataset("four", SPEC, split, split, split, "none"))


def points(panel, chart):
    return chart["datasets"][panel["layer"][0]["data"]["name"]]


def test_each_of_the_first_four_different_images_has_a_cloud_and_all_have_one_together():
    chart = draw_posteriors(shown(Clouds)).to_dict()
    single, together = (points(panel, chart) for panel in chart["hconcat"])
    for name, pixel in zip(("image 1", "image 2", "image 3", "image 4"), (1, 3, 0, 2), strict=True):
        cloud = [value for value in single if value["of"] == name]
        assert len(cloud) == 300
        mean = [sum(value[axis] for value in cloud) / 300 for axis in "xy"]
        assert mean == pytest.approx(CENTRES[pixel].tolist(), abs=0.05)
    assert len(together) == 206
    assert {(math.copysign(1, value["x"]), math.copysign(1, value["y"])) for value in together} == {
        (-1, -1), (-1, 1), (1, -1), (1, 1),
    }  # fmt: skip


def test_nothing_is_drawn_where_a_model_does_not_say_how_its_latents_are():
    assert draw_posteriors(shown(Silent)) is None
