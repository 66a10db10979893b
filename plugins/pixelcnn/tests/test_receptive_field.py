from __future__ import annotations

import torch

from harness import ImageSpec
from harness_pixelcnn.gated_pixelcnn import GatedPixelCNN
from harness_pixelcnn.pixelcnn import PixelCNN
from harness_pixelcnn.receptive_field import picture, receptive_field


def test_a_receptive_field_is_where_the_declared_dependence_is():
    spec = ImageSpec(1, 9, 9, 2)
    for model in (PixelCNN(spec, channels=8, layers=3, head=8), GatedPixelCNN(spec, channels=8, layers=1, head=8)):
        field = receptive_field(model.double(), 5, 4)
        declared = model.dependence()
        assert declared is not None
        assert torch.equal(field[0] > 0, declared[5 * 9 + 4].view(9, 9))


def test_a_picture_tells_the_pixel_what_it_sees_what_it_does_not_and_the_future_apart():
    field = torch.zeros(3, 3)
    field[0, 1] = 1
    image = picture(field, 1, 1).resize((3, 3), 0)
    colours = {place: image.getpixel(place) for place in [(1, 1), (1, 0), (0, 0), (2, 2)]}  # (x, y)
    assert len(set(colours.values())) == 4
    assert colours[1, 1] == (255, 255, 255)
    assert colours[2, 2] == (0, 0, 0)
