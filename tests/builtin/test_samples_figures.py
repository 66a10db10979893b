"""Grids and strips of samples: in the order that they say, each sample above its nearest training image."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from harness import ClassConditional, Dataset, ImageSpec, Model, ShownModel, Split
from harness.builtin.figures.samples import draw_nearest, draw_samples, nearest

SPEC = ImageSpec(1, 2, 2, 256, num_classes=3)


def flat(values) -> torch.Tensor:
    """Images of one level each."""
    return torch.tensor(values, dtype=torch.uint8).view(-1, 1, 1, 1).expand(-1, 1, 2, 2).contiguous()


TRAINING = list(range(0, 250, 10))
DATA = Dataset("toy", SPEC, *(Split(flat(values)) for values in (TRAINING, [1], [3, 14, 103])))


class Climbing(Model):
    """Draws images of the levels 1, 4, 7 and so on."""

    def fit(self, data, trainer): ...

    def sample(self, num_samples):
        return flat([1 + 3 * k % 250 for k in range(num_samples)])


class Labelled(Climbing, ClassConditional):
    """Draws the level 100 k + 2 for the label k."""

    def condition_on(self, labels):
        made = Labelled(self.spec)
        made.sample = lambda num_samples: flat((100 * labels + 2).tolist())
        return made


def cells(picture) -> np.ndarray:
    """The level of each image of a grid, by line and column."""
    return np.asarray(picture)[30::58, 30::58]


def test_the_nearest_image_is_that_of_a_search_one_by_one_and_the_first_of_equals() -> None:
    generator = torch.Generator().manual_seed(0)
    draw = lambda count: torch.randint(0, 4, (count, 1, 2, 3), generator=generator, dtype=torch.uint8)  # noqa: E731
    training, images = draw(9000), draw(50)  # several images of each kind, and several batches
    images[0], training[8999], training[5000] = 99, 99, 98
    index, distances = nearest(images, training)
    squares = ((images.long()[:, None] - training.long()) ** 2).sum((2, 3, 4)).numpy()
    assert np.array_equal(index, squares.argmin(1))
    assert np.array_equal(distances, np.sqrt(squares.min(1).astype(float)))
    assert index[0] == 8999


def test_each_sample_of_a_strip_stands_above_its_nearest_training_image() -> None:
    top, bottom = cells(draw_nearest(ShownModel("climbing", Climbing(SPEC), DATA)))
    assert top.tolist() == [1, 4, 7, 10, 13, 16, 19, 22, 25, 28]
    assert bottom.tolist() == [0, 0, 10, 10, 10, 20, 20, 20, 20, 30]  # 25 is as near to 30: the first


def test_a_strip_says_how_near_samples_and_test_images_are() -> None:
    said = draw_nearest(ShownModel("climbing", Climbing(SPEC), DATA)).info["Description"]
    samples = np.mean([min(abs(1 + 3 * k - level) for level in TRAINING) * 2 / 255 for k in range(64)])
    expected = f"64 samples are {samples:.3g}, 3 test images are {(3 + 4 + 3) / 3 * 2 / 255:.3g}"
    assert said == f"the first 10; on average {expected} from the nearest training image"
    real = draw_nearest(DATA)
    assert cells(real).tolist() == [[3, 14, 103], [0, 10, 100]]
    assert real.info["Description"].startswith("the first 3; on average 3 test images are ")


@pytest.mark.parametrize("draw", [draw_samples, draw_nearest])
def test_samples_of_classes_are_sorted_and_say_so(draw) -> None:
    picture = draw(ShownModel("labelled", Labelled(SPEC), DATA))
    found = cells(picture)
    if draw is draw_samples:
        assert found.tolist() == [[2] * 8, [102] * 8, [202] * 8]
        assert picture.info["Description"] == "sorted by class, 8 samples of each"
    else:
        assert found.tolist() == [[2] * 4 + [102] * 3 + [202] * 3, [0] * 4 + [100] * 3 + [200] * 3]
        assert picture.info["Description"].startswith("10 samples sorted by class, 0 to 2; on average 24 samples are ")
