"""The toy of learning the identity, and the figures."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from harness import Budget, Dataset, ImageSpec, ShownModel, Split, Trainer
from harness_ali.ali import ALI
from harness_ali.hali import HierarchicalALI
from harness_ali.joint_figure import draw_joint_plane
from harness_ali.levels_figure import draw_reconstructions_by_level
from harness_ali.standard_normal import StandardNormal, standard_normal

LINE = StandardNormal()


def toy(spec=LINE.spec, **changes):
    return ALI(spec, **{"network": "mlp", "latents": 1, "width": 32, "averaging": 0.0, **changes})


def shown(model, count=12):
    images = torch.randint(model.spec.levels, (count, *model.spec.shape), dtype=torch.uint8)
    return ShownModel("shown", model, Dataset("none", model.spec, *[Split(images)] * 3))


def values(chart):
    drawn = chart.to_dict()
    return [drawn["datasets"][layer["data"]["name"]] for layer in drawn["layer"]]


def test_the_line_is_a_standard_gaussian_in_cells_of_a_thirty_second():
    numbers = (torch.arange(256, dtype=torch.float64) + 0.5) / 32 - 4
    torch.testing.assert_close(LINE.probabilities.sum(), torch.ones((), dtype=torch.float64))
    assert (LINE.probabilities * numbers.square()).sum().item() == pytest.approx(1, abs=2e-3)
    assert LINE.entropy == pytest.approx(0.5 * np.log(2 * np.pi * np.e) + np.log(32), abs=2e-3)
    drawn = LINE.sample(5000, torch.Generator().manual_seed(0))
    assert -LINE.log_prob(drawn).mean().item() == pytest.approx(LINE.entropy, abs=5 * 0.71 / 5000**0.5)


@pytest.mark.thorough  # quick siblings: what the players minimise, in test_joint_game
def test_an_encoder_of_the_line_learns_the_identity_up_to_its_sign():
    data = standard_normal(None)
    model = toy(width=64, learning_rate=1e-3, penalty=0.1)
    model.fit(data, Trainer(model, data, budget=Budget(2000, "steps")))
    (x, inferred), (fake, z) = model.draw_pairs(data.test.images[:2000])
    for image, latent in ((x, inferred), (fake, z)):
        pair = torch.stack([image.flatten(), latent.flatten()])
        assert torch.corrcoef(pair)[0, 1].abs() > 0.9
    assert inferred.std().item() == pytest.approx(1, abs=0.25)


def test_the_joint_plane_shows_both_kinds_of_pairs_and_the_discriminators_verdict():
    one = shown(toy())
    cells, points = values(draw_joint_plane(one))
    assert [point["pair"] for point in points] == ["x, E(x)"] * 12 + ["G(z), z"] * 12
    assert [point["x"] for point in points[:12]] == pytest.approx(
        [level / 255 * 8 - 4 for level in one.data.test.images.flatten().tolist()], abs=1e-5
    )
    assert len(cells) == 1600
    assert values(draw_joint_plane(one)) == [cells, points]
    level = torch.tensor([[[[round((cells[0]["x"] + 0.1 + 4) / 8 * 255)]]]], dtype=torch.uint8)
    logit = one.model.log_ratio(level, torch.tensor([[cells[0]["z"] + 0.1]]))
    assert cells[0]["D"] == pytest.approx(logit.sigmoid().item(), abs=1e-4)


def test_nothing_is_drawn_of_other_images_or_of_one_level():
    assert draw_joint_plane(shown(toy(ImageSpec(1, 1, 2, 4)))) is None
    assert draw_reconstructions_by_level(shown(toy())) is None


def test_reconstructions_stand_below_the_test_images_a_row_for_each_level():
    spec = ImageSpec(1, 4, 4, 2)
    model = HierarchicalALI(spec, network="mlp", latents=(3, 2, 1), width=4)
    torch.nn.init.constant_(model.average.picture[-3].bias, 100.0)  # white
    one = shown(model)
    picture = np.asarray(draw_reconstructions_by_level(one))
    side = picture.shape[0] // 4
    assert picture.shape[1] // side == 10
    assert (picture[side + 2 : 2 * side - 2, 2 : side - 2] == 255).all()
    first = one.data.test.images[0, 0].numpy() * 255
    assert np.array_equal(picture[side // 8 : side : side // 4, side // 8 : side : side // 4][:4, :4], first)
