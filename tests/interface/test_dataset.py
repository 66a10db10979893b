"""What is said of a dataset whose splits share images, or whose images use few of many levels."""

import pytest
import torch

from harness import BernoulliSplit, Dataset, ImageSpec, KnownDataset, Split


def draw(num_images, *, seed=0, levels=256):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(levels, (num_images, 1, 4, 4), dtype=torch.uint8, generator=generator)


def dataset(train, valid, test, levels=256):
    return Dataset("d", ImageSpec(1, 4, 4, levels), *(Split(images) for images in (train, valid, test)))


TRAIN, VALID, TEST = draw(100, seed=1), draw(40, seed=2), draw(40, seed=3)


def test_nothing_is_said_of_splits_that_share_nothing():
    assert dataset(TRAIN, VALID, TEST).caveats() == {}


@pytest.mark.parametrize(
    ("parts", "found"),
    [
        ((TRAIN, TRAIN, TRAIN), {"test in train": 100, "test in valid": 100, "valid in train": 100}),
        ((torch.cat([TRAIN, TEST[:7]]), VALID, TEST), {"test in train": 7}),
        ((TRAIN, torch.cat([VALID, TEST[-3:]]), TEST), {"test in valid": 3}),
        ((torch.cat([VALID[5:20], TRAIN]), VALID, TEST), {"valid in train": 15}),
    ],
)
def test_images_that_two_splits_have_are_counted(parts, found):
    assert dataset(*parts).caveats() == found


def test_splits_that_are_drawn_from_a_known_distribution_repeat_by_chance_alone():
    parts = [Split(images) for images in (TRAIN, TRAIN, TRAIN)]
    data = KnownDataset("d", ImageSpec(1, 4, 4, 256), *parts, distribution=None)
    assert data.caveats({"samples": parts[0]}) == {f"samples in {split}": 100 for split in ("train", "valid", "test")}


def test_a_twentieth_of_a_split_is_left_unsaid():
    assert dataset(torch.cat([TRAIN, TEST[:2]]), VALID, TEST).caveats() == {}


@pytest.mark.parametrize(("scale", "used"), [(1, 2), (255, 2), (0, 1)])
def test_images_that_use_two_of_many_levels_are_counted(scale, used):
    parts = [scale * draw(200, seed=seed, levels=2) for seed in range(3)]
    assert dataset(*parts).caveats()["levels used"] == used


def test_binary_images_use_all_their_levels_and_intensities_are_no_levels():
    parts = [draw(200, seed=seed, levels=2) for seed in range(3)]
    assert dataset(*parts, levels=2).caveats() == {}
    redrawn = [BernoulliSplit(255 * images) for images in parts]
    assert Dataset("d", ImageSpec(1, 4, 4, 4), *redrawn).caveats() == {}
