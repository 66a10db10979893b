"""Glow: steps of actnorm, invertible 1x1 convolution and affine channel coupling, half factored out at each scale.

Kingma & Dhariwal 2018, arXiv 1807.03039.
"""

from __future__ import annotations

from typing import ClassVar

from torch import nn

from harness import ImageSpec, Unsupported
from harness_flows.couplings import Coupling, channel_halves, network_for
from harness_flows.dequantization import Dequantizing, dequantization_for
from harness_flows.flow import Flow
from harness_flows.permutations import ActNorm, Invertible1x1, Part, Squeeze
from harness_flows.preprocessing import Logit
from harness_layers.checks import check_at_least, check_positive
from harness_layers.descent import Descent
from harness_layers.schedules import Schedule

_SMALLEST = 4  # pixels a side, after a squeeze
_MOST_CHANNELS = 256


class Glow(Flow):
    """A multi-scale flow that mixes channels by learned linear maps, on logits of dequantized levels.

    Args:
        spec: the sample space. Sides are halved while they are even and at least 8; an image that cannot be halved is
            one pixel of C H W channels, at most 256 of them.
        channels: maps of the coupling networks at half the size of the image, twice as many at the next scale.
        blocks: residual blocks of each network.
        scales: at most so many, each after a squeeze.
        depth: steps of each scale.
        dequantization: ``uniform`` or ``variational`` noise (Ho et al. 2019, arXiv 1902.00275).
        alpha: of the logit.
        learning_rate: of Adam (0.9, 0.999), at its highest.
        schedule: how it falls: ``cosine``, ``linear``, ``stages`` or ``constant``.
        batch_size: images in each step.
        max_gradient_norm: where gradients are clipped, in nats an image.
        validate_every: how often the validation split is scored, such as ``1 epoch`` or ``500 steps``.

    Raises:
        ValueError: a hyperparameter out of its range.
        Unsupported: an image that cannot be halved has too many entries.
    """

    default_budget: ClassVar[str] = "12 epochs"

    def __init__(
        self,
        spec: ImageSpec,
        *,
        channels: int = 32,
        blocks: int = 1,
        scales: int = 2,
        depth: int = 8,
        dequantization: Dequantizing = "uniform",
        alpha: float = 0.05,
        learning_rate: float = 2e-3,
        schedule: Schedule = "cosine",
        batch_size: int = 64,
        max_gradient_norm: float = 500.0,
        validate_every: str = "1 epoch",
    ) -> None:
        check_positive(channels=channels, scales=scales, depth=depth)
        check_at_least(0, blocks=blocks)
        steps, shape = list[nn.Module]([Part(spec.shape, ActNorm(spec.shape, spec.shape))]), spec.shape

        def add(shape: tuple[int, int, int], maps: int) -> None:
            for parity in range(depth):
                network = network_for(shape, 2 * shape[0], channels=maps, blocks=blocks)
                steps.append(Part(shape, ActNorm(shape, (shape[0], 1, 1))))
                steps.append(Part(shape, Invertible1x1(shape[0])))
                steps.append(Part(shape, Coupling(channel_halves(shape, parity=parity), network)))

        for scale in range(scales):
            if shape[1] % 2 or shape[2] % 2 or min(shape[1:]) < 2 * _SMALLEST:
                break
            steps.append(Part(shape, Squeeze(shape)))
            shape = (4 * shape[0], shape[1] // 2, shape[2] // 2)
            add(shape, channels * 2**scale)
            shape = (shape[0] // 2, *shape[1:])
        if shape == spec.shape:
            if spec.num_dimensions > _MOST_CHANNELS:
                size = "x".join(map(str, spec.shape))
                raise Unsupported(f"images of {size} cannot be halved, and have more than {_MOST_CHANNELS} entries")
            add((spec.num_dimensions, 1, 1), channels)
        super().__init__(
            spec,
            steps,
            preprocessing=Logit(spec.levels, alpha=alpha),
            dequantization=dequantization_for(dequantization, spec, channels=channels // 2 or 1),
            descent=Descent(
                learning_rate=learning_rate,
                batch_size=batch_size,
                schedule=schedule,
                warm_up_steps=200,
                max_gradient_norm=max_gradient_norm,
                validate_every=validate_every,
            ),
        )
