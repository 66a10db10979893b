"""Variational autoencoders, from one layer of Gaussian latents to deep hierarchies."""

from harness import ModelEntry, hookimpl


@hookimpl
def register_models() -> list[ModelEntry]:
    """Returns the models of this package."""
    return [
        ModelEntry(
            "vae",
            "harness_vae.vae:VAE",
            paper="Kingma & Welling 2014, arXiv 1312.6114",
            summary="Gaussian latents, tanh networks, trained on the evidence lower bound",
        ),
        ModelEntry(
            "iwae",
            "harness_vae.iwae:IWAE",
            paper="Burda, Grosse & Salakhutdinov 2016, arXiv 1509.00519",
            summary="the same networks, trained on the bound of k importance samples",
        ),
        ModelEntry(
            "lvae",
            "harness_vae.lvae:LVAE",
            paper="Sønderby et al. 2016, arXiv 1602.02282",
            summary="five layers of latents; the posterior joins the image's evidence with the prior, top down",
        ),
    ]
