"""The zoo of generative adversarial networks of 2014 to 2017: a file for each, over the game of ``harness_gan``."""

from __future__ import annotations

from harness import BoardEntry, ModelEntry, hookimpl

ENTRIES: tuple[ModelEntry, ...] = (
    ModelEntry(
        "ac-gan",
        "harness_zoo.ac_gan:ACGAN",
        paper="arXiv 1610.09585 (Odena et al. 2017)",
        summary="class-conditional; a head of the discriminator tells the class",
    ),
    ModelEntry(
        "am-gan",
        "harness_zoo.am_gan:AMGAN",
        paper="arXiv 1703.02000 (Zhou et al. 2018)",
        summary="a class more for generated images, each of which wants to be of its likeliest class",
    ),
    ModelEntry(
        "bs-gan",
        "harness_zoo.bs_gan:BSGAN",
        paper="arXiv 1702.08431 (Hjelm et al. 2018)",
        summary="a generator that seeks the discriminator's decision boundary",
    ),
    ModelEntry(
        "bs-gan-discrete",
        "harness_zoo.bs_gan_discrete:BSGANDiscrete",
        paper="arXiv 1702.08431 (Hjelm et al. 2018)",
        summary="a generator of binary images that learns from importance-weighted draws",
    ),
    ModelEntry(
        "catgan",
        "harness_zoo.catgan:CatGAN",
        paper="arXiv 1511.06390 (Springenberg 2016)",
        summary="entropies of categories that the discriminator finds without labels",
    ),
    ModelEntry(
        "cgan",
        "harness_zoo.cgan:CGAN",
        paper="arXiv 1411.1784 (Mirza & Osindero 2014)",
        summary="class-conditional; both players are told the class",
    ),
    ModelEntry(
        "cramer-gan",
        "harness_zoo.cramer_gan:CramerGAN",
        paper="arXiv 1705.10743 (Bellemare et al. 2017)",
        summary="the energy distance of features that a critic learns",
    ),
    ModelEntry(
        "d2gan",
        "harness_zoo.d2gan:D2GAN",
        paper="arXiv 1709.03831 (Nguyen et al. 2017)",
        summary="two discriminators, for both directions of the Kullback-Leibler divergence",
    ),
    ModelEntry(
        "ebgan",
        "harness_zoo.ebgan:EBGAN",
        paper="arXiv 1609.03126 (Zhao et al. 2017)",
        summary="an autoencoder as the discriminator, with a margin and a pulling-away term",
    ),
    ModelEntry(
        "fisher-gan",
        "harness_zoo.fisher_gan:FisherGAN",
        paper="arXiv 1705.09675 (Mroueh & Sercu 2017)",
        summary="a critic whose second moment is held at one by a multiplier",
    ),
    ModelEntry(
        "improved-gan",
        "harness_zoo.improved_gan:ImprovedGAN",
        paper="arXiv 1606.03498 (Salimans et al. 2016)",
        summary="a generator that matches the mean of a discriminator's features",
    ),
    ModelEntry(
        "improved-gan-semi",
        "harness_zoo.improved_gan_semi:ImprovedGANSemi",
        paper="arXiv 1606.03498 (Salimans et al. 2016)",
        summary="semi-supervised: K logits, class K + 1 implied; feature matching",
    ),
    ModelEntry(
        "infogan",
        "harness_zoo.infogan:InfoGAN",
        paper="arXiv 1606.03657 (Chen et al. 2016)",
        summary="a discrete and a continuous code that a head of the discriminator reads off the image",
    ),
    ModelEntry(
        "lapgan",
        "harness_zoo.lapgan:LAPGAN",
        paper="arXiv 1506.05751 (Denton et al. 2015)",
        summary="a coarse image, and at each finer level a residual given it, each by a GAN of its own",
    ),
    ModelEntry(
        "ls-gan",
        "harness_zoo.ls_gan:LSGAN",
        paper="arXiv 1701.06264 (Qi 2017)",
        summary="real images are ranked above generated ones, by how far they are apart",
    ),
    ModelEntry(
        "magan",
        "harness_zoo.magan:MAGAN",
        paper="arXiv 1704.03817 (Wang et al. 2017)",
        summary="an autoencoder as the discriminator, with a margin that adapts",
    ),
    ModelEntry(
        "mcgan-covariance",
        "harness_zoo.mcgan:McGanCovariance",
        paper="arXiv 1702.08398 (Mroueh et al. 2017)",
        summary="matches the second moments of bounded features",
    ),
    ModelEntry(
        "mcgan-mean",
        "harness_zoo.mcgan:McGanMean",
        paper="arXiv 1702.08398 (Mroueh et al. 2017)",
        summary="matches the mean of bounded features",
    ),
    ModelEntry(
        "mdgan",
        "harness_zoo.mdgan:MDGAN",
        paper="arXiv 1612.02136 (Che et al. 2017)",
        summary="an encoder keeps the generator near every image",
    ),
    ModelEntry(
        "minibatch-gan",
        "harness_zoo.minibatch_gan:MinibatchGAN",
        paper="arXiv 1606.03498 (Salimans et al. 2016)",
        summary="a discriminator that sees how close the images of a batch are",
    ),
    ModelEntry(
        "projection-gan",
        "harness_zoo.projection_gan:ProjectionGAN",
        paper="arXiv 1802.05637 (Miyato & Koyama 2018)",
        summary="class-conditional; the class in an inner product with the discriminator's features",
    ),
    ModelEntry(
        "softmax-gan",
        "harness_zoo.softmax_gan:SoftmaxGAN",
        paper="arXiv 1704.06191 (Lin 2017)",
        summary="cross-entropy over all images of a batch, real and generated",
    ),
    ModelEntry(
        "ssl-gan",
        "harness_zoo.ssl_gan:SSLGAN",
        paper="arXiv 1611.06430 (Denton et al. 2016)",
        summary="semi-supervised: a second head of the discriminator classifies the labelled images",
    ),
    ModelEntry(
        "unrolled-gan",
        "harness_zoo.unrolled_gan:UnrolledGAN",
        paper="arXiv 1611.02163 (Metz et al. 2017)",
        summary="a generator that looks some steps of the discriminator ahead",
    ),
    ModelEntry(
        "vae-gan",
        "harness_zoo.vae_gan:VAEGAN",
        paper="arXiv 1512.09300 (Larsen et al. 2016)",
        summary="a VAE whose errors are those of a discriminator's features",
    ),
)


@hookimpl
def register_models() -> list[ModelEntry]:
    """Returns the models of this package; torch is not imported before one of them is used."""
    return list(ENTRIES)


@hookimpl
def register_boards() -> list[BoardEntry]:
    """Returns the board of a suite of all of the zoo."""
    return [BoardEntry("zoo", "harness_zoo.board:Zoo", "every name of the zoo, what stands for it or why nothing does")]
