"""Metrics of sample quality, memorisation and learned representations, beside those of the core."""

from __future__ import annotations

from collections.abc import Sequence

from harness import MetricEntry, hookimpl

ENTRIES: tuple[MetricEntry, ...] = (
    MetricEntry.of_features(
        "nearest-training",
        "harness_metrics.memorisation:NearestTraining",
        "distance of samples to the nearest training image, over that of held-out images: 1 for new ones, 0 for copies",
    ),
    MetricEntry.of_features(
        "authenticity",
        "harness_metrics.memorisation:Authenticity",
        "samples further from the nearest training image than that is from its own nearest, in percent; low for copies",
        "Alaa et al. 2022, arXiv 2102.08921",
    ),
    MetricEntry.of_features(
        "data-copying",
        "harness_metrics.memorisation:DataCopying",
        "C_T: how samples' distances to training images rank among those of held-out images; far below 0 for copies",
        "Meehan, Chaudhuri & Dasgupta 2020, arXiv 2004.05675",
    ),
    MetricEntry(
        "1nn-accuracy",
        "harness_metrics.representation:NearestNeighbourAccuracy",
        "images whose nearest training image, by posterior means, is of their class, in percent",
        "Donahue, Krähenbühl & Darrell 2017, arXiv 1605.09782",
    ),
    MetricEntry(
        "linear-probe-accuracy",
        "harness_metrics.representation:LinearProbeAccuracy",
        "images whose class logistic regression on posterior means names rightly, in percent",
        "Alain & Bengio 2017, arXiv 1610.01644",
    ),
)


@hookimpl
def register_metrics() -> Sequence[MetricEntry]:
    """Returns the metrics of this package."""
    return ENTRIES
