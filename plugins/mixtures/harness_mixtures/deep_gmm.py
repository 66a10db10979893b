"""A deep Gaussian mixture model on dequantized pixels (van den Oord & Schrauwen 2014, NIPS 27)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn

from harness import Dataset, ImageSpec, Split, Trainer, mean_over
from harness_layers.checks import check_at_least, check_positive, check_widths
from harness_layers.dequantized import DequantizedDensity
from harness_layers.descent import Descent, descend
from harness_mixtures.factors import clusters_among, principal_axes

_CHUNK = 32


class AffineMaps(nn.Module):
    """K affine maps of one layer, in direction data -> latents; one is taken, with probability weight_k.

        t = (x - centre_k) exp(log_scale_k) + shift_k,    map_k(x) = t + U_k V_k^T t,
        log |det| = sum log_scale_k + log |det(I + V_k^T U_k)|,    t = y - U_k (I + V_k^T U_k)^-1 V_k^T y.

    The determinant is that of a small matrix (matrix determinant lemma), and so is the inverse (Woodbury). All is
    computed in the type of the points.

    Args:
        maps: K.
        dimensions: D.
        rank: of U_k V_k^T.
    """

    def __init__(self, maps: int, dimensions: int, rank: int) -> None:
        super().__init__()
        self.weight_logits = nn.Parameter(torch.zeros(maps))
        self.centre = nn.Parameter(torch.zeros(maps, dimensions), requires_grad=False)
        self.log_scale = nn.Parameter(torch.zeros(maps, dimensions))
        self.shift = nn.Parameter(0.1 * torch.randn(maps, dimensions))
        self.left = nn.Parameter(torch.randn(maps, dimensions, rank) * 0.1 / math.sqrt(dimensions))  # U
        self.right = nn.Parameter(torch.randn(maps, dimensions, rank) / math.sqrt(dimensions))  # V

    def forward(self, points: Tensor) -> Tensor:
        """Maps (M, D) to what each map makes of it, (M, K, D)."""
        t = (points[:, None] - self.centre.to(points)) * self.log_scale.to(points).exp() + self.shift.to(points)
        along = torch.einsum("mkd,kdr->mkr", t, self.right.to(points))
        return t + torch.einsum("mkr,kdr->mkd", along, self.left.to(points))

    def squared_norms(self, points: Tensor) -> Tensor:
        """Maps (M, D) to ``forward(points).square().sum(2)``, (M, K), by products of matrices alone."""
        middle = self.centre.to(points).mean(0)  # the expansion of a square loses fewer digits about it
        x, scale = points - middle, self.log_scale.to(points).exp()
        offset = (self.centre.to(points) - middle) * scale - self.shift.to(points)  # t = x scale - offset
        left, right = self.left.to(points), self.right.to(points)
        lengths = x.square() @ scale.square().T - 2 * x @ (scale * offset).T + offset.square().sum(1)
        both = torch.cat([left, right], 2)  # (K, D, 2 rank)
        columns = (both * scale[:, :, None]).transpose(0, 1).flatten(1)  # (D, K 2 rank)
        along = (x @ columns).view(len(x), *both.shape[::2]) - torch.einsum("kd,kdr->kr", offset, both)
        on_left, on_right = along.chunk(2, dim=2)  # U^T t and V^T t, (M, K, rank)
        mixed = on_right * (2 * on_left + torch.einsum("mkr,krs->mks", on_right, left.mT @ left))
        return lengths + mixed.sum(2)

    def log_joint(self, dtype: torch.dtype) -> Tensor:
        """Returns (K,): log weight + log |det| of each map."""
        small: Tensor = torch.linalg.slogdet(self._small(dtype)).logabsdet
        return self.weight_logits.to(dtype).log_softmax(0) + self.log_scale.to(dtype).sum(1) + small

    def inverse(self, latents: Tensor, chosen: Tensor) -> Tensor:
        """Maps (M, D) to (M, D), each by the inverse of the map in ``chosen``, (M,) int64."""
        points, small = torch.empty_like(latents), self._small(latents.dtype)
        for k in sorted(set(chosen.tolist())):
            rows = chosen == k
            left, right = self.left[k].to(latents), self.right[k].to(latents)
            t = latents[rows] - torch.linalg.solve(small[k], (latents[rows] @ right).T).T @ left.T
            scale = self.log_scale[k].to(latents).exp()
            points[rows] = (t - self.shift[k].to(latents)) / scale + self.centre[k].to(latents)
        return points

    def _small(self, dtype: torch.dtype) -> Tensor:
        left, right = self.left.to(dtype), self.right.to(dtype)
        return torch.eye(left.shape[2], dtype=dtype, device=left.device) + right.mT @ left  # (K, rank, rank)


class DeepGMM(DequantizedDensity):
    """A mixture of Gaussians that share their parts: each is a path through layers of affine maps.

    A latent z ~ N(0, I) goes through one affine map of each layer, drawn by the layer's weights. With layers of
    K_1, ..., K_L maps there are prod K_l paths, and the density on pixels x + u, u uniform on [0, 1)^D, is

        log w = log sum_paths prod_l weight_l N(x + u; mean_path, covariance_path) - log q(u),    q(u) = 1,

    over *all* paths, exactly. (The best path alone, which the paper's hard EM maximises, is a lower bound of it.) Maps
    are of full rank: diagonal but for a matrix of low rank, in the direction from data to latents, see ``AffineMaps``;
    so log-determinants are exact and cheap at any size. One layer is a mixture of Gaussians.

    Where the paper alternates hard EM with L-BFGS, all parameters follow the gradient of log w by Adam, with noise u
    drawn anew in every step, and with more noise, of standard deviation ``jitter``, for the sake of pixels that are
    constant among the images of a map (Bishop 1995, Neural Computation 7: training with noise is regularisation). The
    lowest layer starts at means, variances and principal axes of clusters, those above near the identity. The weights
    that are best on the validation split are kept. Densities are computed in float64.

    What is bounded is said in ``DequantizedDensity``.

    Args:
        spec: the sample space.
        maps: K_l of each layer, from the pixels up.
        rank: of what a map adds to a diagonal one; at most D is taken.
        jitter: standard deviation, in levels, of noise that is added to the training images besides.
        learning_rate: of Adam, at its highest; it falls along a cosine.
        batch_size: images in each step.

    Raises:
        ValueError: a number is not positive, ``jitter`` is negative, or there is no layer.
    """

    default_budget: ClassVar[str] = "20 epochs"

    def __init__(
        self,
        spec: ImageSpec,
        *,
        maps: Sequence[int] = (5, 5, 5),
        rank: int = 16,
        jitter: float = 0.4,
        learning_rate: float = 5e-3,
        batch_size: int = 100,
    ) -> None:
        super().__init__(spec)
        check_widths(maps=maps)
        check_positive(rank=rank)
        check_at_least(0, jitter=jitter)
        self.descent = Descent(
            learning_rate=learning_rate,
            batch_size=batch_size,
            warm_up_steps=100,
            max_gradient_norm=200,  # an image with ink where there never was any has a gradient of thousands
            part_size=_CHUNK,
        )
        self.jitter = jitter
        dimensions = spec.num_dimensions
        self.layers = nn.ModuleList(AffineMaps(number, dimensions, min(rank, dimensions)) for number in maps)
        lowest = self._layers()[0]  # before fit: about the mean and variances of uniform pixels
        nn.init.constant_(lowest.centre, spec.levels / 2)
        nn.init.constant_(lowest.log_scale, -math.log(spec.levels / math.sqrt(12)))

    def fit(self, data: Dataset, trainer: Trainer) -> None:
        """Descends until the budget is spent."""
        self._start(data.train.draw(0).images)

        def loss(batch: Split) -> Tensor:
            points = batch.images.flatten(1).to(self.dtype)
            noise = torch.rand_like(points) + self.jitter * torch.randn_like(points)
            return -self._log_density(points + noise)

        descend(self, data, trainer, self.descent, loss, score=lambda split: -mean_over(split, self.elbo))

    @torch.no_grad()
    def _start(self, images: Tensor) -> None:
        """Sets the lowest layer so that its maps whiten a cluster each."""
        lowest = self._layers()[0]
        for k, cluster in enumerate(clusters_among(images, len(lowest.centre), self.device)):
            mean = cluster.mean(0)
            deviation = (cluster.var(0, correction=0) + 1 / 12 + self.jitter**2).sqrt()
            axes, variances = principal_axes((cluster - mean) / deviation, lowest.left.shape[2])
            lowest.centre[k] = mean + 0.5
            lowest.log_scale[k] = -deviation.log()
            lowest.left[k] = axes * (variances.clamp_min(0.1).rsqrt() - 1)
            lowest.right[k] = axes

    def log_density(self, points: Tensor) -> Tensor:
        """Maps (M, D) float64, in levels, to (M,) nats."""
        return torch.cat([self._log_density(chunk) for chunk in torch.split(points, _CHUNK)])

    def _log_density(self, points: Tensor) -> Tensor:
        """Maps (M, D), in levels, to (M,) nats: all paths at once."""
        *lower, top = self._layers()
        h = points  # (M paths, D), those of a point one after another
        log_weights = -0.5 * points.shape[1] * math.log(2 * math.pi) * torch.ones_like(points[:, 0])
        for layer in lower:
            h = layer(h).flatten(0, 1)
            log_weights = (log_weights[:, None] + layer.log_joint(points.dtype)).flatten()
        log_joint = log_weights[:, None] + top.log_joint(points.dtype) - 0.5 * top.squared_norms(h)
        return log_joint.view(len(points), -1).logsumexp(1)

    @torch.no_grad()
    def sample(self, num_samples: int) -> Tensor:
        """Returns (num_samples, C, H, W) uint8: draws of the density, rounded down and clamped to the levels."""
        points = torch.randn(num_samples, self.spec.num_dimensions, dtype=torch.float64, device=self.device)
        for layer in reversed(self._layers()):
            chances = layer.weight_logits.softmax(0).expand(num_samples, -1)
            chosen = torch.multinomial(chances, 1)[:, 0] if num_samples > 0 else points[:, 0].long()
            points = layer.inverse(points, chosen)
        return self.to_images(points)

    def _layers(self) -> list[AffineMaps]:
        return [layer for layer in self.layers if isinstance(layer, AffineMaps)]
