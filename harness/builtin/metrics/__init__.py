"""The built-in metrics, registered through the same hook as anyone's. Nothing here imports torch until it is used."""

from __future__ import annotations

from collections.abc import Sequence

from harness import MetricEntry, hookimpl

# a dataset's own name may hold hyphens; the shortest is taken, and a number of samples is no part of it, nor all of it
_DATASET = r"(?!n[1-9]\d*$)[a-z0-9]+(?:-[a-z0-9]+)*?"
_FEATURES = rf"(?:-(?P<network>pixels|inception|lenet(?:-{_DATASET})?))?(?:-n(?P<num_samples>[1-9]\d*))?"
_BURDA = "Burda, Grosse & Salakhutdinov 2016, arXiv 1509.00519"


@hookimpl
def register_metrics() -> Sequence[MetricEntry]:
    """Registers the metrics of the core: likelihoods and bounds, sample quality, cost, speed."""
    likelihood, bounds, cost, speed = (
        f"harness.builtin.metrics.{name}" for name in ("likelihood", "bounds", "cost", "speed")
    )
    return [
        MetricEntry("nll", f"{likelihood}:NLL", summary="negative log-likelihood, nats an image, exact"),
        MetricEntry(
            "bits-per-dim", f"{likelihood}:BitsPerDim", summary="exact negative log-likelihood, bits a dimension"
        ),
        MetricEntry(
            "negative-elbo", f"{bounds}:NegativeELBO", summary="upper bound on the NLL from one ELBO draw an image"
        ),
        MetricEntry(
            "bits-per-dim-bound",
            f"{bounds}:BitsPerDimBound",
            summary="the negative ELBO in bits a dimension, upper bound",
        ),
        MetricEntry(
            "iwae",
            f"{bounds}:IWAE",
            summary="upper bound on the NLL from K importance weights an image",
            paper=_BURDA,
            pattern=r"iwae-(?P<num_samples>[1-9]\d*)",
            usage="iwae-K",
        ),
        MetricEntry(
            "entropy-gap",
            "harness.builtin.metrics.gap:EntropyGap",
            summary="NLL, or its bound, above that of the true distribution; on datasets of known entropy",
            paper="Kullback & Leibler 1951",
        ),
        MetricEntry(
            "audit",
            "harness.builtin.metrics.audit:Audit",
            summary="checks of the model's likelihood, samplers and conduct that fail; every suite has it",
        ),
        MetricEntry(
            "active-units",
            "harness.builtin.metrics.active_units:ActiveUnits",
            summary="latent units whose posterior mean varies with the image",
            paper=_BURDA,
        ),
        MetricEntry(
            "fid",
            "harness.builtin.metrics.sample_quality:FID",
            summary="Fréchet distance of samples and test images in a network's features; lenet and 10,000 samples",
            paper="Heusel et al. 2017, arXiv 1706.08500",
            pattern=f"fid{_FEATURES}",
            usage="fid[-NETWORK][-nSAMPLES]",
        ),
        MetricEntry(
            "kid",
            "harness.builtin.metrics.sample_quality:KID",
            summary="kernel distance of samples and test images in a network's features, unbiased",
            paper="Bińkowski et al. 2018, arXiv 1801.01401",
            pattern=f"kid{_FEATURES}",
            usage="kid[-NETWORK][-nSAMPLES]",
        ),
        MetricEntry(
            "parameters-sampling", f"{cost}:ParametersSampling", summary="learned numbers that drawing an image uses"
        ),
        MetricEntry("parameters-training", f"{cost}:ParametersTraining", summary="learned numbers in the checkpoint"),
        MetricEntry("flops-scoring", f"{cost}:FlopsScoring", summary="floating-point operations to score one image"),
        MetricEntry("flops-sampling", f"{cost}:FlopsSampling", summary="floating-point operations to draw one image"),
        MetricEntry("fit-seconds", f"{cost}:FitSeconds", summary="seconds spent in training"),
        MetricEntry(
            "training-throughput", f"{speed}:TrainingThroughput", summary="images a second through the training loop"
        ),
        MetricEntry("scoring-throughput", f"{speed}:ScoringThroughput", summary="images scored a second"),
        MetricEntry("sampling-throughput", f"{speed}:SamplingThroughput", summary="images drawn a second"),
        MetricEntry("sampling-latency", f"{speed}:SamplingLatency", summary="seconds until one image is drawn"),
        MetricEntry("peak-memory", f"{speed}:PeakMemory", summary="bytes while sampling and scoring a batch of 64"),
    ]
