"""The figure ``posteriors``: where a model with two latents puts single images, and all of them together."""

import math

import altair as alt
import torch
from torch import Tensor

from harness import LatentVariable, ShownModel, derive_seed, isolated_rng

_IMAGES, _DRAWS, _AGGREGATE, _SIDE, _WIDTH = 4, 300, 1200, 260, 3.5


@torch.no_grad()
def draw_posteriors(shown: ShownModel) -> alt.HConcatChart | None:
    """Draws 300 latents of each of four different test images, and one latent each of 1,200 test images.

    The circles are the prior's: one and two deviations of a standard normal. None where a model has not two latents, or
    does not say how they are drawn.
    """
    model = shown.model
    assert isinstance(model, LatentVariable)
    images = shown.data.test.draw(0).images.to(model.device)
    several = _different(images, _IMAGES)
    with isolated_rng(derive_seed(shown.seed, "posteriors"), model.device):
        try:
            draws, _ = model.draw_posterior(several.repeat_interleave(_DRAWS, 0))
            together, _ = model.draw_posterior(images[:_AGGREGATE])
        except NotImplementedError:
            return None
    if draws.shape[1] != 2:
        return None
    names = [f"image {index}" for index in range(1, len(several) + 1) for _ in range(_DRAWS)]
    single = _panel(draws, names, f"q(z | x) of {len(several)} test images")
    aggregate = _panel(together, ["all"] * len(together), f"q(z | x) over {len(together):,} test images")
    return alt.hconcat(single, aggregate, title=shown.label)


def _different(images: Tensor, count: int) -> Tensor:
    """Returns the first ``count`` (M, C, H, W) of the images that differ from one another, or as many as there are."""
    found = [images[0]]
    for image in images[1:]:
        if len(found) == count:
            break
        if not any(torch.equal(image, other) for other in found):
            found.append(image)
    return torch.stack(found)


def _panel(points: Tensor, names: list[str], title: str) -> alt.LayerChart | alt.FacetChart:
    rows = points.double().clamp(-_WIDTH, _WIDTH).cpu().tolist()
    values = [{"x": round(x, 3), "y": round(y, 3), "of": name} for (x, y), name in zip(rows, names, strict=True)]
    turns = [2 * math.pi * step / 60 for step in range(61)]
    circle = [{"x": r * math.cos(turn), "y": r * math.sin(turn), "r": r, "at": turn} for r in (1, 2) for turn in turns]
    scale = alt.Scale(domain=[-_WIDTH, _WIDTH], nice=False)
    x, y = alt.X("x:Q").scale(scale).title("first latent"), alt.Y("y:Q").scale(scale).title("second latent")
    lines = alt.Chart({"values": circle}).mark_line(color="#808080", strokeWidth=1)
    colour = alt.value("#606060") if len(set(names)) == 1 else alt.Color("of:N").title(None)
    dots = alt.Chart({"values": values}, width=_SIDE, height=_SIDE).mark_circle(size=8, opacity=0.5)
    return alt.layer(
        dots.encode(x, y, color=colour), lines.encode(x, y, order="at:Q", detail="r:N"),
        title=alt.TitleParams(title, fontSize=12),
    )  # fmt: skip
