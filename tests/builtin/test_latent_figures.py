"""Pictures of latents: where they grow to, what stands at their ends, which units are active."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.stats import norm

from harness import Dataset, ImageSpec, Inference, ShownModel, Split
from harness.builtin.figures.latents import (
    MANIFOLD_SIDE,
    PAIRS,
    STEPS,
    draw_interpolations,
    draw_latent_use,
    draw_manifold,
    draw_reconstructions,
)

SPEC = ImageSpec(1, 1, 4, 256)
WIDE = 56 // 4 * 4 + 1  # pixels of an image, and of the line beside it


class Ends(Inference):
    """Its two latents are the first and last pixel, in units of 100 levels around 128; the others are not seen."""

    def fit(self, data, trainer):
        raise NotImplementedError

    def sample(self, num_samples):
        raise NotImplementedError

    def encode(self, images):
        return (images[:, 0, 0, [0, 3]].to(self.dtype) - 128) / 100

    def decode(self, latents):
        ends = 128 + 100 * latents
        return torch.stack([ends[:, 0], *[torch.full((len(latents),), 7.0)] * 2, ends[:, 1]], 1).view(-1, 1, 1, 4)


class Layers(Ends):
    """The same in two layers, of which the top one says nothing."""

    @property
    def latent_sizes(self):
        return (1, 2)

    def encode(self, images):
        return torch.cat([torch.zeros(len(images), 1), super().encode(images)], 1)


@pytest.fixture
def shown():
    images = torch.randint(0, 256, (40, 1, 1, 4), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    split = Split(images)
    return ShownModel("ends", Ends(SPEC), Dataset("ends", SPEC, split, split, split, "none"))


def pixels(picture, column, row=0):
    """The four pixels of an image of a grid."""
    across = 1 + column * WIDE + 14 * np.arange(4) + 7
    return np.asarray(picture)[1 + row * 15 + 7, across]


def test_the_manifold_spreads_quantiles_of_the_prior_the_first_latent_to_the_right_the_second_upwards(shown):
    picture = draw_manifold(shown)
    corner = 128 + 100 * norm.ppf(0.05)
    last = MANIFOLD_SIDE - 1
    assert pixels(picture, 0, last).tolist() == [max(0, round(corner)), 7, 7, max(0, round(corner))]
    assert pixels(picture, last, last)[[0, 3]].tolist() == [255, 0]
    assert pixels(picture, 0, 0)[[0, 3]].tolist() == [0, 255]


def test_there_is_no_manifold_of_more_than_two_latents(shown):
    assert draw_manifold(ShownModel("layers", Layers(SPEC), shown.data)) is None


def test_reconstructions_stand_below_their_images(shown):
    picture = draw_reconstructions(shown)
    for column, image in enumerate(shown.data.test.images[:10].flatten(1).tolist()):
        assert pixels(picture, column).tolist() == image
        assert pixels(picture, column, 1).tolist() == [image[0], 7, 7, image[3]]


def test_interpolations_go_straight_from_one_image_to_the_other(shown):
    picture = draw_interpolations(shown)
    images = shown.data.test.images[: 2 * PAIRS].flatten(1).numpy()
    for row in range(PAIRS):
        first, last = images[2 * row].astype(int), images[2 * row + 1].astype(int)
        assert pixels(picture, 0, row).tolist() == first.tolist()
        assert pixels(picture, STEPS - 1, row).tolist() == last.tolist()
        found = [pixels(picture, column, row)[0] for column in range(1, STEPS - 1)]
        assert np.abs(np.array(found) - np.linspace(first[0], last[0], STEPS - 2)).max() <= 0.51


def test_units_are_shown_by_layer_and_a_collapsed_one_is_not_active(shown):
    chart = draw_latent_use(ShownModel("layers", Layers(SPEC), shown.data)).to_dict()
    values = chart["datasets"][chart["layer"][0]["data"]["name"]]
    assert chart["title"]["subtitle"].startswith("2 of 3 units are active")
    assert [(value["layer"], value["unit"]) for value in values] == [("layer 1", 1), ("layer 2", 1), ("layer 2", 2)]
    expected = ((shown.data.test.images.flatten(1).double()[:, [0, 3]] - 128) / 100).var(0, correction=0)
    assert sorted(value["variance"] for value in values[1:]) == pytest.approx(sorted(expected.tolist()), rel=1e-5)
