"""Flow matching (Lipman, Chen, Ben-Hamu, Nickel & Le 2023, arXiv 2210.02747), with straight conditional paths."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from functools import partial
from itertools import pairwise
from typing import ClassVar

import torch
from torch import Tensor, nn

from harness import Dataset, DegenerateSamples, ImageSpec, Model, Trainer, mean_over
from harness_diffusion.averaged import descend_averaged, spread_times
from harness_diffusion.unet import ImageNetwork, chunks
from harness_layers.checks import check_positive, check_share
from harness_layers.descent import Descent
from harness_layers.posteriors import standard_noise, standard_normal_log_prob
from harness_layers.schedules import Schedule

Slope = Callable[[Tensor, Tensor], Tensor]
Solver = Callable[[Slope, Tensor, Tensor, Tensor], Tensor]


class FlowMatching(Model):
    r"""A velocity that carries Gaussian noise to images: an implicit model, drawn from by an ordinary equation.

    .. math:: z_t = (1 - t) noise + t f, \quad \min_v E |v(z_t, t) - (f - noise)|^2, \quad dz/dt = v(z, t)

    f = 2 (x + u) / levels - 1 with u uniform in [0, 1), and an image is f rounded down to a level. Its density, by the
    change of variables along the path, is known but for a trace and the solver's steps: ``estimate_log_prob`` is
    neither a likelihood nor a bound.

    Args:
        spec: any sample space.
        num_steps: of Heun's method from noise to an image, two evaluations of the network each.
        width, blocks: see ``ImageNetwork``.
        learning_rate, warm_up_steps, schedule, batch_size, max_gradient_norm, validate_every: see ``Descent``.
        averaging: the decay of the average of the weights that images are drawn by; 0 takes the last ones.

    Raises:
        ValueError: a hyperparameter out of its range.
    """

    default_budget: ClassVar[str] = "20 epochs"

    def __init__(self, spec: ImageSpec, *, num_steps: int = 25, width: int = 32, blocks: int = 1,
                 learning_rate: float = 1e-3, warm_up_steps: int = 200, schedule: Schedule = "cosine",
                 batch_size: int = 128, max_gradient_norm: float | None = None, averaging: float = 0.999,
                 validate_every: str = "1 epoch") -> None:  # fmt: skip
        super().__init__(spec)
        check_positive(num_steps=num_steps, width=width, blocks=blocks)
        check_share(averaging=averaging)
        self.num_steps, self.averaging = num_steps, averaging
        self.descent = Descent(
            learning_rate=learning_rate, schedule=schedule, warm_up_steps=warm_up_steps, batch_size=batch_size,
            max_gradient_norm=max_gradient_norm, validate_every=validate_every,
        )  # fmt: skip
        self.network = ImageNetwork(spec, features=1, outputs=1, width=width, blocks=blocks)
        self.average = copy.deepcopy(self.network).requires_grad_(requires_grad=False) if averaging > 0 else None

    @property
    def weights(self) -> nn.Module:
        """The weights that images are drawn by."""
        return self.network if self.average is None else self.average

    @property
    def sampling_depth(self) -> int:
        """Two for each step."""
        return 2 * self.num_steps

    def velocity(self, z: Tensor, time: Tensor) -> Tensor:
        """Maps z (N, C, H, W) and times in [0, 1], (N,) or (1,), to dz/dt (N, C, H, W)."""
        return _velocity(self.weights, z, time)

    def points(self, images: Tensor) -> Tensor:
        """Maps (N, C, H, W) uint8 to f (N, C, H, W) in [-1, 1), with noise of its own."""
        values = images.to(self.dtype)
        return 2 * (values + torch.rand_like(values)) / self.spec.levels - 1

    def fit(self, data: Dataset, trainer: Trainer) -> None:
        """Minimises the squared error of the velocity; the best averaged weights on the validation split are kept."""
        descend_averaged(
            self, data, trainer, self.descent, partial(self.error, self.network), network=self.network,
            average=self.average, decay=self.averaging,
            score=lambda split: mean_over(split, partial(self.error, self.weights)),
        )  # fmt: skip

    def error(self, network: nn.Module, images: Tensor) -> Tensor:
        """Maps (N, C, H, W) uint8 to (N,): the squared error of the velocity at one time for each image."""
        points, time = self.points(images), spread_times(images, self.dtype)
        noise, share = standard_noise(points.shape, points), time[:, None, None, None]
        found = _velocity(network, (1 - share) * noise + share * points, time)
        return (found - (points - noise)).square().flatten(1).sum(1)

    @torch.no_grad()
    def sample(self, num_samples: int) -> Tensor:
        """Returns (num_samples, C, H, W) uint8, by Heun's method, rounded down.

        Raises:
            DegenerateSamples: a value is not finite.
        """
        return self.solve(num_samples, heun, self.num_steps)

    @torch.no_grad()
    def solve(self, num_samples: int, solver: Solver, num_steps: int) -> Tensor:
        """Draws (num_samples, C, H, W) uint8 by ``num_steps`` equal steps of a solver."""
        times = torch.linspace(0, 1, num_steps + 1, dtype=self.dtype, device=self.device)
        drawn = []
        for size in chunks(num_samples, self.spec):
            z = torch.randn(size, *self.spec.shape, dtype=self.dtype, device=self.device)
            for start, end in pairwise(torch.split(times, 1)):
                z = solver(self.velocity, z, start, end)
            if not bool(z.isfinite().all()):
                raise DegenerateSamples(f"the flow leads to {z[~z.isfinite()][0].item()}")
            drawn.append(((z + 1) * (self.spec.levels / 2)).floor().clamp(0, self.spec.levels - 1).to(torch.uint8))
        return torch.cat(drawn)

    def estimate_log_prob(self, images: Tensor, num_steps: int) -> Tensor:
        """Maps (N, C, H, W) uint8 to (N,) nats: an estimate of log p(x + u) for one u each, neither exact nor a bound.

        log p(f) = log N(z_0; 0, I) - int_0^1 tr(dv/dz) dt, back along the path by ``num_steps`` of Heun's method, with
        the trace as s^T (dv/dz) s for one s of random signs for each image (Hutchinson 1989). Its bias falls with the
        steps; the signs and the noise u bring none of their own to its mean.
        """
        z = self.points(images)
        signs = (torch.rand_like(z) < 0.5).to(z.dtype) * 2 - 1
        traces = torch.zeros(len(z), dtype=z.dtype, device=z.device)

        def moving(state: Tensor, time: Tensor) -> Tensor:
            with torch.enable_grad():
                at = state[:, :-1].view_as(z).detach().requires_grad_()
                velocity = self.velocity(at, time)
                (product,) = torch.autograd.grad(velocity, at, signs)
            trace = (product * signs).flatten(1).sum(1, keepdim=True)
            return torch.cat([velocity.detach().flatten(1), trace], dim=1)

        state = torch.cat([z.flatten(1), traces[:, None]], dim=1)  # (N, D + 1)
        times = torch.linspace(1, 0, num_steps + 1, dtype=z.dtype, device=z.device)
        for start, end in pairwise(torch.split(times, 1)):
            state = heun(moving, state, start, end)
        density = standard_normal_log_prob(state[:, :-1]) + state[:, -1]
        return density + self.spec.num_dimensions * math.log(2 / self.spec.levels)


def euler(slope: Slope, z: Tensor, start: Tensor, end: Tensor) -> Tensor:
    """Returns z at ``end``, of z at ``start``, times (1,), by one evaluation of dz/dt."""
    return z + (end - start) * slope(z, start)


def heun(slope: Slope, z: Tensor, start: Tensor, end: Tensor) -> Tensor:
    """Returns the same by the mean of the slopes at both ends: an error of third order for each step."""
    first = slope(z, start)
    return z + (end - start) / 2 * (first + slope(z + (end - start) * first, end))


def _velocity(network: nn.Module, z: Tensor, time: Tensor) -> Tensor:
    velocity: Tensor = network(z[:, None], 20 * time - 10)[:, 0]
    return velocity
