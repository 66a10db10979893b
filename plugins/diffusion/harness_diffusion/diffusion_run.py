"""The figure ``diffusion-run``: real images on their way to noise, and samples on their way from it."""

from __future__ import annotations

from functools import singledispatch
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from harness import ImageSpec, Model, ShownModel, derive_seed, image_grid, isolated_rng
from harness_diffusion.deep_diffusion import DeepDiffusion
from harness_diffusion.deep_kernels import Kernel
from harness_diffusion.flow_matching import FlowMatching, heun
from harness_diffusion.gaussian_diffusion import GaussianDiffusion
from harness_diffusion.gaussian_kernel import GaussianKernel

_PANELS, _ROWS, _POINTS = 9, 3, 10_000
_SIDE, _POINTS_SIDE, _GAP = 56, 128, 4


class Diffusion(Model):
    """Models that go from noise to images step by step: those that ``noised`` and ``way_back`` know."""


@torch.no_grad()
def draw_diffusion_run(shown: ShownModel) -> Image.Image:
    """Draws three test images, each more and more noisy from left to right, above three samples, from noise to image.

    A row of the upper half has one noise throughout. Of images of two entries there is a row of each kind, and a panel
    has the density of 10,000 of them, on a square twice as wide as that of the levels.
    """
    model, spec = shown.model, shown.data.spec
    plane = spec.num_dimensions == 2
    number = _POINTS if plane else _ROWS
    images = shown.data.test.draw(0).images[:number]
    seed = derive_seed(shown.seed, "diffusion-run")
    panels = [images.to(model.dtype)]
    for share in np.linspace(0, 1, _PANELS - 1):
        with isolated_rng(seed, model.device):
            panels.append(noised(model, images, float(share)))
    with isolated_rng(seed, model.device):
        states = way_back(model, number)
    panels += [states[round(place)] for place in np.linspace(0, len(states) - 1, _PANELS)]
    picture = _planes(panels, spec) if plane else _images(panels, spec)
    upper, lower = ("upper row", "lower row") if plane else (f"upper {_ROWS} rows", f"lower {_ROWS} rows")
    way = f"{upper}: test images on their way to noise; {lower}: samples on their way back"
    picture.info["Description"] = f"{way}, by {len(states) - 1} steps"
    return picture


@singledispatch
def noised(model: Any, images: Tensor, share: float) -> Tensor:
    """Maps (N, C, H, W) uint8 to the same with noise, in levels, after a share of the steps of the way to noise."""
    raise NotImplementedError(type(model).__name__)


@singledispatch
def way_back(model: Any, num_samples: int) -> list[Tensor]:
    """Returns what a sample is after each step, all (num_samples, C, H, W) in levels: first noise, at last an image."""
    raise NotImplementedError(type(model).__name__)


@noised.register
def _(model: GaussianDiffusion, images: Tensor, share: float) -> Tensor:
    first = model.first_step - 1
    step = first + round(share * (model.num_steps - first))
    points = model.points(images)
    return _levels(model.diffuse(points, model.gammas()[step : step + 1], torch.randn_like(points)), model.spec)


@way_back.register
def _(model: GaussianDiffusion, num_samples: int) -> list[Tensor]:
    states = list(model.ancestral(num_samples))
    return [*(_levels(z, model.spec) for z in states), model.draw(states[-1]).to(model.dtype)]


@noised.register
def _(model: FlowMatching, images: Tensor, share: float) -> Tensor:
    points = model.points(images)
    return _levels((1 - share) * points + share * torch.randn_like(points), model.spec)


@way_back.register
def _(model: FlowMatching, num_samples: int) -> list[Tensor]:
    times = torch.linspace(0, 1, model.num_steps + 1, dtype=model.dtype, device=model.device)
    states = [torch.randn(num_samples, *model.spec.shape, dtype=model.dtype, device=model.device)]
    for start, end in pairwise(torch.split(times, 1)):
        states.append(heun(model.velocity, states[-1], start, end))
    return [_levels(z, model.spec) for z in states]


@noised.register
def _(model: DeepDiffusion, images: Tensor, share: float) -> Tensor:
    steps = torch.full((len(images),), 1 + round(share * (model.kernel.num_steps - 1)), device=model.device)
    return _kernel_levels(model.kernel, model.kernel.diffuse(model.kernel.start(images, model.dtype), steps)[0])


@way_back.register
def _(model: DeepDiffusion, num_samples: int) -> list[Tensor]:
    states = list(model.ancestral(num_samples))
    drawn = model.kernel.finish(states[-1]).to(model.dtype)
    return [*(_kernel_levels(model.kernel, x) for x in states[:-1]), drawn]


for _known in (GaussianDiffusion, FlowMatching, DeepDiffusion):
    Diffusion.register(_known)


def _levels(points: Tensor, spec: ImageSpec) -> Tensor:
    """Maps points, of which -1 and 1 are the ends of the levels, to levels."""
    return (points + 1) * (spec.levels / 2) - 0.5


def _kernel_levels(kernel: Kernel, x: Tensor) -> Tensor:
    return x * kernel.scale + kernel.shift - 0.5 if isinstance(kernel, GaussianKernel) else x


def _images(panels: list[Tensor], spec: ImageSpec) -> Image.Image:
    """Lays panels, each (rows, C, H, W) in levels, out as columns, the later half of them below."""
    halves = [torch.stack(panels[:_PANELS], 1), torch.stack(panels[_PANELS:], 1)]  # (rows, columns, C, H, W)
    cells = torch.cat(halves).flatten(0, 1).round().clamp(0, spec.levels - 1).to(torch.uint8)
    scale = max(1, _SIDE // max(spec.height, spec.width))
    return image_grid(cells, spec, columns=_PANELS, gap=2, scale=scale)


def _planes(panels: list[Tensor], spec: ImageSpec) -> Image.Image:
    """Paints the density of the points in each panel, (N, C, H, W) in levels: the first entry across, the second up."""
    edges = np.linspace(-spec.levels / 2, 1.5 * spec.levels, _POINTS_SIDE + 1)
    cells = []
    for panel in panels:
        across, up = panel.flatten(1).double().cpu().numpy().T
        counts = np.histogram2d(up, across, bins=[edges, edges])[0][::-1]
        dark = np.sqrt(counts / max(1.0, np.quantile(counts[counts > 0], 0.9) if counts.any() else 1.0)).clip(0, 1)
        cells.append(np.pad(255 * (1 - dark), _GAP // 2, constant_values=160))
    rows = [np.hstack(cells[:_PANELS]), np.hstack(cells[_PANELS:])]
    return Image.fromarray(np.rint(np.vstack(rows)).astype(np.uint8))
