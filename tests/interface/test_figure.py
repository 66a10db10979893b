"""Image grids: every pixel where it belongs, with its brightness."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from harness.interface.figure import image_grid, save_grid
from harness.interface.spec import ImageSpec


def images(spec, number, seed=0):
    shape = (number, *spec.shape)
    return torch.randint(spec.levels, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))


def expected(batch, spec, columns, gap, scale):
    """Pixel by pixel."""
    rows = -(-len(batch) // columns)
    height, width = spec.height * scale, spec.width * scale
    sheet = np.full((rows * (height + gap) + gap, columns * (width + gap) + gap, spec.channels), 96, dtype=np.uint8)
    for n, image in enumerate(batch):
        for c in range(spec.channels):
            for y in range(height):
                for x in range(width):
                    value = round(int(image[c, y // scale, x // scale]) * 255 / (spec.levels - 1))
                    sheet[gap + n // columns * (height + gap) + y, gap + n % columns * (width + gap) + x, c] = value
    return sheet


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(("columns", "gap", "scale"), [(2, 1, 1), (3, 0, 2), (7, 2, 3)])
@pytest.mark.parametrize("levels", [2, 17, 256])
def test_every_pixel_is_where_it_belongs_with_its_level_over_0_to_255(channels, columns, gap, scale, levels):
    spec = ImageSpec(channels, 2, 3, levels)
    batch = images(spec, 5)
    found = np.asarray(image_grid(batch, spec, columns=columns, gap=gap, scale=scale))
    assert np.array_equal(found.reshape(*found.shape[:2], channels), expected(batch, spec, columns, gap, scale))


@pytest.mark.parametrize(("number", "columns"), [(1, 1), (4, 2), (5, 3), (9, 3), (10, 4)])
def test_a_grid_is_about_square(number, columns):
    spec = ImageSpec(1, 2, 2, 2)
    assert image_grid(images(spec, number), spec, gap=1).width == columns * 3 + 1


def test_two_channels_are_refused_by_their_number():
    spec = ImageSpec(2, 2, 2, 2)
    with pytest.raises(ValueError, match="1 or 3 channels, not 4 images of 2 channels"):
        image_grid(images(spec, 4), spec)


def test_no_images_are_refused():
    spec = ImageSpec(1, 2, 2, 2)
    with pytest.raises(ValueError, match="not 0 images"):
        image_grid(images(spec, 0), spec)


def test_the_file_is_a_png_of_the_magnified_grid(tmp_path):
    spec = ImageSpec(1, 8, 8, 17)
    batch = images(spec, 4)
    save_grid(tmp_path / "new" / "grid.png", batch, spec)
    with Image.open(tmp_path / "new" / "grid.png") as found:
        assert found.format == "PNG"
        assert np.array_equal(np.asarray(found), np.asarray(image_grid(batch, spec, scale=7, gap=7)))
