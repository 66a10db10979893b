"""Generative adversarial networks: objectives, penalties and networks, chosen independently, over one game."""

from __future__ import annotations

from harness import FigureEntry, ModelEntry, hookimpl


@hookimpl
def register_models() -> list[ModelEntry]:
    """Returns the models of this package; torch is not imported before one of them is used."""
    return [
        ModelEntry(
            "gan",
            "harness_gan.gan:GAN",
            paper="arXiv 1406.2661 (Goodfellow et al. 2014)",
            summary="a generator against a discriminator, non-saturating or by any of 14 objectives and 3 penalties",
        ),
        ModelEntry(
            "wgan",
            "harness_gan.wgan:WGAN",
            paper="arXiv 1701.07875 (Arjovsky et al. 2017)",
            summary="a generator against a critic of the Wasserstein distance, its weights clipped",
        ),
        ModelEntry(
            "wgan-gp",
            "harness_gan.wgan_gp:WGANGP",
            paper="arXiv 1704.00028 (Gulrajani et al. 2017)",
            summary="a generator against a critic of the Wasserstein distance, its gradients penalised; MLP or DCGAN",
        ),
    ]


@hookimpl
def register_figures() -> list[FigureEntry]:
    """Returns the figures of games: of a trained model's discriminator and latents, and of a whole suite."""
    model = "harness_gan.adversarial:Adversarial"
    paper = "Gulrajani et al. 2017, arXiv 1704.00028"
    return [
        FigureEntry(
            "matrix",
            "harness_gan.matrix_figure:draw_matrix",
            summary="a metric of samples by objective and network, of rows labelled 'OBJECTIVE, NETWORK'",
            paper=paper,
        ),
        FigureEntry(
            "critic-surface",
            "harness_gan.critic_figures:draw_surface",
            summary="the discriminator's output over the plane, where images have two entries",
            paper=paper,
            requires=model,
        ),
        FigureEntry(
            "critic-weights",
            "harness_gan.critic_figures:draw_weights",
            summary="a histogram of the discriminator's weights, and the slope of its output in each layer",
            paper=paper,
            requires=model,
        ),
        FigureEntry(
            "latent-walk",
            "harness_gan.walk_figure:draw_walk",
            summary="generated images on the way from one draw of the latents to another",
            paper="Radford et al. 2016, arXiv 1511.06434",
            requires=model,
        ),
    ]
