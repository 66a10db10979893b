"""The figure ``flow-steps``: what the inverse of each step of a flow makes of latents, on images of two entries."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor

from harness import ShownModel, derive_seed, isolated_rng
from harness_flows.flow import Flow

_DRAWS, _MOST_PANELS, _SIDE, _GAP = 50_000, 8, 128, 4
_WIDTH = 4.0  # of the panels before the last, in deviations on either side of the mean


@torch.no_grad()
def draw_flow_steps(shown: ShownModel) -> Image.Image | None:
    """Draws densities of samples in a row: the latents, then after more and more steps, at last the images.

    A panel before the last is centred and scaled for itself, as what is between steps may be of any size. Nothing is
    drawn of images that have more than two entries, nor of models that are no ``Flow``.
    """
    model, spec = shown.model, shown.data.spec
    if not isinstance(model, Flow) or spec.num_dimensions != 2:
        return None
    with isolated_rng(derive_seed(shown.seed, "flow-steps"), model.device):
        values = model.trajectory(model.sample_prior(_DRAWS))
    chosen = sorted({round(float(index)) for index in np.linspace(0, len(values) - 1, _MOST_PANELS)})
    panels = [_panel(_standardised(values[index]), -_WIDTH, _WIDTH) for index in chosen[:-1]]
    panels.append(_panel(values[-1], 0, spec.levels))
    gap = np.full((_SIDE, _GAP), 255, dtype=np.uint8)
    picture = Image.fromarray(np.hstack([part for panel in panels for part in (panel, gap)][:-1]))
    words = ", ".join(str(index) for index in chosen)
    picture.info["Description"] = f"{_DRAWS:,} latents after {words} steps of the inverse, the last one to levels"
    return picture


def _standardised(points: Tensor) -> Tensor:
    return (points - points.mean(0)) / points.std(0).max()


def _panel(points: Tensor, low: float, high: float) -> npt.NDArray[np.uint8]:
    """Returns (side, side) uint8: darker where more of the points (N, 2), first entry across, second up, are."""
    across, up = points.double().cpu().numpy().T
    counts, _, _ = np.histogram2d(-up, across, bins=_SIDE, range=[[-high, -low], [low, high]])
    share = np.sqrt(counts / max(1.0, np.quantile(counts, 0.999)))
    return np.asarray(255 * (1 - share.clip(0, 1)), dtype=np.uint8)
