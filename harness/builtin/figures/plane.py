"""Pictures of what a model makes of the plane, where images have two entries: its density, and its samples.

The first entry goes from left to right, the second from below. A dot is a block of cells, and its colour the root of
their mean probability: all pictures of one dataset have one scale, which ends at the highest of the true distribution.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor

from harness import (
    Dataset,
    Evaluation,
    ExactLikelihood,
    ImageSpec,
    ImportanceWeighted,
    KnownDataset,
    Model,
    ShownModel,
    StoredSamples,
    VariationalBound,
)

_DOTS, _SIDE, _GAP = 128, 256, 4
_NUM_SAMPLES, _NUM_DRAWS, _BATCH = 10_000, 8, 2048
_COLOURS = np.array([(0, 0, 4), (81, 18, 124), (183, 55, 121), (252, 137, 97), (252, 253, 191)])  # magma's


def draw_densities(shown: ShownModel | Dataset) -> Image.Image | None:
    """Draws the density of a model, or of a dataset, beside a histogram of 10,000 samples, or of its test images.

    Where a likelihood is not exact, it is the mean of importance weights, or the exponential of a mean bound; an
    implicit model has its samples alone. None for images of more than two entries.
    """
    data = shown if isinstance(shown, Dataset) else shown.data
    if data.spec.num_dimensions != 2:
        return None
    density, words = _density(shown, data.spec)
    samples, said = _samples(shown)
    histogram = _histogram(samples, data.spec)
    panels = [histogram] if density is None else [density, histogram]
    return _painted(panels, _peak(data, panels), f"{words}{said}")


def draw_plane(shown: ShownModel | Dataset) -> Image.Image:
    """Draws the histogram alone of images of two entries."""
    data = shown if isinstance(shown, Dataset) else shown.data
    samples, said = _samples(shown)
    histogram = _histogram(samples, data.spec)
    return _painted([histogram], _peak(data, [histogram]), said)


def _block(spec: ImageSpec) -> int:
    """Returns how many cells a side a dot stands for."""
    return math.ceil(spec.levels / _DOTS)


def _cells(spec: ImageSpec) -> Tensor:
    """Returns a cell near the middle of each dot, (dots * dots, C, H, W) uint8."""
    block = _block(spec)
    values = torch.arange(block // 2, spec.levels, block, dtype=torch.uint8)
    return torch.cartesian_prod(values, values).view(-1, *spec.shape)


def _density(shown: ShownModel | Dataset, spec: ImageSpec) -> tuple[Tensor | None, str]:
    """Returns probabilities (dots, dots) float64, and what they are; None where there are none."""
    cells = _cells(spec)
    if isinstance(shown, Dataset):
        found = shown.log_prob(cells) if isinstance(shown, KnownDataset) else None
        words = "the true probabilities; "
    else:
        with torch.no_grad():
            found, words = _log_prob(shown.model, cells)
    dots = math.isqrt(len(cells))
    return (None, "") if found is None else (found.double().exp().view(dots, dots), words)


def _log_prob(model: Model, cells: Tensor) -> tuple[Tensor | None, str]:
    batches = [batch.to(model.device) for batch in torch.split(cells, _BATCH)]
    if isinstance(model, ExactLikelihood):
        return torch.cat([model.log_prob(batch).cpu() for batch in batches]), "probabilities; "
    if isinstance(model, ImportanceWeighted):
        weights = torch.cat([model.log_importance_weights(batch, _NUM_DRAWS).cpu() for batch in batches], 1).double()
        return weights.logsumexp(0) - math.log(_NUM_DRAWS), f"the mean of {_NUM_DRAWS} importance weights; "
    if isinstance(model, VariationalBound):
        draws = [torch.stack([model.elbo(batch).cpu() for _ in range(_NUM_DRAWS)]).double() for batch in batches]
        return torch.cat(draws, 1).mean(0), f"a lower bound of the probabilities, from {_NUM_DRAWS} draws of the ELBO; "
    return None, ""


def _samples(shown: ShownModel | Dataset) -> tuple[Tensor, str]:
    """Returns images (N, C, H, W) uint8, and what they are."""
    if isinstance(shown, Dataset):
        images = shown.test.draw(0).images
        return images, f"{len(images):,} test images"
    model = shown.model
    number = min(_NUM_SAMPLES, len(model.images)) if isinstance(model, StoredSamples) else _NUM_SAMPLES
    return Evaluation(model, shown.data, seed=shown.seed).samples(number), f"{number:,} samples"


def _histogram(images: Tensor, spec: ImageSpec) -> Tensor:
    """Returns the mean share of a cell of each dot, (dots, dots) float64."""
    block = _block(spec)
    dots, places = math.ceil(spec.levels / block), images.flatten(1).long() // block
    counts = torch.bincount(places[:, 0] * dots + places[:, 1], minlength=dots * dots).view(dots, dots)
    return counts.double() / (len(images) * block**2)


def _peak(data: Dataset, panels: list[Tensor]) -> float:
    known = _density(data, data.spec)[0]
    return float((panels[0] if known is None else known).max())


def _painted(panels: list[Tensor], peak: float, words: str) -> Image.Image:
    """Paints panels (dots, dots) beside one another, at most as bright as ``peak``."""
    parts = list[npt.NDArray[np.uint8]]()
    for panel in panels:
        brightness = (panel / peak).clamp(0, 1).sqrt().T.flip(0).numpy()  # the second entry from below
        stops = np.linspace(0, 1, len(_COLOURS))
        pixels = np.stack([np.interp(brightness, stops, channel) for channel in _COLOURS.T], 2)
        scale = max(1, _SIDE // len(panel))
        pixels = np.rint(pixels).astype(np.uint8).repeat(scale, 0).repeat(scale, 1)
        parts += [np.full((len(pixels), _GAP, 3), 255, np.uint8)] * bool(parts) + [pixels]
    picture = Image.fromarray(np.concatenate(parts, 1))
    picture.info["Description"] = words
    return picture
