"""Metrics of sample quality, memorisation and learned representations, beside those of the core."""

from __future__ import annotations

from collections.abc import Sequence

from harness import MetricEntry, hookimpl

# fmt: off
ENTRIES: tuple[MetricEntry, ...] = (
    MetricEntry.of_features(
        "fid-infinity", "harness_metrics.fid_infinity:FIDInfinity", "FID extrapolated to infinitely many samples",
        "Chong & Forsyth 2020, arXiv 1911.07023"),
    MetricEntry.of_features(
        "mmd", "harness_metrics.mmd:MMD", "kernel distance with a Gaussian kernel, times 1000: CMMD's estimator",
        "Jayasumana et al. 2024, arXiv 2401.09603"),
    MetricEntry.of_features(
        "sliced-wasserstein", "harness_metrics.sliced_wasserstein:SlicedWasserstein",
        "2-Wasserstein distance of projections on 1000 random directions, their root mean square",
        "Bonneel et al. 2015, doi 10.1007/s10851-014-0506-3"),
    MetricEntry.of_features(
        "c2st", "harness_metrics.c2st:C2ST", "accuracy of a classifier that tells samples from images; chance is 50 %",
        "Lopez-Paz & Oquab 2017, arXiv 1610.06545"),
    MetricEntry.of_features(
        "c2st-1nn", "harness_metrics.c2st:NearestNeighbourTest",
        "share of images whose nearest one is of their own set, samples or real; 50 % is ideal",
        "Xu et al. 2018, arXiv 1806.07755"),
)
# fmt: on


@hookimpl
def register_metrics() -> Sequence[MetricEntry]:
    """Returns the metrics of this package."""
    return ENTRIES
