"""The zoo of generative adversarial networks of 2014 to 2017: a file for each, over the game of ``harness_gan``."""

from __future__ import annotations

from harness import BoardEntry, ModelEntry, hookimpl

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


@hookimpl
def register_boards() -> list[BoardEntry]:
    """Returns the board of a suite of all of the zoo."""
    return [BoardEntry("zoo", "harness_zoo.board:Zoo", "every name of the zoo, what stands for it or why nothing does")]
