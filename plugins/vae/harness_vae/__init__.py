"""Variational autoencoders, from one layer of Gaussian latents to deep hierarchies."""

from harness import FigureEntry, ModelEntry, hookimpl


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
            "conv-vae",
            "harness_vae.conv_vae:ConvVAE",
            paper="Kingma et al. 2016, arXiv 1606.04934",
            summary="residual convolutions, with a diagonal, inverse autoregressive or other posterior",
        ),
        ModelEntry(
            "dense-vae",
            "harness_vae.dense_vae:DenseVAE",
            paper="Rezende & Mohamed 2015, arXiv 1505.05770",
            summary="dense networks of any depth, with a diagonal, planar or other posterior",
        ),
        ModelEntry(
            "hvi",
            "harness_vae.hvi:HVI",
            paper="Salimans, Kingma & Welling 2015, arXiv 1410.6460",
            summary="a posterior whose draws follow Hamiltonian dynamics towards the joint density",
        ),
        ModelEntry(
            "lvae",
            "harness_vae.lvae:LVAE",
            paper="Sønderby et al. 2016, arXiv 1602.02282",
            summary="five layers of latents; the posterior joins the image's evidence with the prior, top down",
        ),
        ModelEntry(
            "resnet-vae",
            "harness_vae.resnet_vae:ResNetVAE",
            paper="Kingma et al. 2016, arXiv 1606.04934",
            summary="residual blocks bottom up and top down, with maps of latents in each",
        ),
        ModelEntry(
            "pixelvae",
            "harness_vae.pixelvae:PixelVAE",
            paper="Gulrajani et al. 2017, arXiv 1611.05013",
            summary="Gaussian latents under a Gated PixelCNN",
        ),
        ModelEntry(
            "pixelvae-hierarchical",
            "harness_vae.pixelvae_hierarchical:HierarchicalPixelVAE",
            paper="Gulrajani et al. 2017, arXiv 1611.05013",
            summary="a vector of latents, a map of latents by a Gaussian PixelCNN, and a Gated PixelCNN of pixels",
        ),
        ModelEntry(
            "vq-vae",
            "harness_vae.vqvae:VQVAE",
            paper="van den Oord, Vinyals & Kavukcuoglu 2017, arXiv 1711.00937",
            summary="a map of discrete codes with a Gated PixelCNN as its prior",
        ),
        ModelEntry(
            "draw",
            "harness_vae.draw:DRAW",
            paper="Gregor et al. 2015, arXiv 1502.04623",
            summary="an image painted in turns, each with latents of its own, through windows of attention",
        ),
        ModelEntry(
            "conv-draw",
            "harness_vae.conv_draw:ConvDRAW",
            paper="Gregor et al. 2016, arXiv 1604.08772",
            summary="an image painted in turns from maps of latents, by convolutional LSTMs, with a learned prior",
        ),
        ModelEntry(
            "vgp",
            "harness_vae.vgp:VGP",
            paper="Tran, Ranganath & Blei 2016, arXiv 1511.06499",
            summary="one layer of latents, whose posterior is noise warped by Gaussian processes",
        ),
    ]


@hookimpl
def register_figures() -> list[FigureEntry]:
    """Returns the figures of this package."""
    return [
        FigureEntry(
            "pixelvae-levels",
            "harness_vae.levels_figure:draw_pixelvae_levels",
            "samples that differ in the noise of one level alone: what each level decides",
            "Gulrajani et al. 2017, arXiv 1611.05013",
            requires="harness_vae.pixelvae_hierarchical:HierarchicalPixelVAE",
        )
    ]
