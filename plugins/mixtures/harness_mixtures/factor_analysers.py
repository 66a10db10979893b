"""A mixture of factor analysers on dequantized pixels, by EM (Ghahramani & Hinton 1996, CRG-TR-96-1)."""

from __future__ import annotations

import math
from typing import ClassVar

import torch
from torch import Tensor, nn

from harness import Dataset, ImageSpec, Trainer, mean_over
from harness_layers.checks import check_positive
from harness_layers.dequantized import DequantizedDensity
from harness_mixtures.factors import FactorGaussians, clusters_among, principal_axes
from harness_mixtures.seeding import log_weights_of

_CHUNK = 2048
_PRIOR_IMAGES = 10_000
_UNIFORM_VARIANCE = 1 / 12


def em_step(
    points: Tensor, old: FactorGaussians, *, noise_variance: float, pseudocount: float, prior_variance: float
) -> tuple[FactorGaussians, float]:
    """One iteration of EM on points that each carry independent noise of a known variance.

    With noise u of mean zero and variance s in every dimension, the objective is the average over points of

        J = log sum_k exp(log weight_k + E_u log N(x + u; k)),
        E_u log N(x + u; k) = log N(x; k) - s tr(precision_k) / 2,

    as in ``mixture_of_gaussians``, and the logarithm of an inverse-gamma prior of every variance psi = scale^2,

        -pseudocount / 2 (log psi + prior_variance / psi).

    With the responsibilities, weights and means are maximised; then loadings and variances by one iteration of EM for a
    factor analyser whose sample covariance C = S + s I is about the new mean, of which C beta^T, beta = E[factors | x]
    as a matrix, and the diagonal are all that is needed. So the sum of both never falls.

    Args:
        points: (N, D) uint8 or float.
        old: where to start, float64.
        noise_variance: s.
        pseudocount: images' worth of ``prior_variance`` in each variance; 0 for maximum likelihood.
        prior_variance: in squared levels.

    Returns:
        The new Gaussians, and J of the *old* ones, in nats a point; no prior is in it.
    """
    (num_components, dimensions, factors), (whitened, cholesky) = old.loadings.shape, old.whitened()
    precision = old.scale.square().reciprocal()
    penalty = 0.5 * noise_variance * (precision.sum(1) - whitened.square().sum((1, 2)))
    centre = old.mean.mean(0)
    total, counts = 0.0, torch.zeros_like(old.log_weights)
    sums, squares, cross = torch.zeros_like(old.mean), torch.zeros_like(old.mean), torch.zeros_like(old.loadings)
    sums_projected = torch.zeros_like(cross[:, 0])
    for chunk in torch.split(points, _CHUNK):
        values = chunk.to(old.mean)
        log_joint, projected = old.log_joint(values)
        log_joint = log_joint - penalty
        total += log_joint.logsumexp(1).sum().item()
        shares = log_joint.softmax(1)  # (B, K)
        weighted = shares[:, :, None] * projected  # (B, K, Q)
        x = values - centre
        counts += shares.sum(0)
        sums += shares.T @ x
        squares += shares.T @ x.square()
        sums_projected += weighted.sum(0)
        cross += (x.T @ weighted.flatten(1)).view(dimensions, num_components, factors).transpose(0, 1)
    alive = counts > 1e-8
    sizes = counts.clamp_min(1e-8)[:, None]
    mean = sums / sizes
    # S W and C beta^T, where beta^T = W L^-1; the factors' covariance given a point is (L L^T)^-1.
    covariance_whitened = (cross - mean[:, :, None] * sums_projected[:, None]) / sizes[:, :, None]
    inverse = torch.linalg.inv(cholesky)
    beta = whitened @ inverse  # (K, D, Q): its transpose
    product = covariance_whitened @ inverse + noise_variance * beta
    loadings = torch.linalg.solve(inverse.mT @ inverse + beta.mT @ product, product, left=False)
    residual = (squares / sizes - mean.square() + noise_variance) - (loadings * product).sum(2)
    variance = (sizes * residual + pseudocount * prior_variance) / (sizes + pseudocount)
    scale = variance.clamp_min(noise_variance).sqrt()
    new = FactorGaussians(
        log_weights_of(counts),
        torch.where(alive[:, None], mean + centre, old.mean),
        torch.where(alive[:, None, None], loadings, old.loadings),
        torch.where(alive[:, None], scale, old.scale),
    )
    return new, total / len(points)


class MixtureOfFactorAnalysers(DequantizedDensity):
    """K Gaussians on uniformly dequantized pixels, whose covariances are of low rank but for a diagonal.

    With u uniform on [0, 1)^D and the entries of x counted in levels,

        log w = log sum_k weight_k N(x + u; mean_k, loadings_k loadings_k^T + diag(psi_k)) - log q(u),    q(u) = 1.

    So K (Q + 2) D numbers stand in place of the K D^2 of full covariances. A step is one iteration of EM on the whole
    training split (Ghahramani & Hinton 1996), see ``em_step``; it starts from the principal axes of clusters around
    k-means++ seeds. The noise enters by its moments, mean 1/2 and variance 1/12, and no psi falls below 1/12. Each
    component has its own psi, which the paper's share. Pixels that are constant within a component would have it pay
    without bound for the first ink, so that a prior adds ``pseudocount`` images of average variance to every psi. The
    best iteration on the validation split is kept. The parameters are found, and densities computed, in float64.

    What is bounded is said in ``DequantizedDensity``.

    Args:
        spec: the sample space.
        components: K, the number of factor analysers.
        factors: Q of each; at most D are taken.
        pseudocount: images' worth of the pixels' average variance, added to every psi of every component.

    Raises:
        ValueError: a hyperparameter is not positive.
    """

    default_budget: ClassVar[str] = "50 epochs"

    def __init__(self, spec: ImageSpec, *, components: int = 30, factors: int = 10, pseudocount: float = 0.03) -> None:
        super().__init__(spec)
        check_positive(components=components, factors=factors, pseudocount=pseudocount)
        self.pseudocount = pseudocount
        dimensions = spec.num_dimensions
        # Before fit: every component has the mean and variances of uniform pixels.
        scale = torch.full((components, dimensions), spec.levels / math.sqrt(12))
        loadings = torch.zeros(components, dimensions, min(factors, dimensions))
        # Normalised where they are used, so that rounding to the parameters' precision costs no probability.
        self.weight_logits = nn.Parameter(torch.zeros(components), requires_grad=False)
        self.mean = nn.Parameter(torch.full((components, dimensions), spec.levels / 2), requires_grad=False)
        self.loadings = nn.Parameter(loadings, requires_grad=False)
        self.scale = nn.Parameter(scale, requires_grad=False)

    @torch.no_grad()
    def fit(self, data: Dataset, trainer: Trainer) -> None:
        """Runs EM until the budget is spent."""
        prior_variance = self._start(data.train.draw(0).images)
        trainer.validate(lambda split: -mean_over(split, self.elbo, batch_size=2000), every="1 epoch")
        for batch in trainer.batches(data.train, batch_size=len(data.train)):
            old = self._gaussians()
            new, objective = em_step(
                batch.images.flatten(1) + 0.5,
                old,
                noise_variance=_UNIFORM_VARIANCE,
                pseudocount=self.pseudocount,
                prior_variance=prior_variance,
            )
            self._keep(new)
            trainer.log(loss=-objective)

    def _start(self, images: Tensor) -> float:
        """Sets the parameters that EM starts from, and returns the variance of the prior."""
        clusters = clusters_among(images, len(self.mean), self.device)
        # Of the same images whenever a training is resumed.
        pooled = images[:_PRIOR_IMAGES].flatten(1).double().var(0, correction=0)
        prior_variance = pooled.mean().item() + _UNIFORM_VARIANCE
        sizes, means, loadings, scales = [], [], [], []
        for cluster in clusters:
            mean = cluster.mean(0)
            axes, variances = principal_axes(cluster - mean, self.loadings.shape[2])
            low_rank = axes * variances.sqrt()
            residual = (cluster.var(0, correction=0) - low_rank.square().sum(1)).clamp_min(0) + _UNIFORM_VARIANCE
            total = len(cluster) * residual + self.pseudocount * prior_variance
            sizes.append(float(len(cluster)))
            means.append(mean + 0.5)
            loadings.append(low_rank)
            scales.append((total / (len(cluster) + self.pseudocount)).sqrt())
        weights = log_weights_of(torch.tensor(sizes, dtype=torch.float64))
        self._keep(FactorGaussians(weights, torch.stack(means), torch.stack(loadings), torch.stack(scales)))
        return prior_variance

    def _gaussians(self) -> FactorGaussians:
        weights = self.weight_logits.double().log_softmax(0)
        return FactorGaussians(weights, self.mean.double(), self.loadings.double(), self.scale.double())

    def _keep(self, gaussians: FactorGaussians) -> None:
        self.weight_logits.copy_(gaussians.log_weights)
        self.mean.copy_(gaussians.mean)
        self.loadings.copy_(gaussians.loadings)
        self.scale.copy_(gaussians.scale)

    def log_density(self, points: Tensor) -> Tensor:
        """Maps (M, D) float64, in levels, to (M,) nats."""
        return self._gaussians().log_joint(points)[0].logsumexp(1)

    @torch.no_grad()
    def sample(self, num_samples: int) -> Tensor:
        """Returns (num_samples, C, H, W) uint8: draws of the mixture, rounded down and clamped to the levels."""
        return self.to_images(self._gaussians().draw(num_samples))
