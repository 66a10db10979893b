"""Figures of a trained discriminator: its values over the plane, and its weights with the slopes of its layers.

What clipping does to a critic, and a gradient penalty does not: Gulrajani et al. 2017, arXiv 1704.00028, figure 1.
"""

from __future__ import annotations

import altair as alt
import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from harness import ShownModel, derive_seed, isolated_rng
from harness_gan.adversarial import Adversarial

_SIDE, _POINTS, _LEVELS, _BINS = 384, 400, 12, 60
_LOW, _HIGH = np.array((28, 62, 112)), np.array((250, 238, 196))  # dark where an image seems generated
_REAL, _FAKE = (255, 120, 0), (0, 190, 130)


@torch.no_grad()
def draw_surface(shown: ShownModel) -> Image.Image | None:
    """Draws the discriminator over the plane in 12 steps of colour, with real points (orange) and samples (green).

    A critic's values mean nothing by themselves: each picture has a scale of its own, from its least value to its
    greatest. None for images of more than two entries.
    """
    model, spec = shown.model, shown.data.spec
    assert isinstance(model, Adversarial)
    if spec.num_dimensions != 2:
        return None
    line = torch.linspace(-1, 1, _SIDE, device=model.device, dtype=model.dtype)
    plane = torch.stack(torch.meshgrid(line, line.flip(0), indexing="xy"), dim=-1)  # first entry across, second up
    values = model.judge(plane.reshape(-1, *spec.shape)).view(_SIDE, _SIDE)
    height = ((values - values.min()) / (values.max() - values.min()).clamp(min=1e-12)).cpu().double().numpy()
    steps = np.minimum(np.floor(height * _LEVELS), _LEVELS - 1) / (_LEVELS - 1)
    picture = (_LOW + steps[..., None] * (_HIGH - _LOW)).round().astype(np.uint8)
    with isolated_rng(derive_seed(shown.seed, "critic-surface"), model.device):
        fake = model.sample(_POINTS)
    for images, colour in ((shown.data.test.draw(0).images[:_POINTS], _REAL), (fake, _FAKE)):
        _mark(picture, images, spec.levels, colour)
    drawn = Image.fromarray(picture)
    least, greatest = float(values.min()), float(values.max())
    drawn.info["Description"] = (
        f"the discriminator's output, from {least:.3g} (dark) to {greatest:.3g} (light) in {_LEVELS} steps; "
        "test points in orange, samples in green"
    )
    return drawn


def _mark(picture: np.ndarray, images: Tensor, levels: int, colour: tuple[int, int, int]) -> None:
    """Paints dots of 3x3 pixels at images (N, ..., 2 entries) uint8."""
    places = (images.cpu().flatten(1).double() / (levels - 1) * (_SIDE - 1)).round().long().clamp(1, _SIDE - 2)
    for across, up in places.tolist():
        picture[_SIDE - 2 - up : _SIDE + 1 - up, across - 1 : across + 2] = colour


def draw_weights(shown: ShownModel) -> alt.HConcatChart:
    """Draws a histogram of the discriminator's weights, and the slope of its output in the units of each layer.

    The slope is the root mean square over 200 test images of the gradient's norm, layer by layer from the image on.
    """
    model = shown.model
    assert isinstance(model, Adversarial)
    weights = torch.cat([one.detach().flatten() for one in model.discriminator.parameters()]).cpu().double().numpy()
    counts, edges = np.histogram(weights, bins=_BINS)
    bars = [
        {"from": _plain(low), "to": _plain(high), "weights": int(count)}
        for low, high, count in zip(edges, edges[1:], counts, strict=False)
    ]
    histogram = (
        alt.Chart({"values": bars}, width=320, height=240, title=shown.label)
        .mark_rect()
        .encode(alt.X("from:Q").title("weight"), alt.X2("to:Q"), alt.Y("weights:Q").title("weights"), y2=alt.datum(0))
    )
    slopes = [{"layer": number, "slope": _plain(slope)} for number, slope in enumerate(_slopes(shown), start=1)]
    layers = (
        alt.Chart({"values": slopes}, width=240, height=240)
        .mark_line(point=True)
        .encode(
            alt.X("layer:O").title("layer, from the image on"),
            alt.Y("slope:Q").title("norm of the output's gradient").scale(type="log"),
        )
    )
    return alt.hconcat(histogram, layers)


def _slopes(shown: ShownModel) -> list[float]:
    """Returns, for the output of each linear or convolutional layer, the norm of the score's gradient in it."""
    model = shown.model
    assert isinstance(model, Adversarial)
    kept: list[Tensor] = []

    def keep(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        kept.append(output)

    layers = [one for one in model.discriminator.modules() if isinstance(one, nn.Linear | nn.Conv2d)]
    hooks = [layer.register_forward_hook(keep) for layer in layers]
    try:
        images = shown.data.test.draw(0).images[:200].to(model.device)
        real = images.to(model.dtype) * (2 / (shown.data.spec.levels - 1)) - 1
        with torch.enable_grad():
            scores = model.judge(real.requires_grad_())
        gradients = torch.autograd.grad(scores.sum(), kept)
    finally:
        for hook in hooks:
            hook.remove()
    return [one.flatten(1).square().sum(1).mean().sqrt().item() for one in gradients]


def _plain(value: float) -> float:
    """Six significant digits, which every machine computes alike."""
    return float(f"{value:.6g}")
