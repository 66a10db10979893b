"""Pictures of images of two entries: the density in its place, the samples in theirs, one scale for a dataset."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from harness import (
    Dataset,
    ExactLikelihood,
    ImageSpec,
    ImportanceWeighted,
    KnownDataset,
    Model,
    ShownModel,
    Split,
    VariationalBound,
)
from harness.builtin.datasets.toys import GridDensity
from harness.builtin.figures.plane import draw_densities
from harness.builtin.figures.samples import draw_nearest, draw_samples

SPEC = ImageSpec(1, 1, 2, 4)
TABLE = torch.zeros(4, 4, dtype=torch.float64)
TABLE[3, 0], TABLE[0, 1] = 0.8, 0.2  # right and below; left, one up
DATA = KnownDataset.draw("toy", GridDensity(TABLE), sizes=(50, 10, 2000), seed=0)
BRIGHTEST = (252, 253, 191)


class Truth(Model):
    """Draws from the table, and gives nothing away."""

    def fit(self, data, trainer): ...

    def sample(self, num_samples):
        return DATA.distribution.sample(num_samples, torch.Generator().manual_seed(0))


class Exact(Truth, ExactLikelihood):
    def log_prob(self, images):
        return DATA.log_prob(images)


class Weighted(Truth, ImportanceWeighted):
    """Weights of nothing, and of twice the probability."""

    def log_importance_weights(self, images, num_samples):
        coins = torch.arange(num_samples)[:, None] % 2
        return (2 * coins.double()).log() + DATA.log_prob(images)


class Bounded(Truth, VariationalBound):
    def elbo(self, images):
        return DATA.log_prob(images) - 1


def panels(shown) -> list[np.ndarray]:
    """Each panel, a pixel for every cell."""
    pixels = np.asarray(draw_densities(shown))
    return [pixels[32::64, start + 32 : start + 256 : 64] for start in range(0, pixels.shape[1], 260)]


def of(model: type[Model]) -> ShownModel:
    return ShownModel("toy", model(SPEC), DATA)


def test_the_first_entry_goes_to_the_right_and_the_second_up() -> None:
    truth, histogram = panels(DATA)
    assert tuple(truth[3, 3]) == BRIGHTEST
    for panel in (truth, histogram):
        assert np.argwhere(panel.sum(2) > 4).tolist() == [[2, 0], [3, 3]]


def test_an_exact_likelihood_and_a_mean_of_importance_weights_are_painted_as_the_truth() -> None:
    truth = panels(DATA)[0]
    assert np.array_equal(panels(of(Exact))[0], truth)
    assert np.array_equal(panels(of(Weighted))[0], truth)


def test_a_bound_is_painted_darker_on_the_scale_of_the_truth_and_called_one() -> None:
    panel = panels(of(Bounded))[0]
    assert panel[3, 3].sum() < sum(BRIGHTEST)
    assert "a lower bound" in draw_densities(of(Bounded)).info["Description"]


def test_an_implicit_model_has_its_samples_alone() -> None:
    [histogram] = panels(of(Truth))
    assert np.array_equal(histogram, np.asarray(draw_samples(of(Truth)))[32::64, 32::64])
    assert draw_densities(of(Truth)).info["Description"] == "10,000 samples"


def test_data_of_no_known_density_have_a_histogram() -> None:
    data = Dataset("toy", SPEC, DATA.train, DATA.valid, DATA.test)
    assert len(panels(data)) == 1
    assert len(panels(ShownModel("toy", Exact(SPEC), data))) == 2


def test_images_of_two_entries_have_no_nearest_and_others_no_density() -> None:
    assert draw_nearest(of(Truth)) is None
    images = Split(torch.zeros(3, 1, 2, 2, dtype=torch.uint8))
    assert draw_densities(Dataset("toy", ImageSpec(1, 2, 2, 4), images, images, images)) is None


@pytest.mark.parametrize("levels", [2, 100, 200, 256])
def test_every_number_of_levels_has_its_dots(levels) -> None:
    table = torch.full((levels, levels), 1 / levels**2, dtype=torch.float64)
    data = KnownDataset.draw("toy", GridDensity(table), sizes=(5, 5, 5), seed=0)
    picture = np.asarray(draw_densities(data))
    side = picture.shape[0]
    assert 200 <= side <= 256
    assert (picture[:, :side] == BRIGHTEST).all()
