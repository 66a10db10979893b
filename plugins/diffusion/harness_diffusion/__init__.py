"""Diffusion models: bounds by denoising, and flow matching."""

from __future__ import annotations

from harness import FigureEntry, MetricEntry, ModelEntry, SamplerEntry, hookimpl


@hookimpl
def register_models() -> list[ModelEntry]:
    """Returns the models of this package; torch is not imported before one of them is used."""
    return [
        ModelEntry(
            "deep-diffusion",
            "harness_diffusion.deep_diffusion:DeepDiffusion",
            paper="Sohl-Dickstein et al. 2015, arXiv 1503.03585",
            summary="a learned reversal of Gaussian or binomial noise, multi-scale convolutions, trained on its bound",
        ),
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
    """Returns samplers of fewer steps, which draw from other distributions than the models' own."""
    ways = {"ddim": "no noise is added on the way", "ancestral": "as the model draws, with longer steps"}
    names = [
        (model, f"{way}-{steps}", how) for model in ("vdm", "ddpm") for way, how in ways.items() for steps in (50, 20)
    ]
    names += [
        ("flow-matching", "euler-20", "one evaluation each"),
        ("flow-matching", "heun-10", "two evaluations each"),
    ]
    return [
        SamplerEntry(
            f"approximate-{name}",
            f"harness_diffusion.samplers:{name.replace('-', '_')}",
            f"{name.rpartition('-')[2]} steps, {how}: not what the model draws from",
            model=model,
        )
        for model, name, how in names
    ]


@hookimpl
def register_figures() -> list[FigureEntry]:
    """Returns the figures of this package."""
    return [
        FigureEntry(
            "diffusion-run",
            "harness_diffusion.diffusion_run:draw_diffusion_run",
            summary="test images step by step to noise, and samples step by step back",
            requires="harness_diffusion.diffusion_run:Diffusion",
        ),
        FigureEntry(
            "bits-against-steps",
            "harness_diffusion.steps_figure:draw_bits_against_steps",
            summary="the bound and the samples of a diffusion that takes fewer steps",
            requires="harness_diffusion.gaussian_diffusion:GaussianDiffusion",
        ),
    ]


@hookimpl
def register_metrics() -> list[MetricEntry]:
    """Returns the estimate of a flow's likelihood, which stands on a board of its own."""
    return [
        MetricEntry(
            "likelihood-estimate",
            "harness_diffusion.likelihood_estimate:LikelihoodEstimate",
            paper="Lipman et al. 2023, arXiv 2210.02747; Grathwohl et al. 2019, arXiv 1810.01367",
            summary="bits a dimension by the change of variables along a flow: neither exact nor a bound",
        )
    ]
