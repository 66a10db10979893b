"""The built-in figures, registered through the same hook as anyone's. Importing this imports no torch."""

from collections.abc import Sequence

from harness import FigureEntry, hookimpl


@hookimpl
def register_figures() -> Sequence[FigureEntry]:
    """Returns the entries of the built-in figures."""
    room = "harness.builtin.figures"
    given = "the first samples of each model, and real images beside them"
    near = "the first samples of each model, each above its nearest training image"
    sees = "which past pixels the centre pixel's conditional sees, and how much they matter to it"
    plane = "the density and the samples of each model of images of two entries, the true ones first"
    ranks = "negative log-likelihoods and bounds with their standard errors and ranks"
    speed = "the fastest sampling speed of each row against its likelihood, on each machine"
    paper = "van den Oord et al. 2016"
    plane_of = "the expected images over the plane of a model's two latents"
    back = "test images above the expected images at their codes"
    between = "expected images on the line between the codes of two test images"
    clouds = "latents that a model with two of them draws for single images, and for all"
    used = "how much each latent unit's posterior mean varies with the image: which have collapsed"
    return [
        FigureEntry("samples", f"{room}.samples:draw_samples", summary=given, requires="Model", data=True),
        FigureEntry("nearest", f"{room}.samples:draw_nearest", summary=near, requires="Model", data=True),
        FigureEntry("densities", f"{room}.plane:draw_densities", summary=plane, requires="Model", data=True),
        FigureEntry(
            "receptive-field", f"{room}.receptive_field:draw_receptive_field", sees, paper, requires="Autoregressive"
        ),
        FigureEntry(
            "latent-manifold", f"{room}.latents:draw_manifold", plane_of, "Kingma & Welling 2014", requires="Inference"
        ),
        FigureEntry("reconstructions", f"{room}.latents:draw_reconstructions", summary=back, requires="Inference"),
        FigureEntry("interpolations", f"{room}.latents:draw_interpolations", summary=between, requires="Inference"),
        FigureEntry(
            "posteriors", f"{room}.posteriors:draw_posteriors", clouds, "Kingma et al. 2016", requires="LatentVariable"
        ),
        FigureEntry("latent-use", f"{room}.latents:draw_latent_use", used, "Burda et al. 2016", requires="Inference"),
        FigureEntry("likelihood", f"{room}.likelihood:draw", summary=ranks),
        FigureEntry("speed-against-likelihood", f"{room}.speed:draw", summary=speed),
    ]
