"""Deep Diffusion (Sohl-Dickstein, Weiss, Maheswaranathan & Ganguli 2015, arXiv 1503.03585)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar, Literal

import torch
from torch import Tensor

from harness import Dataset, ImageSpec, Split, Trainer, Unsupported, VariationalBound, mean_over
from harness_diffusion.averaged import spread_times
from harness_diffusion.binomial_kernel import BinomialKernel
from harness_diffusion.deep_kernels import Kernel
from harness_diffusion.deep_network import ReverseNetwork
from harness_diffusion.gaussian_kernel import GaussianKernel
from harness_diffusion.unet import chunks
from harness_layers.checks import check_at_least, check_choice, check_positive
from harness_layers.descent import Descent, descend
from harness_layers.schedules import Schedule


class DeepDiffusion(VariationalBound):
    """A Markov chain that turns images into noise in T steps, and a network that learns to turn back each of them.

    The bound of log p(image), exact in expectation, is

        E_q[log p(x_T) + sum_t log p(x_{t-1} | x_t) - log q(x_t | x_{t-1})]
            = ends(x_0) - sum_t E_q KL(q(x_{t-1} | x_t, x_0) || p(x_{t-1} | x_t))

    with all divergences in closed form, see ``GaussianKernel`` and ``BinomialKernel``. ``elbo`` estimates the sum by
    ``scored_steps`` of its terms, one drawn from each of as many equal parts of 1..T. ``sample`` draws from p as it is
    scored: the last step has its noise, nothing is clipped on the way, and what comes out is rounded down to levels.

    Args:
        spec: the sample space.
        kernel: ``gaussian``, on uniformly dequantized pixels; ``binomial``, for two levels; ``auto`` is binomial there.
        num_steps: T.
        scored_steps: network evaluations that score an image.
        first_noise: of the Gaussian kernel, the deviation of the noise of its first step, in levels.
        learned_schedule: whether the Gaussian kernel's beta_2..T are learned, as in the paper; its code has them fixed.
        maps, layers, scales, dense, dense_layers, readout, bumps: of the network, see ``ReverseNetwork``.
        learning_rate, batch_size, schedule, max_gradient_norm: see ``harness_layers.descent.Descent``.

    Raises:
        ValueError: a hyperparameter out of its range.
        Unsupported: a binomial kernel for more than two levels.
    """

    default_budget: ClassVar[str] = "30 epochs"

    def __init__(self, spec: ImageSpec, *, kernel: Literal["auto", "gaussian", "binomial"] = "auto",
                 num_steps: int = 100, scored_steps: int = 20, first_noise: float = 0.1, learned_schedule: bool = True,
                 maps: int = 32, layers: int = 3, scales: int = 2, dense: int = 400, dense_layers: int = 2,
                 readout: int = 32, bumps: int = 10, learning_rate: float = 2e-3, batch_size: int = 100,
                 schedule: Schedule = "cosine", max_gradient_norm: float | None = None) -> None:  # fmt: skip
        super().__init__(spec)
        check_choice(("auto", "gaussian", "binomial"), kernel=kernel)
        check_at_least(1, num_steps=num_steps, scored_steps=scored_steps, layers=layers, scales=scales, bumps=bumps)
        check_positive(maps=maps, dense=dense, readout=readout, first_noise=first_noise)
        check_at_least(0, dense_layers=dense_layers)
        if first_noise > 0.25:
            raise ValueError(f"first_noise must be at most 0.25 of a level, not {first_noise}")
        if kernel == "binomial" and spec.levels > 2:
            raise Unsupported(f"a binomial kernel diffuses binary images; these have {spec.levels} levels")
        binomial = kernel == "binomial" or (kernel == "auto" and spec.levels == 2)
        self.scored_steps = scored_steps
        self.descent = Descent(
            learning_rate=learning_rate, batch_size=batch_size, schedule=schedule, max_gradient_norm=max_gradient_norm
        )
        self.kernel: Kernel = (
            BinomialKernel(spec, num_steps)
            if binomial
            else GaussianKernel(spec, num_steps, first_noise=first_noise, learned=learned_schedule)
        )
        self.network = ReverseNetwork(
            spec, inputs=self.kernel.inputs, outputs=self.kernel.outputs, maps=maps, layers=layers, scales=scales,
            dense=dense, dense_layers=dense_layers, readout=readout, bumps=bumps,
        )  # fmt: skip

    @property
    def sampling_depth(self) -> int:
        """An evaluation for each step whose reverse is learned."""
        return self.kernel.num_steps - self.kernel.first_step + 1

    def fit(self, data: Dataset, trainer: Trainer) -> None:
        """Maximises the bound, by one step t for each image of a batch."""
        self.kernel.fit(data)
        if self.sampling_depth == 0:
            return

        def loss(images: Tensor) -> Tensor:
            return -self.estimate(images, 1)

        def score(split: Split) -> float:
            return mean_over(split, loss)

        descend(self, data, trainer, self.descent, lambda batch: loss(batch.images), score=score)

    def outputs(self, noisy: Tensor, steps: Tensor) -> Tensor:
        """Maps x_t (N, C, H, W) and steps (N,), or (1,), to the network's (N, outputs, C, H, W)."""
        time = (steps.to(noisy.dtype) - 1) / max(1, self.kernel.num_steps - 1)
        outputs: Tensor = self.network(self.kernel.features(noisy, steps), time)
        return outputs.to(noisy.dtype)

    def divergence(self, x: Tensor, steps: Tensor) -> Tensor:
        """Maps x_0 (N, C, H, W) and steps (N,) to (N,) nats: the divergence of these steps, at one draw of x_t."""
        noisy, known = self.kernel.diffuse(x, steps)
        return self.kernel.divergence(noisy, known, self.outputs(noisy, steps), steps)

    def estimate(self, images: Tensor, num_parts: int) -> Tensor:
        """Maps (N, C, H, W) uint8 to (N,) nats: the bound, by a step from each of ``num_parts`` equal parts of 1..T.

        All images share one draw of where the steps lie, from which theirs are evenly spread.
        """
        x = self.kernel.start(images, self.dtype)
        total, count = self.kernel.ends(x), self.sampling_depth
        if count == 0:
            return total
        place = spread_times(images, torch.float64)
        for part in range(num_parts):
            steps = self.kernel.first_step + ((part + place) / num_parts * count).long().clamp(max=count - 1)
            total = total - count / num_parts * self.divergence(x, steps)
        return total

    def elbo(self, images: Tensor) -> Tensor:
        """Maps (N, C, H, W) uint8 to (N,) nats: an unbiased estimate of the bound."""
        sizes = chunks(len(images), self.spec)
        return torch.cat([self.estimate(part, self.scored_steps) for part in torch.split(images, sizes)])

    @torch.no_grad()
    def sample(self, num_samples: int) -> Tensor:
        """Returns (num_samples, C, H, W) uint8, by all steps of the chain that ``elbo`` scores."""
        drawn = []
        for size in chunks(num_samples, self.spec):
            *_, last = self.ancestral(size)
            drawn.append(self.kernel.finish(last))
        return torch.cat(drawn)

    @torch.no_grad()
    def ancestral(self, num_samples: int) -> Iterator[Tensor]:
        """Yields x_T, x_{T-1}, ... x_0 (num_samples, C, H, W), drawn from p."""
        x = self.kernel.draw_noise(num_samples, self._anchor)
        yield x
        for step in range(self.kernel.num_steps, self.kernel.first_step - 1, -1):
            steps = torch.tensor([step], device=self.device)
            x = self.kernel.reverse(x, self.outputs(x, steps), steps)
            yield x
        if self.kernel.first_step > 1:
            yield self.kernel.reverse_first(x)
