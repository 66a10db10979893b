"""The pictures of a game: a critic over the plane, its weights and slopes, a walk through the latents, the matrix."""

from __future__ import annotations

import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from harness import Dataset, ImageSpec, Split
from harness_gan.critic_figures import draw_surface, draw_weights
from harness_gan.gan import GAN
from harness_gan.matrix_figure import draw_matrix
from harness_gan.scores import Scores
from harness_gan.walk_figure import between, draw_walk

PLANE = ImageSpec(1, 1, 2, 256)


def shown(spec, **changes):
    model = GAN(spec, network="mlp", latents=6, width=8, averaging=0.0, dropout=0.0, **changes).eval()
    split = Split(torch.randint(spec.levels, (50, *spec.shape), dtype=torch.uint8))
    return SimpleNamespace(model=model, data=Dataset("some", spec, split, split, split), seed=0, label="some GAN")


@pytest.mark.parametrize("entry", [0, 1])
def test_the_surface_has_the_first_entry_across_and_the_second_upwards(entry):
    one = shown(PLANE)
    linear = nn.Linear(2, 1, bias=False)
    with torch.no_grad():
        linear.weight.copy_(torch.eye(2)[entry : entry + 1])
    one.model.discriminator = Scores(nn.Flatten(), linear)
    red = np.asarray(draw_surface(one), dtype=int)[:, :, 2]  # blue: neither kind of dots has the scale's own
    ends = (red[:, :8], red[:, -8:]) if entry == 0 else (red[-8:], red[:8])
    assert np.median(ends[0]) < np.median(ends[1])


def test_the_surface_marks_points_where_they_are():
    one = shown(PLANE)
    image = torch.tensor([[[[255, 0]]]], dtype=torch.uint8)  # to the right, below
    split = Split(image)
    one.data = Dataset("corner", PLANE, split, split, split)
    one.model.discriminator = Scores(nn.Flatten(), nn.Linear(2, 1))
    picture = np.asarray(draw_surface(one))
    assert (picture[-3:, -3:] == (255, 120, 0)).all()


def test_images_of_more_entries_have_no_surface():
    assert draw_surface(shown(ImageSpec(1, 2, 2, 256))) is None


def test_weights_are_counted_and_slopes_are_those_of_each_layers_output():
    one = shown(PLANE)
    layers = nn.Linear(2, 3), nn.Linear(3, 1)
    one.model.discriminator = Scores(nn.Flatten(), *layers)
    chart = json.loads(draw_weights(one).to_json())
    bars, slopes = (chart["datasets"][part["data"]["name"]] for part in chart["hconcat"])
    assert sum(bar["weights"] for bar in bars) == 2 * 3 + 3 + 3 + 1
    assert [row["slope"] for row in slopes] == pytest.approx([layers[1].weight.norm().item(), 1.0], rel=1e-4)


def test_a_walk_goes_from_one_draw_to_the_other_and_keeps_away_from_the_origin():
    first, last = torch.randn(2, 5, 64, dtype=torch.float64)
    ends = [between(first, last, torch.tensor(share, dtype=torch.float64)) for share in (0.0, 1.0)]
    torch.testing.assert_close(ends, [first, last])
    middle = between(first, last, torch.tensor(0.5, dtype=torch.float64))
    assert (middle.norm(dim=1) > 0.9 * torch.minimum(first.norm(dim=1), last.norm(dim=1))).all()
    picture = draw_walk(shown(ImageSpec(1, 8, 8, 17)))
    assert picture.size[0] > picture.size[1]


def row(label, value, *problems, deviation=None):
    figure = None if value is None else SimpleNamespace(mean=value, standard_deviation=deviation)
    return SimpleNamespace(
        label=label, role="model", seeds=(0, 1), metrics=("fid-lenet",), figure=lambda name: figure,
        problems=lambda names: [SimpleNamespace(status=status, seeds=seeds) for status, seeds in problems],
    )  # fmt: skip


def board(*rows):
    return SimpleNamespace(title="Some", rows=SimpleNamespace(on=lambda dataset: rows))


def test_the_matrix_has_objectives_across_networks_down_and_says_what_failed():
    rows = [
        row("GAN, small", 3.0, deviation=0.5), row("GAN, deep", None, ("diverged", (0, 1))),
        row("WGAN, small", 1.0, ("degenerate", (1,))), row("WGAN, deep", 2.0),
    ]  # fmt: skip
    [values] = json.loads(draw_matrix(board(*rows), "digits").to_json())["datasets"].values()
    cells = {(cell["objective"], cell["network"]): cell for cell in values}
    assert cells["GAN", "small"]["text"] == "3 ± 0.5"
    assert cells["GAN", "deep"]["text"] == "2 of 2 diverged"
    assert cells["WGAN", "small"]["text"] == "1\n1 of 2 degenerate"
    assert cells["GAN", "deep"]["value"] is None


def test_rows_that_are_no_product_have_no_matrix():
    assert draw_matrix(board(row("GAN, small", 1.0), row("WGAN", 2.0)), "digits") is None
