"""A mixture of Gaussians on dequantized pixels, by expectation maximisation (Dempster, Laird & Rubin 1977)."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Literal, get_args

import torch
from torch import Tensor, nn

from harness import Dataset, ImageSpec, Trainer, Unsupported, mean_over
from harness_layers.checks import check_choice, check_positive
from harness_layers.dequantized import DequantizedDensity
from harness_mixtures.seeding import log_weights_of, nearest_seed, seeds_among

Covariance = Literal["diagonal", "full"]

_CHUNK = 4096
_MAX_COVARIANCE_ENTRIES = 2**28
_UNIFORM_VARIANCE = 1 / 12


@dataclass(frozen=True)
class Components:
    """K Gaussians over D dimensions with their weights.

    Attributes:
        log_weights: (K,) nats, of weights that sum to one.
        mean: (K, D).
        scale: standard deviations (K, D), or lower Cholesky factors of full covariances (K, D, D).
    """

    log_weights: Tensor
    mean: Tensor
    scale: Tensor

    def log_joint(self, points: Tensor) -> Tensor:
        """Maps (M, D) to (M, K) nats: log weight + log density."""
        constant = 0.5 * self.mean.shape[1] * math.log(2 * math.pi)
        if self.scale.ndim == 2:
            precision = self.scale.square().reciprocal()  # (K, D)
            # Expanded, (x - m)^2 needs no (M, K, D) array; centred, the expansion loses no digits.
            centre = self.mean.mean(0)
            x, m = points - centre, self.mean - centre
            squared = x.square() @ precision.T - 2 * x @ (precision * m).T + (precision * m.square()).sum(1)
            log_density = -0.5 * squared - self.scale.log().sum(1)  # (M, K)
        else:
            whitened = [
                torch.linalg.solve_triangular(cholesky, (points - mean).T, upper=False).square().sum(0)
                for mean, cholesky in zip(self.mean, self.scale, strict=True)
            ]
            log_det = self.scale.diagonal(dim1=1, dim2=2).log().sum(1)  # (K,)
            log_density = -0.5 * torch.stack(whitened, dim=1) - log_det
        return log_density - constant + self.log_weights

    def precision_trace(self) -> Tensor:
        """Returns (K,): the traces of the inverse covariances."""
        if self.scale.ndim == 2:
            return self.scale.square().reciprocal().sum(1)
        identity = torch.eye(self.scale.shape[-1], dtype=self.scale.dtype, device=self.scale.device)
        inverses = [torch.linalg.solve_triangular(cholesky, identity, upper=False) for cholesky in self.scale]
        return torch.stack([inverse.square().sum() for inverse in inverses])


def maximise(points: Tensor, responsibilities: Callable[[Tensor], Tensor], old: Components, *,
             noise_variance: float) -> Components:  # fmt: skip
    """The M step: weighted moments, for points that each carry independent noise of a known variance in all dimensions.

    Args:
        points: (N, D) uint8 or float: the noise's mean is part of them, or is added by the caller.
        responsibilities: maps (B, D) float64 points to (B, K), rows that sum to one; called chunk by chunk, in order.
        old: what a component keeps that no point belongs to any more; its type and device are the result's.
        noise_variance: added to every variance.

    Returns:
        The components that maximise the expected complete log-likelihood.
    """
    centre = old.mean.mean(0)
    counts, totals, squares = torch.zeros_like(old.log_weights), torch.zeros_like(old.mean), torch.zeros_like(old.scale)
    for start in range(0, len(points), _CHUNK):
        values = points[start : start + _CHUNK].to(old.mean)
        shares = responsibilities(values)  # (B, K)
        x = values - centre
        counts += shares.sum(0)
        totals += shares.T @ x
        if squares.ndim == 2:
            squares += shares.T @ x.square()
        else:
            for square, share in zip(squares, shares.T, strict=True):
                square += (share[:, None] * x).T @ x
    alive = counts > 1e-8
    safe = torch.where(alive, counts, torch.ones_like(counts))
    mean = totals / safe[:, None]
    if squares.ndim == 2:
        variances = (squares / safe[:, None] - mean.square()).clamp_min(0) + noise_variance
        scale = torch.where(alive[:, None], variances, torch.ones_like(variances)).sqrt()
        scale = torch.where(alive[:, None], scale, old.scale)
    else:
        scale = old.scale.clone()
        for k in alive.nonzero().flatten().tolist():
            covariance = squares[k] / counts[k] - mean[k].outer(mean[k])
            covariance.diagonal().add_(noise_variance)
            scale[k] = torch.linalg.cholesky(covariance)
    mean = torch.where(alive[:, None], mean + centre, old.mean)
    return Components(log_weights_of(counts), mean, scale)


def em_step(points: Tensor, components: Components, *, noise_variance: float) -> tuple[Components, float]:
    """One iteration of EM on points that each carry independent noise of a known variance.

    With noise u of mean zero and variance s in every dimension, the objective is the average over points of

        J = log sum_k exp(log weight_k + E_u log N(x + u; k)),
        E_u log N(x + u; k) = log N(x; k) - s tr(precision_k) / 2,

    which is at most E_u log sum_k weight_k N(x + u; k) by Jensen's inequality, and is the log-likelihood for s = 0.
    Each iteration is a coordinate ascent of it, so it never falls.

    Args:
        points: (N, D) uint8 or float.
        components: where to start, float64.
        noise_variance: s.

    Returns:
        The new components, and J of the *old* ones, in nats a point.
    """
    penalty = 0.5 * noise_variance * components.precision_trace()
    total = 0.0

    def responsibilities(values: Tensor) -> Tensor:
        nonlocal total
        log_joint = components.log_joint(values) - penalty
        total += log_joint.logsumexp(1).sum().item()
        return log_joint.softmax(1)

    new = maximise(points, responsibilities, components, noise_variance=noise_variance)
    return new, total / len(points)


class MixtureOfGaussians(DequantizedDensity):
    """K Gaussians on uniformly dequantized pixels, with diagonal or full covariances.

    With u uniform on [0, 1)^D and the entries of x counted in levels,

        log w = log sum_k weight_k N(x + u; mean_k, covariance_k) - log q(u),    q(u) = 1.

    A step is one iteration of EM on the whole training split (Dempster, Laird & Rubin 1977) from k-means++ seeds. The
    noise enters by its moments, mean 1/2 and variance 1/12, not by draws: see ``em_step`` for what is maximised. So no
    variance falls below 1/12. The best iteration on the validation split is kept. The parameters are found, and
    densities computed, in float64.

    What is bounded is said in ``DequantizedDensity``.

    Args:
        spec: the sample space.
        components: K, the number of Gaussians.
        covariance: ``"diagonal"`` or ``"full"``.

    Raises:
        ValueError: ``components`` is below 1, or ``covariance`` is another word.
        Unsupported: full covariances with more than 2**28 entries in all.
    """

    default_budget: ClassVar[str] = "50 epochs"

    def __init__(self, spec: ImageSpec, *, components: int = 10, covariance: Covariance = "diagonal") -> None:
        super().__init__(spec)
        dimensions = spec.num_dimensions
        check_positive(components=components)
        check_choice(get_args(Covariance), covariance=covariance)
        if covariance == "full" and components * dimensions**2 > _MAX_COVARIANCE_ENTRIES:
            raise Unsupported(
                f"{components} full covariances of {dimensions} dimensions; "
                f"at most {_MAX_COVARIANCE_ENTRIES} entries in all are supported"
            )
        # Before fit: every component has the mean and variances of uniform pixels.
        scale = torch.full((components, dimensions), spec.levels / math.sqrt(12))
        # Normalised where they are used, so that rounding to the parameters' precision costs no probability.
        self.weight_logits = nn.Parameter(torch.zeros(components), requires_grad=False)
        self.mean = nn.Parameter(torch.full((components, dimensions), spec.levels / 2), requires_grad=False)
        self.scale = nn.Parameter(scale if covariance == "diagonal" else scale.diag_embed(), requires_grad=False)

    @torch.no_grad()
    def fit(self, data: Dataset, trainer: Trainer) -> None:
        """Runs EM until the budget is spent."""
        self._start(data.train.draw(0).images)
        trainer.validate(lambda split: -mean_over(split, self.elbo, batch_size=2000), every="1 epoch")
        for batch in trainer.batches(data.train, batch_size=len(data.train)):
            points = batch.images.flatten(1)
            new, objective = em_step(points, self._components(offset=0.5), noise_variance=_UNIFORM_VARIANCE)
            self._keep(new, offset=0.5)
            trainer.log(loss=-objective)

    def _start(self, images: Tensor) -> None:
        seeds = seeds_among(images, len(self.mean), self.device)

        def nearest(values: Tensor) -> Tensor:
            return torch.nn.functional.one_hot(nearest_seed(values, seeds), len(seeds)).to(values)

        unfitted = self._components(offset=0.5)
        self._keep(maximise(images.flatten(1), nearest, unfitted, noise_variance=_UNIFORM_VARIANCE), offset=0.5)

    def _components(self, *, offset: float = 0.0) -> Components:
        # EM sees integers, whose noise has mean zero; the model's means are those of dequantized pixels, 1/2 higher.
        weights, mean = self.weight_logits.double().log_softmax(0), self.mean.double() - offset
        return Components(weights, mean, self.scale.double())

    def _keep(self, components: Components, *, offset: float) -> None:
        self.weight_logits.copy_(components.log_weights)
        self.mean.copy_(components.mean + offset)
        self.scale.copy_(components.scale)

    def log_density(self, points: Tensor) -> Tensor:
        """Maps (M, D) float64, in levels, to (M,) nats."""
        return self._components().log_joint(points).logsumexp(1)

    @torch.no_grad()
    def sample(self, num_samples: int) -> Tensor:
        """Returns (num_samples, C, H, W) uint8: draws of the mixture, rounded down and clamped to the levels."""
        points = torch.randn(num_samples, self.spec.num_dimensions, dtype=self.dtype, device=self.device)
        if num_samples > 0:
            component = torch.multinomial(self.weight_logits.softmax(0), num_samples, replacement=True)
            if self.scale.ndim == 2:
                points = self.mean[component] + self.scale[component] * points
            else:
                for k in sorted(set(component.tolist())):
                    rows = component == k
                    points[rows] = self.mean[k] + points[rows] @ self.scale[k].T
        return self.to_images(points)
