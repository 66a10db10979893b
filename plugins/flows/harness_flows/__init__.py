"""Normalizing flows on dequantized images."""

from __future__ import annotations

from harness import FigureEntry, ModelEntry, hookimpl


@hookimpl
def register_models() -> list[ModelEntry]:
    """Returns the models of this package; torch is not imported before one of them is used."""
    masked, bent = "Papamakarios, Pavlakou & Murray 2017, arXiv 1705.07057", "Rezende & Mohamed 2015, arXiv 1505.05770"
    return [
        ModelEntry(
            "maf",
            "harness_flows.maf:MAF",
            paper=masked,
            summary="masked affine autoregressive steps: one pass to the density, samples entry by entry",
        ),
        ModelEntry(
            "iaf-flow",
            "harness_flows.iaf:IAF",
            paper="Kingma et al. 2016, arXiv 1606.04934",
            summary="the same steps turned around: samples in one pass, the density entry by entry; 64 entries at most",
        ),
        ModelEntry(
            "planar-flow",
            "harness_flows.planar:PlanarFlow",
            paper=bent,
            summary="planar steps from images to latents, each inverted by a root: for images of few entries",
        ),
        ModelEntry(
            "radial-flow",
            "harness_flows.radial:RadialFlow",
            paper=bent,
            summary="radial steps from images to latents, inverted in closed form: for images of few entries",
        ),
    ]


@hookimpl
def register_figures() -> list[FigureEntry]:
    """Returns the figures of this package."""
    return [
        FigureEntry(
            "flow-steps",
            "harness_flows.steps_figure:draw_flow_steps",
            summary="of images of two entries: densities of samples after more and more steps of a flow",
            requires="Invertible",
        )
    ]
