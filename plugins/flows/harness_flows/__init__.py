"""Normalizing flows on dequantized images."""

from __future__ import annotations

from harness import ModelEntry, hookimpl


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
    ]
