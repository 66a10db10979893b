"""Discriminators with several outputs for each image: heads, all linear in the same features."""

from __future__ import annotations

from torch import nn
from torch.nn.utils.parametrizations import spectral_norm

from harness import ImageSpec
from harness_gan.networks import Network, Normalization, Scores, build_discriminator


def build_heads(
    network: Network, spec: ImageSpec, *, outputs: int, width: int, normalization: Normalization, dropout: float
) -> Scores:
    """Returns a discriminator that maps images (N, C, H, W) in [-1, 1] to (N, outputs), of two outputs or more.

    Its other arguments and what it raises are those of ``harness_gan.networks.build_discriminator``.
    """
    scores = build_discriminator(network, spec, width=width, normalization=normalization, dropout=dropout)
    heads = nn.Linear(scores.num_features, outputs)
    scores[-1] = spectral_norm(heads) if normalization == "spectral" else heads
    return scores
