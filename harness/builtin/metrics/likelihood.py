"""Likelihoods and their bounds: scores of single images, averaged over a split. How many latent units are used."""

import math
from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor

import harness

MAX_ELEMENTS = 2**21
MAX_ROWS = 4096
MOST_WEIGHTS = 1_000_000
ON_ALL_DRAWS = 50
ACTIVE = 1e-2


def split_protocol(evaluation: harness.Evaluation) -> dict[str, str]:
    """Returns what is to be said of a figure that is of a whole split."""
    return {
        "images": str(len(evaluation.split)),
        "split": evaluation.split_name,
        "draws": str(evaluation.split.num_draws),
        "precision": str(evaluation.model.dtype).removeprefix("torch."),
    }


def average(
    values: Tensor, evaluation: harness.Evaluation, kind: harness.ScoreKind, *, protocol: Mapping[str, str],
    details: Mapping[str, float] | None = None,
) -> harness.Score:  # fmt: skip
    """Averages (num_draws, N) float64 scores over a whole split; ``protocol`` and ``details`` are said besides.

    The standard error is that of the mean over images, sd / sqrt(N), of which random data's draws are a part: the
    details say how large a part, where there is more than one draw.
    """
    num_draws, num_images = values.shape
    per_image = values.mean(0)  # (N,)
    error = per_image.std(correction=1).item() / math.sqrt(num_images) if num_images > 1 else None
    details = dict(details or {}) | (of_draws(values) if num_draws > 1 and num_images > 1 else {})
    protocol = {**split_protocol(evaluation), "draws": str(num_draws), **protocol}
    return harness.Score(per_image.mean().item(), error, kind, per_image, protocol, details)


def of_draws(values: Tensor) -> dict[str, float]:
    """Returns how far one draw of the images moves the mean, and the share of the mean's variance that the draws are.

    ``values`` is (R, N) float64, at least two of each. Image i's score under draw r is mu + a_i + e_ri with independent
    draws of each image. The mean over R draws and N images has variance (var(a) + var(e) / R) / N, of which
    var(e) / (R N) is the draws'. With s_e^2 the variance within images and s_m^2 that of the images' means, one draw
    moves the mean by s_e / sqrt(N), and the share is s_e^2 / (R s_m^2), at most 1: the inverse of a one-way F. What is
    no more than rounding counts as zero.
    """
    scores = values.numpy()
    floor = (1e-12 * float(abs(scores).max())) ** 2
    within, between = float(scores.var(axis=0, ddof=1).mean()), float(scores.mean(axis=0).var(ddof=1))
    within, between = within if within > floor else 0.0, between if between > floor else 0.0
    share = 1.0 if between == 0 else min(1.0, within / (len(scores) * between))
    return {
        "draw_sd_of_mean": math.sqrt(within / scores.shape[1]),
        "draw_share_of_variance": share if within > 0 else 0.0,
    }


def check_possible(values: Tensor, num_dimensions: int, kind: harness.ScoreKind, name: str) -> None:
    """Raises ValueError where (num_draws, N) nats of -log p, or of upper bounds on it, prove that something is wrong.

    An integer image's log-probability is at most 0, and so is a bound in expectation: its mean is allowed six standard
    errors, and both what is rounded in float32.
    """
    slack = 1e-4 + 1e-5 * num_dimensions
    per_image = values.mean(0)  # (N,)
    if kind != "exact":
        found = -per_image.mean().item()
        error = per_image.std(correction=0).item() / math.sqrt(len(per_image))
        if found > slack + 6 * error:
            raise ValueError(f"{name} is {found:.4g} nats on average: no bound on a log-probability is above 0")
    elif (found := -per_image.min().item()) > slack:
        where = f"for image {int(per_image.argmin())}, and above 0 for {int((per_image < -slack).sum())} images"
        raise ValueError(f"{name} is {found:.4g} nats {where}: no log-probability of an integer image is above 0")


class NLL(harness.Metric):
    """The mean negative log-likelihood of the whole split, -1/N sum_n log p(x_n), in nats for each image."""

    name = "nll"
    board = "likelihood"
    header = "NLL"
    unit = "nats"
    requires: type = harness.ExactLikelihood
    kind: harness.ScoreKind = "exact"
    function = "log_prob"  # of the model

    def evaluate(self, evaluation: harness.Evaluation) -> harness.Score:
        """Scores every image of the split once for each draw; ``per_image`` is (N,) in the metric's unit."""
        values = -evaluation.per_image(getattr(evaluation.model, self.function), purpose=self.function)
        check_possible(values, evaluation.model.spec.num_dimensions, self.kind, self.function)
        if self.unit == "bits/dim":
            values = values / (evaluation.model.spec.num_dimensions * math.log(2))
        return average(values, evaluation, self.kind, protocol={} if self.kind == "exact" else {"samples": "1"})


class BitsPerDim(NLL):
    """The mean negative log-likelihood in bits for each dimension: nats / (D ln 2) with D = C H W."""

    name = "bits-per-dim"
    header = ""
    unit = "bits/dim"


class NegativeELBO(NLL):
    """The mean of -elbo(x) over the whole split, one random estimate for each image and draw, in nats."""

    name = "negative-elbo"
    board = "bounds"
    header = "Negative ELBO"
    requires = harness.VariationalBound
    kind = "upper bound"
    function = "elbo"


class BitsPerDimBound(NegativeELBO):
    """The negative ELBO in bits for each dimension: nats / (D ln 2) with D = C H W."""

    name = "bits-per-dim-bound"
    unit = "bits/dim"


class IWAE(harness.Metric):
    """The importance-weighted bound -1/N sum_n log (1/K sum_k w_nk) with E[w_nk] = p(x_n), in nats an image.

    An upper bound in expectation, which falls to the negative log-likelihood as K grows (Burda, Grosse & Salakhutdinov
    2016, arXiv 1509.00519). Exactly K weights for each image are drawn.

    ``num_samples`` is K, from 1 to ``MOST_WEIGHTS``. Random data are scored on all draws up to ``ON_ALL_DRAWS``, and
    on the first one alone beyond: what one draw moves the mean by is far less than what an image differs from the next.
    The protocol says how many. Weights x images x D of one call stay at or below ``max_elements``
    where one weight of one image allows it, weights x images at or below ``MAX_ROWS``: so memory is bounded.
    """

    board = "bounds"
    unit = "nats"
    requires = harness.ImportanceWeighted

    def __init__(self, *, num_samples: int | str, max_elements: int = MAX_ELEMENTS) -> None:
        self.num_samples, self.max_elements = int(num_samples), max_elements
        if not 1 <= self.num_samples <= MOST_WEIGHTS:
            raise ValueError(f"iwae-{num_samples}: K is from 1 to {MOST_WEIGHTS:,} importance weights an image")
        self.name, self.header = f"iwae-{self.num_samples}", f"IWAE, K = {self.num_samples}"
        self.version = "1" if self.num_samples <= ON_ALL_DRAWS else "2"  # which took all draws of random data

    def evaluate(self, evaluation: harness.Evaluation) -> harness.Score:
        """Draws K weights for every image of the split and draw; ``per_image`` is (N,) nats.

        The detail ``effective_sample_size`` is the mean over images of (sum w)^2 / sum w^2, from 1 to K: where it is
        small, a few weights carry the figure, and the bound may be loose.
        """
        model, sizes = evaluation.model, list[Tensor]()
        assert isinstance(model, harness.ImportanceWeighted)
        rows = max(1, min(MAX_ROWS, self.max_elements // model.spec.num_dimensions))
        chunk = min(self.num_samples, rows)

        def score(images: Tensor) -> Tensor:
            bound, effective = log_mean_weight(model, images, self.num_samples, chunk=chunk)
            sizes.append(effective)
            return -bound

        batch_size = max(1, min(evaluation.batch_size, rows // chunk))
        num_draws = None if self.num_samples <= ON_ALL_DRAWS else 1
        values = evaluation.per_image(score, purpose=self.name, batch_size=batch_size, num_draws=num_draws)
        check_possible(values, model.spec.num_dimensions, "upper bound", "log_importance_weights")
        details = {"effective_sample_size": torch.cat(sizes).mean().item()}
        return average(values, evaluation, "upper bound", protocol={"K": str(self.num_samples)}, details=details)


class BitsPerDimIWAE(IWAE):
    """The importance-weighted bound in bits for each dimension: nats / (D ln 2) with D = C H W.

    Of a flow, K draws of the dequantization noise stand under the logarithm (Ho et al. 2019, arXiv 1902.00275).
    """

    unit = "bits/dim"

    def __init__(self, *, num_samples: int | str, max_elements: int = MAX_ELEMENTS) -> None:
        super().__init__(num_samples=num_samples, max_elements=max_elements)
        self.name = f"bits-per-dim-{self.name}"

    def evaluate(self, evaluation: harness.Evaluation) -> harness.Score:
        """Draws K weights for every image of the split and draw; ``per_image`` is (N,) bits a dimension."""
        score, bit = super().evaluate(evaluation), evaluation.model.spec.num_dimensions * math.log(2)
        assert isinstance(score.per_image, Tensor)
        error = None if score.standard_error is None else score.standard_error / bit
        details = {name: value / bit if name == "draw_sd_of_mean" else value for name, value in score.details.items()}
        return replace(
            score, value=score.value / bit, standard_error=error, per_image=score.per_image / bit, details=details
        )


def log_mean_weight(
    model: harness.ImportanceWeighted, images: Tensor, num_samples: int, *, chunk: int
) -> tuple[Tensor, Tensor]:
    """Returns log (1/K sum_k w_k) and the effective sample size (sum w)^2 / sum w^2, both (N,) float64 on the CPU.

    ``chunk`` of the K weights of an image are drawn at a time. A weight may be zero; NaN and infinity are not finite.
    """
    # on the CPU: some accelerators have no float64
    first = torch.full((len(images),), -math.inf, dtype=torch.float64)
    second = first.clone()
    for start in range(0, num_samples, chunk):
        wanted = (min(chunk, num_samples - start), len(images))
        weights = model.log_importance_weights(images, wanted[0])
        weights = harness.Evaluation.checked(weights, wanted, "log_importance_weights")
        if bool((weights.isnan() | weights.isposinf()).any()):
            raise harness.NonFiniteScore(f"{type(model).__name__}.log_importance_weights returned NaN or infinity")
        first = torch.logaddexp(first, weights.logsumexp(0))
        second = torch.logaddexp(second, (2 * weights).logsumexp(0))
    return first - math.log(num_samples), (2 * first - second).exp()


class EntropyGap(harness.Metric):
    """The mean over the split of log p_true(x) - log p_model(x), in nats an image.

    Its expectation is the Kullback-Leibler divergence from the model to the truth. The entropy of the images at hand
    cancels, so the error is much smaller than that of the negative log-likelihood. The model's part is exact where that
    is possible, else the bound of 500 importance samples, else the ELBO: then the gap is an upper bound.
    """

    name = "entropy-gap"
    board = "likelihood"
    header = "Gap to the entropy"
    unit = "nats"

    def evaluate(self, evaluation: harness.Evaluation) -> harness.Score:
        """Scores every image of the split; ``per_image`` is (N,) nats.

        The details are ``true_nll``, the mean of -log p_true over the split; ``entropy``, its expectation, where that
        is known exactly; and ``z``, the gap in units of its standard error.
        """
        data, model = evaluation.data, evaluation.model
        if not isinstance(data, harness.KnownDataset):
            raise harness.Unsupported(f"the entropy of {data.name} is not known")
        choices: tuple[harness.Metric, ...] = (NLL(), IWAE(num_samples=500), NegativeELBO())
        metric = next((metric for metric in choices if isinstance(model, metric.requires)), None)
        if metric is None:
            raise harness.Unsupported(f"{type(model).__name__} has no likelihood")
        score = metric.evaluate(evaluation)
        assert isinstance(score.per_image, Tensor)
        images = evaluation.split.images
        truth = -evaluation.checked(data.log_prob(images), (len(images),), f"{data.name}: log_prob")  # (N,)
        details = {"true_nll": truth.mean().item()} | ({} if data.entropy is None else {"entropy": data.entropy})
        protocol = {**score.protocol, "likelihood": metric.name}
        gap = average((score.per_image - truth)[None], evaluation, score.kind, protocol=protocol, details=details)
        if gap.standard_error:
            details["z"] = gap.value / gap.standard_error
        return replace(gap, details=details)


class ActiveUnits(harness.Metric):
    """The number of latent units u with Cov_x(E_q[u | x]) > 1e-2 over the split.

    Burda, Grosse & Salakhutdinov 2016, arXiv 1509.00519. The covariance is the variance over images (and draws) of the
    posterior mean. The details count each stochastic layer, layer 1 being the top, where the model says its
    ``latent_sizes``.
    """

    name = "active-units"
    board = "bounds"
    unit = "units"
    higher_is_better = True
    requires = harness.Inference

    def evaluate(self, evaluation: harness.Evaluation) -> harness.Score:
        """Encodes the whole split, in evaluation-sized batches."""
        model, means = evaluation.model, list[Tensor]()
        assert isinstance(model, harness.Inference)

        def encode(images: Tensor) -> Tensor:
            latents = model.encode(images)
            width = latents.shape[1] if isinstance(latents, Tensor) and latents.dim() == 2 else -1
            means.append(evaluation.checked(latents, (len(images), width), "encode"))  # (B, D)
            return means[-1].sum(1)

        try:
            evaluation.per_image(encode, purpose=self.name)
        except harness.NonFiniteScore as error:
            raise harness.NonFiniteScore(f"a posterior mean is not finite: {error}") from error
        active = torch.cat(means).var(0, correction=0) > ACTIVE  # (D,)
        details = {"units": float(len(active)), **_per_layer(model, active)}
        protocol = {**split_protocol(evaluation), "threshold": f"{ACTIVE:g}"}
        return harness.Score(float(active.sum()), None, "estimate", None, protocol, details)


def _per_layer(model: harness.Inference, active: Tensor) -> dict[str, float]:
    try:
        sizes = model.latent_sizes
    except NotImplementedError:
        return {}
    if sum(sizes) != len(active):
        raise ValueError(f"latent_sizes {sizes} add up to {sum(sizes)}, encode returns {len(active)} units")
    counts: dict[str, float] = {}
    for layer, units in enumerate(torch.split(active, list(sizes)), start=1):
        counts |= {f"layer_{layer}_active": float(units.sum()), f"layer_{layer}_units": float(len(units))}
    return counts
