"""Diffusion models: bounds by denoising, and flow matching."""

from __future__ import annotations

from harness import ModelEntry, SamplerEntry, hookimpl


@hookimpl
def register_models() -> list[ModelEntry]:
    """Returns the models of this package; torch is not imported before one of them is used."""
    return [
        ModelEntry(
            "vdm",
            "harness_diffusion.vdm:VDM",
            paper="Kingma et al. 2021, arXiv 2107.00630",
            summary="a diffusion trained on its bound at continuous times, scored and sampled with T steps",
        ),
        ModelEntry(
            "ddpm",
            "harness_diffusion.ddpm:DDPM",
            paper="Ho, Jain & Abbeel 2020, arXiv 2006.11239; Nichol & Dhariwal 2021, arXiv 2102.09672",
            summary="a diffusion trained to tell the noise, with a discretized Gaussian as its last step",
        ),
        ModelEntry(
            "flow-matching",
            "harness_diffusion.flow_matching:FlowMatching",
            paper="Lipman et al. 2023, arXiv 2210.02747",
            summary="a velocity from noise to images along straight paths, without a likelihood",
        ),
    ]


@hookimpl
def register_samplers() -> list[SamplerEntry]:
    """Returns samplers of fewer steps, which draw from other distributions than are scored."""
    kinds = {"ddim": "no noise is added on the way", "ancestral": "as the model draws, with longer steps"}
    return [
        SamplerEntry(
            f"approximate-{kind}-{steps}",
            f"harness_diffusion.samplers:{kind}_{steps}",
            f"{steps} steps, {how}: not the distribution that is scored",
            model=model,
        )
        for model in ("vdm", "ddpm")
        for kind, how in kinds.items()
        for steps in (50, 20)
    ]
