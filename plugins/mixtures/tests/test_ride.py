"""RIDE: what a pixel sees, what is scored and what is drawn."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from harness import ImageSpec
from harness_mixtures.ride import RIDE


def small(channels: int, height: int, width: int, *, levels: int = 8, reach: int = 1) -> RIDE:
    """RIDE with random weights in float64."""
    torch.manual_seed(0)
    model = RIDE(
        ImageSpec(channels=channels, height=height, width=width, levels=levels),
        units=4, reach=reach, components=4, scales=2, features=3,
    ).double()  # fmt: skip
    with torch.no_grad():
        for values in model.parameters():
            values.add_(0.1 * torch.randn_like(values))
        model.whitening.add_(0.1 * torch.randn_like(model.whitening).tril())
    return model


def points(model: RIDE, count: int) -> Tensor:
    """Points (count, D), uniform over the levels."""
    return torch.rand(count, model.spec.num_dimensions, dtype=torch.float64) * model.spec.levels


@pytest.mark.parametrize("channels", [1, 2])
def test_a_pixel_sees_all_to_its_left_and_above_up_to_its_reach_to_the_right_and_nothing_else(channels: int) -> None:
    model = small(channels, 4, 5)
    one = points(model, 1)
    jacobian = torch.autograd.functional.jacobian(lambda x: model.conditional_log_densities(x).flatten(), one)[:, 0]
    entry = torch.arange(model.spec.num_dimensions)
    channel, row, column = entry // 20, entry // 5 % 4, entry % 5
    above = (row[None] < row[:, None]) & (column[None] <= column[:, None] + model.reach)
    left = (row[None] == row[:, None]) & (column[None] < column[:, None])
    here = (row[None] == row[:, None]) & (column[None] == column[:, None]) & (channel[None] <= channel[:, None])
    assert torch.equal(jacobian != 0, above | left | here)


def test_the_density_of_two_pixels_integrates_to_one() -> None:
    model = small(1, 1, 2)
    axis = torch.linspace(-36, 44, 401, dtype=torch.float64)
    grid = torch.cartesian_prod(axis, axis)
    with torch.no_grad():
        mass = model.log_density(grid).exp().sum() * 0.2**2
    assert mass.item() == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize("channels", [1, 3])
def test_the_conditionals_that_are_drawn_from_are_those_that_are_scored(
    channels: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = small(channels, 3, 4, reach=2)
    drawn: list[Tensor] = []
    for mixture in model.mixtures:

        def draw(z: Tensor, mixture=mixture, own=mixture.draw) -> Tensor:
            y = own(z)
            drawn.append(mixture.log_prob(y, z))
            return y

        monkeypatch.setattr(mixture, "draw", draw)
    with torch.no_grad():
        scored = model.conditional_log_densities(model.draw(5))
    torch.testing.assert_close(scored.permute(2, 3, 1, 0).flatten(0, 2), torch.stack(drawn))


def test_every_pixel_of_an_image_is_scored() -> None:
    model = small(1, 3, 4)
    one = points(model, 2)
    assert model.conditional_log_densities(one).shape == (2, 1, 3, 4)
    torch.testing.assert_close(model.conditional_log_densities(one).sum((1, 2, 3)), model.log_density(one))


def test_noise_is_drawn_anew_in_every_call() -> None:
    model = small(1, 2, 2)
    image = torch.zeros(1, 1, 2, 2, dtype=torch.uint8)
    assert model.elbo(image).item() != model.elbo(image).item()


def test_more_images_than_are_scored_at_once_score_as_they_do_alone() -> None:
    model = small(1, 2, 2)
    model.images_at_once = 3
    many = points(model, 7)
    torch.testing.assert_close(model.log_density(many)[4:], model.log_density(many[4:]))


@pytest.mark.parametrize("name", ["units", "reach", "components", "scales", "features", "learning_rate"])
def test_a_hyperparameter_out_of_its_range_is_named(name: str) -> None:
    with pytest.raises(ValueError, match=f"{name} must be positive, not 0"):
        RIDE(ImageSpec(channels=1, height=2, width=2, levels=2), **{name: 0})


def test_draws_stay_finite_where_a_prediction_is_explosive_and_what_is_cut_off_lies_in_no_image() -> None:
    model = small(1, 16, 16)
    with torch.no_grad():
        for mixture in model.mixtures:
            mixture.weight.mul_(1e3)
    drawn = model.draw(3)
    assert drawn.isfinite().all()
    assert (drawn - model.mean_level).abs().max() == 10_000 * model.spec.levels
