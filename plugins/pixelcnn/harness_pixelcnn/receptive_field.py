"""Pictures of receptive fields, by gradients: what one pixel's conditional depends on, with blind spots in sight.

    python -m harness_pixelcnn.receptive_field receptive-field.png

draws PixelCNN and Gated PixelCNN of growing depth: white is the pixel, the brighter an entry the more it matters, dark
blue are entries of the past that are not seen at all, and black is the future.
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from PIL import Image, ImageDraw
from torch import Tensor

from harness import ImageSpec
from harness_pixelcnn.gated_pixelcnn import GatedPixelCNN
from harness_pixelcnn.pixelcnn import PixelCNN

_SIZE, _DEPTHS, _SCALE, _GAP, _TITLE = 23, (2, 5, 14), 9, 8, 22
_UNSEEN, _FUTURE, _PIXEL = (35, 55, 120), (0, 0, 0), (255, 255, 255)


def receptive_field(model: PixelCNN | GatedPixelCNN, row: int, column: int, *, num_images: int = 8) -> Tensor:
    """Returns the mean absolute gradient of a pixel's outputs with respect to every entry's value, (C, H, W) float.

    Args:
        model: whose weights are looked through, as they are.
        row, column: the pixel.
        num_images: random images that the gradient is averaged over.
    """
    spec = model.spec
    values = torch.randint(spec.levels, (num_images, *spec.shape), device=model.device).to(model.dtype).requires_grad_()
    outputs = model.outputs(values.clone())  # scaled in place
    (gradient,) = torch.autograd.grad(outputs[:, :, row, column].sum(), values)
    return gradient.abs().mean(0)


def picture(field: Tensor, row: int, column: int) -> Image.Image:
    """Paints a receptive field (H, W) on a logarithmic scale over five powers of ten."""
    height, width = field.shape
    image = Image.new("RGB", (width, height), _FUTURE)
    largest = field.max().clamp_min(1e-300)
    brightness = (1 + (field / largest).clamp_min(1e-30).log10() / 5).clamp(0.12, 1)
    for y in range(height):
        for x in range(width):
            if (y, x) == (row, column):
                image.putpixel((x, y), _PIXEL)
            elif field[y, x] > 0:
                level = int(255 * brightness[y, x])
                image.putpixel((x, y), (level, int(0.65 * level), 0))
            elif (y, x) < (row, column):
                image.putpixel((x, y), _UNSEEN)
    return image.resize((width * _SCALE, height * _SCALE), Image.Resampling.NEAREST)


def comparison() -> Image.Image:
    """Paints both models, one for each row, with ever more layers from left to right; the same picture every time."""
    spec, middle = ImageSpec(channels=1, height=_SIZE, width=_SIZE, levels=2), _SIZE // 2
    side = _SIZE * _SCALE
    whole = Image.new("RGB", (len(_DEPTHS) * (side + _GAP) + _GAP, 2 * (side + _GAP + _TITLE) + _GAP), (255, 255, 255))
    pen = ImageDraw.Draw(whole)
    for index, name in enumerate(("PixelCNN", "Gated PixelCNN")):
        for place, depth in enumerate(_DEPTHS):
            with torch.random.fork_rng():
                torch.manual_seed(0)
                model: PixelCNN | GatedPixelCNN
                if name == "PixelCNN":
                    model = PixelCNN(spec, channels=16, layers=depth, kernel=3, head=16)
                else:
                    model = GatedPixelCNN(spec, channels=16, layers=depth, kernel=3, head=16)
                model.double()
                field = receptive_field(model, middle, middle)[0]
            left, top = _GAP + place * (side + _GAP), _GAP + index * (side + _GAP + _TITLE)
            pen.text((left, top + 4), f"{name}, {depth} layers after the first", fill=(0, 0, 0))
            whole.paste(picture(field, middle, middle), (left, top + _TITLE))
    return whole


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python -m harness_pixelcnn.receptive_field FILE.png")
    comparison().save(Path(sys.argv[1]))
