"""Adversarially learned inference: ALI, BiGAN and hierarchical ALI, whose discriminator sees latents too."""

from __future__ import annotations

from harness import DatasetEntry, FigureEntry, ModelEntry, hookimpl


@hookimpl
def register_models() -> list[ModelEntry]:
    """Returns the models of this package; torch is not imported before one of them is used."""
    return [
        ModelEntry(
            "ali",
            "harness_ali.ali:ALI",
            paper="Dumoulin et al. 2017, arXiv 1606.00704",
            summary="generator and Gaussian encoder against a discriminator of images and latents; MLP or DCGAN",
        ),
        ModelEntry(
            "bigan",
            "harness_ali.bigan:BiGAN",
            paper="Donahue, Krähenbühl & Darrell 2017, arXiv 1605.09782",
            summary="generator and deterministic encoder against a discriminator of images and latents; MLP or DCGAN",
        ),
        ModelEntry(
            "hali",
            "harness_ali.hali:HierarchicalALI",
            paper="Belghazi et al. 2018, arXiv 1802.01071",
            summary="ALI with two or more levels of latents, which one discriminator judges together; MLP or DCGAN",
        ),
    ]


@hookimpl
def register_datasets() -> list[DatasetEntry]:
    """Returns the dataset of the toy: images of one entry."""
    return [
        DatasetEntry(
            "standard-normal",
            "harness_ali.standard_normal:standard_normal",
            "known density of the line: one entry, a standard Gaussian; drawn, not downloaded",
        )
    ]


@hookimpl
def register_figures() -> list[FigureEntry]:
    """Returns the figures of this package."""
    return [
        FigureEntry(
            "joint-plane",
            "harness_ali.joint_figure:draw_joint_plane",
            "an entry against its latent: pairs of encoder and generator, and what the discriminator says",
            "Dumoulin et al. 2017, arXiv 1606.00704",
            requires="harness_ali.joint_game:JointGame",
        ),
        FigureEntry(
            "reconstructions-by-level",
            "harness_ali.levels_figure:draw_reconstructions_by_level",
            "test images, and below each what comes back from the latents of one level after the other",
            "Belghazi et al. 2018, arXiv 1802.01071",
            requires="harness_ali.joint_game:JointGame",
        ),
    ]
