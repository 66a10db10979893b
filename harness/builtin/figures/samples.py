"""Sample grids: the first samples of those that the metrics of sample quality compare, none of them chosen."""

from __future__ import annotations

import torch
from PIL import Image

from harness import ClassConditional, Dataset, Evaluation, ShownModel, image_grid

NUM_IMAGES = 64
COLUMNS = 8
_SIDE = 56


def draw(shown: ShownModel | Dataset) -> Image.Image:
    """Draws 8 x 8 samples, or real test images of a dataset; small images are magnified.

    A class-conditional model's grid has a row of 8 samples for each class instead.

    Raises:
        DegenerateSamples: the samples are all the same, or none.
        ValueError: images of neither one channel nor three.
    """
    data = shown if isinstance(shown, Dataset) else shown.data
    if isinstance(shown, Dataset):
        images = data.test.draw(0).images[:NUM_IMAGES]
    elif isinstance(shown.model, ClassConditional) and data.spec.num_classes:
        labels = torch.arange(data.spec.num_classes).repeat_interleave(COLUMNS)
        images = shown.model.condition_on(labels).sample(len(labels))
    else:
        images = Evaluation(shown.model, data, seed=shown.seed).samples(NUM_IMAGES)
    scale = max(1, _SIDE // max(data.spec.height, data.spec.width))
    return image_grid(images, data.spec, columns=COLUMNS, gap=2, scale=scale)
