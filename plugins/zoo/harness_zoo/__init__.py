"""The zoo of generative adversarial networks of 2014 to 2017: a file for each, over the game of ``harness_gan``."""

from __future__ import annotations

from harness import ModelEntry, hookimpl

ENTRIES: tuple[ModelEntry, ...] = (
    ModelEntry(
        "softmax-gan",
        "harness_zoo.softmax_gan:SoftmaxGAN",
        paper="arXiv 1704.06191 (Lin 2017)",
        summary="cross-entropy over all images of a batch, real and generated",
    ),
)


@hookimpl
def register_models() -> list[ModelEntry]:
    """Returns the models of this package; torch is not imported before one of them is used."""
    return list(ENTRIES)
