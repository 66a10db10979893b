"""Damage of strength 0 is none; of strength 1 it is what its docstring says; in between it grows."""

from __future__ import annotations

import pytest
import torch

from harness import Budget, Dataset, ImageSpec, Split, Trainer, Unsupported
from harness.testing import registered_dataset
from harness_metrics.corrupted_images import CorruptedImages

DAMAGES = ["noise", "speckle", "blur", "saturation", "rotation", "mode-dropping", "mode-invention", "memorisation"]


@pytest.fixture(scope="module")
def digits():
    return registered_dataset("digits")


def sample(data, damage, strength, num_samples=100, seed=0):
    model = CorruptedImages(data.spec, damage=damage, strength=strength)
    model.fit(data, Trainer(model, data, budget=Budget.parse("1 epoch")))
    torch.manual_seed(seed)
    return model.sample(num_samples)


def rows(images):
    return [bytes(image.flatten().tolist()) for image in images]


def plain(levels, height=8, width=8, num_classes=None, seed=0):
    """Random images, with labels if there are classes."""
    torch.manual_seed(seed)
    spec = ImageSpec(1, height, width, levels, num_classes)
    splits = []
    for size in (400, 300, 50):
        images = torch.randint(levels, (size, *spec.shape), dtype=torch.uint8)
        splits.append(Split(images, None if num_classes is None else torch.arange(size) % num_classes))
    return Dataset("plain", spec, *splits)


@pytest.mark.parametrize("damage", DAMAGES)
def test_strength_0_draws_validation_images_each_once_and_the_same_for_every_damage(digits, damage):
    drawn = sample(digits, damage, 0.0)
    assert torch.equal(drawn, sample(digits, "none", 1.0))
    assert len(set(rows(drawn))) == 100
    assert set(rows(drawn)) <= set(rows(digits.valid.images))


@pytest.mark.parametrize("damage", [name for name in DAMAGES if name != "mode-dropping"])
def test_images_are_further_from_what_they_were_as_strength_grows(digits, damage):
    before = sample(digits, "none", 0.0, 18).double()
    moved = [(sample(digits, damage, it, 18) - before).abs().mean() for it in (0.25, 0.5, 1.0)]
    assert 0 < moved[0] < moved[1] < moved[2]


def test_full_noise_is_uniform_over_the_levels():
    data = plain(4)
    counts = torch.bincount(sample(data, "noise", 1.0, 300).flatten().long(), minlength=4)
    assert (counts / counts.sum() - 0.25).abs().max() < 0.02


def test_full_speckle_has_the_marginals_of_the_class_and_no_more(digits):
    one = digits.train.images[digits.train.labels == 1]
    data = Dataset("one", digits.spec, *[Split(one, torch.ones(len(one), dtype=torch.int64))] * 3)
    drawn = torch.cat([sample(data, "speckle", 1.0, len(one), seed) for seed in range(40)]).double().flatten(1)
    real = one.double().flatten(1)
    assert (drawn.mean(0) - real.mean(0)).abs().max() < 0.4
    moving = (real.std(0) > 1) & (drawn.std(0) > 1)
    far = ~torch.eye(int(moving.sum()), dtype=torch.bool)
    assert torch.corrcoef(drawn[:, moving].T)[far].abs().max() < 0.1
    assert torch.corrcoef(real[:, moving].T)[far].abs().max() > 0.8


def test_speckle_takes_the_same_entry_of_the_same_class():
    data = plain(256, num_classes=2)
    for split in (data.train, data.valid):  # an entry says its place and the class
        split.images.copy_((torch.arange(64).view(1, 1, 8, 8) + 64 * split.labels[:, None, None, None]).byte())
    assert torch.equal(sample(data, "speckle", 1.0), sample(data, "none", 0.0))


def test_full_blur_is_a_gaussian_of_a_quarter_of_the_side_and_keeps_what_is_even():
    data = plain(256, 16, 64)  # the shorter side is 16
    data.valid.images.zero_()
    data.valid.images[:, :, :, 32] = 255  # a line
    found = sample(data, "blur", 1.0, 1)[0, 0].double()
    places = torch.arange(64).double() - 32
    density = 255 * torch.exp(-(places**2) / (2 * 4.0**2)) / (4 * (2 * torch.pi) ** 0.5)
    assert (found - density).abs().max() < 0.7  # 0.5 of it is rounding
    data.valid.images.fill_(77)
    assert (sample(data, "blur", 1.0) == 77).all()


def test_full_saturation_is_black_and_white_but_for_mid_grey():
    drawn = sample(plain(17), "saturation", 1.0)
    before = sample(plain(17), "none", 0.0)
    assert torch.equal(drawn, torch.where(before > 8, 16, torch.where(before < 8, 0, 8)).byte())
    half = sample(plain(17), "saturation", 0.5)
    assert torch.equal(half, (8 + 2 * (before.long() - 8)).clamp(0, 16).byte())


def test_full_rotation_is_a_quarter_turn_to_the_left():
    data = plain(256)
    assert torch.equal(sample(data, "rotation", 1.0), sample(data, "none", 0.0).rot90(1, (2, 3)))


def test_a_turned_image_that_is_no_square_keeps_its_shape_and_its_proportions():
    data = plain(256, 6, 12)
    drawn, before = sample(data, "rotation", 1.0), sample(data, "none", 0.0)
    assert torch.equal(drawn[:, :, :, 3:9], before[:, :, :, 3:9].rot90(1, (2, 3)))
    assert (drawn[:, :, :, :3] == 0).all()


def test_dropped_modes_are_the_last_classes(digits):
    labels = dict(zip(rows(digits.valid.images), digits.valid.labels.tolist(), strict=True))
    for strength, kept in ((0.25, 8), (0.5, 6), (1.0, 1)):
        found = {labels[row] for row in rows(sample(digits, "mode-dropping", strength, 15))}
        assert found <= set(range(kept))
        assert kept - 1 in found


def test_invented_images_have_the_halves_of_two_images_of_two_classes(digits):
    images = torch.cat([digits.valid.images, digits.train.images])
    labels = torch.cat([digits.valid.labels, digits.train.labels]).tolist()
    upper, lower = dict[bytes, set[int]](), dict[bytes, set[int]]()
    for known, half in ((upper, images[:, :, :4]), (lower, images[:, :, 4:])):
        for row, label in zip(rows(half), labels, strict=True):
            known.setdefault(row, set()).add(label)
    drawn = sample(digits, "mode-invention", 1.0)
    pairs = zip(rows(drawn[:, :, :4]), rows(drawn[:, :, 4:]), strict=True)
    assert all(upper[one] - lower[other] for one, other in pairs)
    assert not set(rows(drawn)) & set(rows(images))


@pytest.mark.parametrize(("strength", "low", "high"), [(1.0, 1, 1), (0.5, 0.35, 0.65)])
def test_a_share_of_the_images_is_memorised(digits, strength, low, high):
    drawn = rows(sample(digits, "memorisation", strength))
    copies = len(set(drawn) & set(rows(digits.train.images)))
    assert len(set(drawn)) == 100
    assert low <= copies / 100 <= high


def test_no_image_is_drawn_twice(digits):
    drawn = rows(sample(digits, "none", 0.0, 500))
    assert len(set(drawn)) == 500
    assert set(drawn[:180]) == set(rows(digits.valid.images))  # fresh ones first
    assert set(drawn[180:]) <= set(rows(digits.train.images))
    with pytest.raises(Unsupported, match=r"1,438 samples are asked for, there are 1,437 images$"):
        sample(digits, "none", 0.0, 1438)
    with pytest.raises(Unsupported, match="of the classes that are kept"):
        sample(digits, "mode-dropping", 1.0, 300)
    with pytest.raises(Unsupported, match="leave 537 training images"):
        sample(digits, "memorisation", 0.5, 900)


def test_what_cannot_be_is_said():
    spec = ImageSpec(1, 8, 8, 2)
    with pytest.raises(ValueError, match=r"strength must be from 0.* not 1\.5"):
        CorruptedImages(spec, damage="noise", strength=1.5)
    with pytest.raises(Unsupported, match="labels"):
        CorruptedImages(spec, damage="mode-dropping", strength=1.0)
    with pytest.raises(ValueError, match="fit it"):
        CorruptedImages(spec).sample(1)
