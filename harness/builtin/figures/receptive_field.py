"""The receptive field: what a conditional in the centre sees of its past.

White is the pixel; the brighter another one, the more the conditional changes with its value; dark blue is the past
that is not seen at all, with blind spots in sight; black is the future.
"""

import copy

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor

from harness import Autoregressive, ShownModel

_NUM_IMAGES = 2
_BATCH = 256
_SIDE = 224
_DECADES = 5
_ROUNDING = 1e-12
_PIXEL, _FUTURE, _UNSEEN, _SEEN = (255, 255, 255), (0, 0, 0), (35, 55, 120), (255, 166, 0)


def draw_receptive_field(shown: ShownModel) -> Image.Image:
    """Draws the receptive field of the pixel in the middle, in the model's first ordering."""
    model, spec = shown.model, shown.data.spec
    assert isinstance(model, Autoregressive)
    row, column = spec.height // 2, spec.width // 2
    images = shown.data.test.draw(0).images[:_NUM_IMAGES]
    field = receptive_field(copy.deepcopy(model).double(), row, column, images)
    past = past_of(model, row, column)
    past[:, row, column] = False
    scale = max(1, _SIDE // max(spec.height, spec.width))
    return paint(field.amax(0).numpy(), past.any(0).numpy(), row, column, scale=scale)


def past_of(model: Autoregressive, row: int, column: int) -> Tensor:
    """Returns (C, H, W) bool: the entries that are drawn before the last one of a pixel."""
    steps = model.generation_steps().view(model.spec.shape)
    return steps < steps[:, row, column].max()


@torch.no_grad()
def receptive_field(model: Autoregressive, row: int, column: int, images: Tensor) -> Tensor:
    """Returns how far a pixel's conditional moves when one entry changes, (C, H, W) float64: total variation.

    One entry of the past of ``images``, (N, C, H, W) uint8, after the other is changed by half the levels, so that a
    model that rounds, compares or looks up shows what it sees as well; the mean over images, of the most over channels.
    """
    spec = model.spec

    def conditionals(batch: Tensor) -> Tensor:
        logits = model.conditional_logits(batch.to(model.device))[..., row, column]  # (N, levels, C)
        return logits.double().softmax(1).cpu()

    plain = conditionals(images)
    found = torch.zeros(spec.num_dimensions, dtype=torch.float64)
    past = past_of(model, row, column).flatten().nonzero().squeeze(1)
    for entries in torch.split(past, max(1, _BATCH // len(images))):
        changed = images.repeat(len(entries), 1, 1, 1).flatten(1)  # entry by entry, all images of each
        places = entries.repeat_interleave(len(images))
        index = torch.arange(len(places))
        changed[index, places] = (changed[index, places] + (spec.levels + 1) // 2) % spec.levels
        moved = conditionals(changed.view(-1, *spec.shape)) - plain.repeat(len(entries), 1, 1)
        found[entries] = (moved.abs().sum(1) / 2).amax(1).view(len(entries), len(images)).mean(1)
    return torch.where(found > _ROUNDING, found, 0.0).view(spec.shape)


def paint(
    field: npt.NDArray[np.float64], past: npt.NDArray[np.bool_], row: int, column: int, *, scale: int = 1
) -> Image.Image:
    """Paints a receptive field (H, W) on a logarithmic scale over five powers of ten."""
    largest = max(float(field.max()), 1e-300)
    brightness = np.clip(1 + np.log10(np.maximum(field / largest, 1e-30)) / _DECADES, 0.12, 1)
    pixels = np.where(past[..., None], np.array(_UNSEEN), np.array(_FUTURE)).astype(np.float64)
    pixels = np.where((field > 0)[..., None], brightness[..., None] * np.array(_SEEN), pixels)
    pixels[row, column] = _PIXEL
    return Image.fromarray(pixels.astype(np.uint8).repeat(scale, axis=0).repeat(scale, axis=1))
