"""Mixtures: densities of images as weighted sums of simple ones, by expectation maximisation or by gradients."""

from __future__ import annotations

from collections.abc import Sequence

from harness import ModelEntry, hookimpl


@hookimpl
def register_models() -> Sequence[ModelEntry]:
    """Returns the models of this package."""
    return [
        ModelEntry(
            "mixture-of-gaussians",
            "harness_mixtures.mixture_of_gaussians:MixtureOfGaussians",
            paper="Dempster, Laird & Rubin 1977",
            summary="K Gaussians on dequantized pixels, diagonal or full covariances, a bound, by EM",
        ),
        ModelEntry(
            "mixture-of-categoricals",
            "harness_mixtures.mixture_of_categoricals:MixtureOfCategoricals",
            paper="Dempster, Laird & Rubin 1977",
            summary="K products of histograms (of Bernoullis on binary images), exact, by EM",
        ),
        ModelEntry(
            "mixture-of-factor-analysers",
            "harness_mixtures.factor_analysers:MixtureOfFactorAnalysers",
            paper="Ghahramani & Hinton 1996",
            summary="K Gaussians of low rank plus diagonal on dequantized pixels, a bound, by EM",
        ),
        ModelEntry(
            "deep-gmm",
            "harness_mixtures.deep_gmm:DeepGMM",
            paper="van den Oord & Schrauwen 2014",
            summary="all paths through layers of affine maps, on dequantized pixels, a bound, by gradients",
        ),
        ModelEntry(
            "ride",
            "harness_mixtures.ride:RIDE",
            paper="Theis & Bethge 2015, arXiv 1506.03478",
            summary="a spatial LSTM and a mixture of Gaussian scale mixtures for every pixel, a bound",
        ),
    ]
