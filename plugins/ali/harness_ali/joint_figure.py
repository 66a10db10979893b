"""The figure ``joint-plane``: the two joint distributions of an image of one entry and its one latent."""

from __future__ import annotations

import altair as alt
import torch

from harness import ShownModel, derive_seed, isolated_rng
from harness_ali.joint_game import JointGame

_CELLS, _HALF, _POINTS = 40, 4.0, 300


@torch.no_grad()
def draw_joint_plane(shown: ShownModel) -> alt.LayerChart | alt.FacetChart | None:
    """Draws 300 pairs (x, z) of the encoder and 300 of the generator over the discriminator's verdict on the plane.

    The levels of x stand for the numbers from -4 to 4. None where images have more than one entry, or more than one
    latent. On ``standard-normal``, z = x and z = -x are the two optima: the toy of learning the identity.
    """
    model, spec = shown.model, shown.data.spec
    assert isinstance(model, JointGame)
    if spec.num_dimensions != 1 or model.latents != (1,):
        return None
    number = 2 * _HALF / (spec.levels - 1)  # for a level
    images = shown.data.test.draw(0).images[:_POINTS].to(model.device)
    with isolated_rng(derive_seed(shown.seed, "joint-plane"), model.device):
        pairs = model.draw_pairs(images)
    points = [
        {"x": x * _HALF, "z": z, "pair": name}
        for name, (drawn, latents) in zip(("x, E(x)", "G(z), z"), pairs, strict=True)
        for x, z in zip(drawn.flatten().tolist(), latents.flatten().tolist(), strict=True)
    ]
    side = 2 * _HALF / _CELLS
    middles = -_HALF + side * (torch.arange(_CELLS, dtype=torch.float64) + 0.5)
    plane = torch.cartesian_prod(middles, middles)  # (cells, 2)
    levels = ((plane[:, 0] + _HALF) / number).round().to(torch.uint8).view(-1, *spec.shape)
    verdict = model.log_ratio(levels.to(model.device), plane[:, 1:].to(model.dtype).to(model.device)).sigmoid()
    cells = [
        {"x": x - side / 2, "right": x + side / 2, "z": z - side / 2, "upper": z + side / 2, "D": round(share, 4)}
        for (x, z), share in zip(plane.tolist(), verdict.tolist(), strict=True)
    ]
    domain = alt.Scale(domain=[-_HALF, _HALF], nice=False)
    ground = alt.Chart({"values": cells}, width=300, height=300).mark_rect().encode(
        alt.X("x:Q").title("x").scale(domain), alt.Y("z:Q").title("z").scale(domain), x2="right:Q", y2="upper:Q",
        color=alt.Color("D:Q").title("D(x, z)").scale(scheme="greys", domain=[0, 1]),
    )  # fmt: skip
    scatter = alt.Chart({"values": points}).mark_circle(size=14, opacity=0.8, clip=True).encode(
        alt.X("x:Q").scale(domain), alt.Y("z:Q").scale(domain), fill=alt.Fill("pair:N").title(None),
    )  # fmt: skip
    title = alt.TitleParams(shown.label, subtitle="pairs of the encoder and of the generator; D is 1 for the encoder's")
    return alt.layer(ground, scatter, title=title)
