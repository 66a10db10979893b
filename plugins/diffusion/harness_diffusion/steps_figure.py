"""The figure ``bits-against-steps``: what a diffusion loses where it takes fewer steps, in bits and in its samples."""

from __future__ import annotations

import math
from typing import Any

import altair as alt
import torch
from torch import Tensor

from harness import ShownModel, derive_seed, isolated_rng
from harness_diffusion.gaussian_diffusion import GaussianDiffusion
from harness_diffusion.samplers import _ddim as ddim
from harness_diffusion.unet import chunks

_STEPS = (5, 10, 20, 50, 100, 200, 500, 1000)
_MOST_EVALUATIONS = 200  # steps in all that are taken: a minute or two at 28x28
_SCORED, _DRAWN, _REFERENCE = 100, 200, 2000


@torch.no_grad()
def draw_bits_against_steps(shown: ShownModel) -> alt.HConcatChart | None:
    """Draws the bound of 100 test images, and how far 200 samples are from 2,000 test images, against the steps.

    The model is respaced to fewer steps, and not trained again. Samples are drawn by its own chain, as the bound is of
    it, and by DDIM, which adds no noise. The distance is the energy distance of pixels, see ``energy_distance``.
    """
    model, spec = shown.model, shown.data.spec
    assert isinstance(model, GaussianDiffusion)
    test = shown.data.test.draw(0).images
    bits, quality = list[dict[str, Any]](), list[dict[str, Any]]()
    for steps in step_numbers(model.num_steps):
        fewer = model.with_steps(steps)
        with isolated_rng(derive_seed(shown.seed, "bits-against-steps"), model.device):
            nats = -fewer.elbo(test[:_SCORED]).double() / (spec.num_dimensions * math.log(2))
            without_noise = [fewer.draw(ddim(fewer, size)) for size in chunks(_DRAWN, spec)]
            draws = {"ancestral": fewer.sample(_DRAWN), "DDIM": torch.cat(without_noise)}
        bits.append({"steps": steps, "bits": _ten_digits(nats.mean())})
        for sampler, images in draws.items():
            distance = energy_distance(images, test[:_REFERENCE], spec.levels)
            quality.append({"steps": steps, "sampler": sampler, "distance": _ten_digits(distance)})
    numbers = [row["steps"] for row in bits]
    x = alt.X("steps:Q").title("steps").scale(type="log", domain=[numbers[0], numbers[-1]]).axis(values=numbers)
    y = alt.Y("bits:Q").title("bits/dim, upper bound").scale(type="log")
    bound = (
        alt.Chart({"values": bits}, width=260, height=220)
        .mark_line(point=True)
        .encode(x=x, y=y, tooltip=["steps:Q", "bits:Q"])
    )
    samples = (
        alt.Chart({"values": quality}, width=260, height=220)
        .mark_line(point=True)
        .encode(
            x=x,
            y=alt.Y("distance:Q").title("energy distance of samples, 0 is best"),
            color=alt.Color("sampler:N").title(None).legend(orient="top"),
            tooltip=["sampler:N", "steps:Q", "distance:Q"],
        )
    )
    title = alt.TitleParams(
        f"{shown.label}: {shown.data.name}",
        subtitle=f"{_SCORED} test images scored; {_DRAWN} samples against {min(_REFERENCE, len(test)):,} test images",
    )
    return alt.hconcat(bound, samples, spacing=40).properties(title=title)


def step_numbers(num_steps: int) -> list[int]:
    """Returns how many steps are looked at: fewer than ``num_steps``, and these, unless that would take too long."""
    numbers = [steps for steps in _STEPS if steps < num_steps] + [num_steps]
    return [steps for index, steps in enumerate(numbers) if sum(numbers[: index + 1]) <= _MOST_EVALUATIONS]


def energy_distance(samples: Tensor, reference: Tensor, levels: int) -> Tensor:
    """Returns 2 E|X - Y| - E|X - X'| - E|Y - Y'| of images (N, C, H, W), (M, C, H, W) uint8, black 0 and white 1.

    It is zero for equal distributions alone (Szekely & Rizzo 2013), and the estimate has no bias.
    """
    x, y = (images.flatten(1).double() / (levels - 1) for images in (samples, reference))
    within = [torch.pdist(points).mean() for points in (x, y)]
    return 2 * torch.cdist(x, y).mean() - within[0] - within[1]


def _ten_digits(value: Tensor) -> float:
    return float(f"{value.item():.10g}")
