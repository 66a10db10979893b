"""The built-in metrics, registered through the same hook as anyone's. Nothing here imports torch until it is used."""

from collections.abc import Sequence
from dataclasses import replace

from harness import MetricEntry, hookimpl

_REFERENCE = r"(?:-to-(?P<path>[a-z0-9]+(?:-[a-z0-9]+)*))?"  # a file of mean and covariance, beside the suite
_ANNEALED = "".join([
    r"-(?P<steps>[1-9]\d*)(?:-c(?P<chains>[1-9]\d*))?",
    r"(?:-l(?P<leapfrogs>[1-9]\d*))?(?:-n(?P<num_images>[1-9]\d*))?",
])  # fmt: skip
_STEPS = "-STEPS[-cCHAINS][-lLEAPFROGS][-nIMAGES]"
_BURDA = "Burda, Grosse & Salakhutdinov 2016, arXiv 1509.00519"

# fmt: off
_ENTRIES = (  # name, target, summary, paper, pattern, usage
    ("nll", "likelihood:NLL", "negative log-likelihood, nats an image, exact"),
    ("bits-per-dim", "likelihood:BitsPerDim", "exact negative log-likelihood, bits a dimension"),
    ("negative-elbo", "likelihood:NegativeELBO", "upper bound on the NLL from one ELBO draw an image"),
    ("bits-per-dim-bound", "likelihood:BitsPerDimBound", "the negative ELBO in bits a dimension, upper bound"),
    ("iwae", "likelihood:IWAE", "upper bound on the NLL from K importance weights an image", _BURDA,
     r"iwae-(?P<num_samples>[1-9]\d*)", "iwae-K"),
    ("bits-per-dim-iwae", "likelihood:BitsPerDimIWAE", "the same in bits a dimension, of K weights an image", _BURDA,
     r"bits-per-dim-iwae-(?P<num_samples>[1-9]\d*)", "bits-per-dim-iwae-K"),
    ("entropy-gap", "likelihood:EntropyGap",
     "NLL, or its bound, above that of the true distribution; on datasets of known entropy", "Kullback & Leibler 1951"),
    ("audit", "audit:Audit", "checks of the model's likelihood, samplers and conduct that fail; every suite has it"),
    ("ais", "ais:AIS", "upper bound on the NLL by annealed importance sampling; 16 chains, 5 leapfrog steps",
     "Wu, Burda, Salakhutdinov & Grosse 2017, arXiv 1611.04273", f"ais{_ANNEALED}", f"ais{_STEPS}"),
    ("bdmc-gap", "ais:BDMCGap", "bounds on log p from both sides, on images of the model's own: how far AIS may be off",
     "Grosse, Ghahramani & Adams 2015, arXiv 1511.02543", f"bdmc-gap{_ANNEALED}", f"bdmc-gap{_STEPS}"),
    ("kl", "latents:KL", "divergence from the prior to the posterior, and each layer's part of it"),
    ("marginal-kl", "latents:MarginalKL", "divergence of the latents of all images from the prior, by a classifier",
     "Belghazi et al. 2018, arXiv 1801.04062"),
    ("reconstruction-nats", "latents:ReconstructionNats", "-log p(image | latents), latents from the posterior"),
    ("reconstruction-mse", "latents:ReconstructionMSE", "mean square of a decoded posterior mean's error, in levels"),
    ("active-units", "likelihood:ActiveUnits", "latent units whose posterior mean varies with the image", _BURDA),
    ("parameters-sampling", "cost:ParametersSampling", "learned numbers that drawing an image uses"),
    ("parameters-training", "cost:ParametersTraining", "learned numbers in the checkpoint"),
    ("flops-scoring", "cost:FlopsScoring", "floating-point operations to score one image"),
    ("flops-sampling", "cost:FlopsSampling", "floating-point operations to draw one image"),
    ("flops-training", "cost:FlopsTraining", "floating-point operations of the whole training"),
    ("fit-seconds", "cost:FitSeconds", "seconds spent in training"),
    ("training-throughput", "cost:TrainingThroughput", "images a second through the training loop"),
    ("scoring-throughput", "cost:ScoringThroughput", "images scored a second"),
    ("sampling-throughput", "cost:SamplingThroughput", "images drawn a second"),
    ("fastest-sampling", "fastest:FastestSampling", "images drawn a second by the fastest sampler that is confirmed"),
    ("sampling-latency", "cost:SamplingLatency", "seconds until one image is drawn"),
    ("peak-memory", "cost:PeakMemory", "bytes while sampling and scoring a batch of 64"),
)
# fmt: on
_FID = MetricEntry.of_features(
    "fid",
    "harness.builtin.metrics.sample_quality:FID",
    "Fréchet distance of samples and test images in a network's features; lenet and 10,000 samples",
    "Heusel et al. 2017, arXiv 1706.08500",
)
_KID = MetricEntry.of_features(
    "kid",
    "harness.builtin.metrics.sample_quality:KID",
    "kernel distance of samples and test images in a network's features, unbiased",
    "Bińkowski et al. 2018, arXiv 1801.01401",
)


@hookimpl
def register_metrics() -> Sequence[MetricEntry]:
    """Registers the metrics of the core: likelihoods and bounds, sample quality, cost, speed."""
    entries = [MetricEntry(name, f"harness.builtin.metrics.{target}", *words) for name, target, *words in _ENTRIES]
    return [*entries, replace(_FID, pattern=f"{_FID.pattern}{_REFERENCE}", usage=f"{_FID.usage}[-to-FILE]"), _KID]
