"""Generative adversarial networks: objectives, penalties and networks, chosen independently, over one game."""

from __future__ import annotations

from harness import ModelEntry, hookimpl


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
