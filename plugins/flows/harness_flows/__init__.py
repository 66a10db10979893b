"""Normalizing flows on dequantized images."""

from __future__ import annotations

from harness import FigureEntry, ModelEntry, hookimpl


@hookimpl
def register_models() -> list[ModelEntry]:
    """Returns the models of this package; torch is not imported before one of them is used."""
    return [
        ModelEntry(
            "nice",
            "harness_flows.nice:NICE",
            paper="Dinh, Krueger & Bengio 2015, arXiv 1410.8516",
            summary="additive couplings and one diagonal scaling, under a logistic prior",
        ),
        ModelEntry(
            "realnvp",
            "harness_flows.realnvp:RealNVP",
            paper="Dinh, Sohl-Dickstein & Bengio 2017, arXiv 1605.08803",
            summary="affine couplings by checkerboards and channels, multi-scale; uniform or variational noise",
        ),
        ModelEntry(
            "glow",
            "harness_flows.glow:Glow",
            paper="Kingma & Dhariwal 2018, arXiv 1807.03039",
            summary="affine couplings between invertible 1x1 convolutions, multi-scale; uniform or variational noise",
        ),
        ModelEntry(
            "maf",
            "harness_flows.maf:MAF",
            paper="Papamakarios, Pavlakou & Murray 2017, arXiv 1705.07057",
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
            paper="Rezende & Mohamed 2015, arXiv 1505.05770",
            summary="planar steps from images to latents, each inverted by a root: for images of few entries",
        ),
        ModelEntry(
            "radial-flow",
            "harness_flows.radial:RadialFlow",
            paper="Rezende & Mohamed 2015, arXiv 1505.05770",
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
