"""Pictures of models with an encoder and a decoder: what latents stand for, what comes back, what is used at all."""

import altair as alt
import torch
from PIL import Image
from torch import Tensor

from harness import ImageSpec, Inference, ShownModel, image_grid

MANIFOLD_SIDE, PAIRS, STEPS, RECONSTRUCTED = 20, 6, 10, 10
_EDGE, _SIDE, _MOST_IMAGES, _BATCH = 0.05, 56, 2000, 500
_ACTIVE = 1e-2  # of the metric ``active-units``


@torch.no_grad()
def draw_manifold(shown: ShownModel) -> Image.Image | None:
    """Draws 20 x 20 expected images at latents whose standard normal quantiles are spread evenly over 0.05 to 0.95.

    Kingma & Welling 2014, arXiv 1312.6114. The first latent grows to the right, the second upwards. None where a model
    has not two latents.
    """
    model = _inference(shown)
    if sum(_sizes(model)) != 2:
        return None
    quantiles = torch.linspace(_EDGE, 1 - _EDGE, MANIFOLD_SIDE, dtype=torch.float64)
    line = torch.special.ndtri(quantiles).to(model.dtype)
    up, across = torch.meshgrid(line.flip(0), line, indexing="ij")
    latents = torch.stack([across.flatten(), up.flatten()], dim=1)
    return _picture(model.decode(latents), shown.data.spec, MANIFOLD_SIDE, "expected images over the plane of latents")


@torch.no_grad()
def draw_reconstructions(shown: ShownModel) -> Image.Image:
    """Draws the first 10 test images above the expected images at their codes."""
    model, images = _inference(shown), _test_images(shown, RECONSTRUCTED)
    both = torch.cat([images.to(model.dtype), model.decode(model.encode(images))])
    return _picture(both, shown.data.spec, len(images), "test images above the expected images at their codes")


@torch.no_grad()
def draw_interpolations(shown: ShownModel) -> Image.Image:
    """Draws 6 rows: expected images on the straight line between the codes of two test images, which are the ends."""
    model, images = _inference(shown), _test_images(shown, 2 * PAIRS)
    first, last = model.encode(images[::2]), model.encode(images[1::2])  # (R, D)
    shares = torch.linspace(0, 1, STEPS - 2, dtype=first.dtype)[:, None, None]
    between = model.decode((first + shares * (last - first)).flatten(0, 1))
    rows = torch.cat(
        [images[::2][None].to(between), between.view(STEPS - 2, -1, *between.shape[1:]), images[1::2][None].to(between)]
    )
    words = "test images at both ends, between them expected images on the line between their codes"
    return _picture(rows.transpose(0, 1).flatten(0, 1), shown.data.spec, STEPS, words)


@torch.no_grad()
def draw_latent_use(shown: ShownModel) -> alt.LayerChart | alt.FacetChart:
    """Draws the variance over test images of each unit's posterior mean, the largest of a layer first.

    A unit is active above the line, 0.01 (Burda et al. 2016, arXiv 1509.00519): one below it has collapsed.
    """
    model, images = _inference(shown), _test_images(shown, _MOST_IMAGES)
    variances = torch.cat([model.encode(part) for part in torch.split(images, _BATCH)]).double().var(0, correction=0)
    values = []
    for depth, layer in enumerate(torch.split(variances, list(_sizes(model))), start=1):
        ranked = layer.sort(descending=True).values.clamp(min=1e-8).tolist()
        values += [{"layer": f"layer {depth}", "unit": unit, "variance": variance}
                   for unit, variance in enumerate(ranked, start=1)]  # fmt: skip
    active = sum(value["variance"] > _ACTIVE for value in values)
    title = alt.TitleParams(shown.label, subtitle=f"{active} of {len(values)} units are active; layer 1 is the top")
    chart = alt.Chart({"values": values}, width=360, height=240)
    lines = chart.mark_line(point=True).encode(
        alt.X("unit:Q").title("unit, in order").axis(tickMinStep=1),
        alt.Y("variance:Q").title("variance of the posterior mean").scale(type="log"),
        color=alt.Color("layer:N").title(None).legend(None if len(_sizes(model)) == 1 else alt.Legend(orient="right")),
        tooltip=[alt.Tooltip(f"{name}:N") for name in ("layer", "unit", "variance")],
    )
    threshold = alt.Chart({"values": [{"at": _ACTIVE}]}).mark_rule(strokeDash=[4, 3]).encode(y="at:Q")
    return alt.layer(lines, threshold, title=title)


def _inference(shown: ShownModel) -> Inference:
    assert isinstance(shown.model, Inference)
    return shown.model


def _sizes(model: Inference) -> tuple[int, ...]:
    """Returns the units of each layer; a model that does not say them has one layer."""
    try:
        return model.latent_sizes
    except NotImplementedError:
        blank = torch.zeros(1, *model.spec.shape, dtype=torch.uint8, device=model.device)
        return (model.encode(blank).shape[1],)


def _test_images(shown: ShownModel, count: int) -> Tensor:
    return shown.data.test.draw(0).images[:count].to(shown.model.device)


def _picture(images: Tensor, spec: ImageSpec, columns: int, words: str) -> Image.Image:
    """Lays (N, C, H, W) in levels, which need not be whole, out in shades of 256."""
    shades = (images * (255 / (spec.levels - 1))).round().clamp(0, 255).to(torch.uint8)
    grey = ImageSpec(spec.channels, spec.height, spec.width, 256)
    scale = max(1, _SIDE // max(spec.height, spec.width))
    picture = image_grid(shades, grey, columns=columns, gap=1, scale=scale)
    picture.info["Description"] = words
    return picture
