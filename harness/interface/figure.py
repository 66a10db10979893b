"""What a figure is made of: a model, with everything that a picture of it may need; and images in a grid."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image
from torch import Tensor

from harness.interface.dataset import Dataset
from harness.interface.model import Model
from harness.interface.spec import ImageSpec

if TYPE_CHECKING:
    from harness.records.record import RunRecord


@dataclass(frozen=True)
class ShownModel:
    """A model to draw a picture of: the first seed of a board's row that is trained, or a model as it is initialised.

    ``label`` is the row's, as boards print it; ``model`` in evaluation mode, on the CPU; ``data`` and ``seed`` are what
    it was trained with. A model that is not trained has random images, and no ``record`` of a run.
    """

    label: str
    model: Model
    data: Dataset
    seed: int = 0
    record: RunRecord | None = None


def image_grid(
    images: Tensor, spec: ImageSpec, *, columns: int | None = None, gap: int = 1, scale: int = 1
) -> Image.Image:
    """Lays images out in a grid.

    Args:
        images: (N, C, H, W) uint8, at least one; of one channel, or three for colour, else it is a ValueError.
        spec: the sample space, for the number of levels.
        columns: images in each row; about the square root of N by default.
        gap: pixels between images.
        scale: each pixel becomes scale x scale pixels.
    """
    if len(images) == 0 or spec.channels not in (1, 3):
        found = f"{len(images)} images of {spec.channels} channels"
        raise ValueError(f"a grid needs images of 1 or 3 channels, not {found}")
    columns = columns or math.ceil(math.sqrt(len(images)))
    pixels = np.rint(images.cpu().numpy().astype(np.float64) * (255 / (spec.levels - 1))).astype(np.uint8)
    pixels = pixels.repeat(scale, axis=2).repeat(scale, axis=3)
    cells = np.pad(pixels, ((0, -len(pixels) % columns), (0, 0), (gap, 0), (gap, 0)), constant_values=96)
    count, channels, height, width = cells.shape
    sheet = cells.reshape(count // columns, columns, channels, height, width).transpose(0, 3, 1, 4, 2)
    sheet = sheet.reshape(count // columns * height, columns * width, channels)
    sheet = np.pad(sheet, ((0, gap), (0, gap), (0, 0)), constant_values=96)
    return Image.fromarray(sheet.squeeze(2) if channels == 1 else sheet)


def save_images(path: Path, images: Tensor, spec: ImageSpec) -> None:
    """Writes images, levels spread over 0 to 255: an ``.npz``, uint8 (N, H, W, C), or a folder of numbered PNGs."""
    pictures = [image_grid(image[None], spec, gap=0) for image in images]
    (path.parent if path.suffix == ".npz" else path).mkdir(parents=True, exist_ok=True)
    if path.suffix == ".npz":
        pixels = np.array([np.asarray(picture) for picture in pictures])
        np.savez_compressed(path, arr_0=pixels.reshape(-1, *spec.shape[1:], spec.channels), layout=np.array("NHWC"))
        return
    for index, picture in enumerate(pictures):
        picture.save(path / f"{index:06}.png")


def save_grid(path: Path, images: Tensor, spec: ImageSpec) -> None:
    """Writes a grid of images as PNG, small images magnified to about 56 pixels a side."""
    path.parent.mkdir(parents=True, exist_ok=True)
    scale = max(1, 56 // max(spec.height, spec.width))
    image_grid(images, spec, scale=scale, gap=scale).save(path, format="PNG")
