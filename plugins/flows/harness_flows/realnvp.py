"""RealNVP: couplings by checkerboards and by channels, half of the entries factored out at each scale.

    a scale: 3 checkerboard couplings, squeeze, 3 channel couplings, half factored out; the last: 4 checkerboard ones

Dinh, Sohl-Dickstein & Bengio 2017, arXiv 1605.08803. Before each coupling stands an actnorm (Kingma & Dhariwal 2018,
arXiv 1807.03039) of every entry in place of batch norm: the map is the same in training and after it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import ClassVar

from torch import Tensor, nn

from harness import ImageSpec
from harness_flows.couplings import Coupling, channel_halves, checkerboard, network_for
from harness_flows.dequantization import Dequantizing, dequantization_for
from harness_flows.flow import Flow
from harness_flows.permutations import ActNorm, Part, Squeeze
from harness_flows.preprocessing import Logit
from harness_layers.checks import check_at_least, check_positive
from harness_layers.descent import Descent
from harness_layers.schedules import Schedule

_SMALLEST = 4  # pixels a side, after a squeeze


class RealNVP(Flow):
    """A multi-scale flow of affine couplings, on logits of dequantized levels.

    Args:
        spec: the sample space. Sides are halved while they are even and at least 8; where a side is below 4 pixels,
            networks are fully connected.
        channels: maps of the coupling networks at the size of the image, twice as many at half of it, and so on; a
            fully connected network has layers of four times as many units.
        blocks: residual blocks of each network.
        scales: at most so many, the last one included.
        couplings: of each kind in each scale but the last.
        last_couplings: of the last scale.
        dequantization: ``uniform`` or ``variational`` noise (Ho et al. 2019, arXiv 1902.00275).
        alpha: of the logit.
        learning_rate: of Adam (0.9, 0.999), at its highest.
        schedule: how it falls: ``cosine``, ``linear``, ``stages`` or ``constant``.
        batch_size: images in each step.
        max_gradient_norm: where gradients are clipped, in nats an image.
        validate_every: how often the validation split is scored, such as ``1 epoch`` or ``500 steps``.

    Raises:
        ValueError: a hyperparameter out of its range.
    """

    default_budget: ClassVar[str] = "12 epochs"

    def __init__(
        self,
        spec: ImageSpec,
        *,
        channels: int = 16,
        blocks: int = 1,
        scales: int = 3,
        couplings: int = 3,
        last_couplings: int = 4,
        dequantization: Dequantizing = "uniform",
        alpha: float = 0.05,
        learning_rate: float = 2e-3,
        schedule: Schedule = "cosine",
        batch_size: int = 64,
        max_gradient_norm: float = 500.0,
        validate_every: str = "1 epoch",
    ) -> None:
        check_positive(channels=channels, scales=scales, last_couplings=last_couplings)
        check_at_least(0, blocks=blocks, couplings=couplings)
        steps, shape, maps = list[nn.Module](), spec.shape, channels

        def add(stays: Callable[..., Tensor], shape: Sequence[int], count: int, maps: int) -> None:
            for parity in range(count):
                network = network_for(shape, 2 * shape[0], channels=maps, blocks=blocks)
                steps.append(Part(shape, ActNorm(shape, shape)))
                steps.append(Part(shape, Coupling(stays(shape, parity=parity), network)))

        for _ in range(scales - 1):
            if shape[1] % 2 or shape[2] % 2 or min(shape[1:]) < 2 * _SMALLEST:
                break
            add(checkerboard, shape, couplings, maps)
            steps.append(Part(shape, Squeeze(shape)))
            shape, maps = (4 * shape[0], shape[1] // 2, shape[2] // 2), 2 * maps
            add(channel_halves, shape, couplings, maps)
            shape = (shape[0] // 2, *shape[1:])
        add(checkerboard, shape, last_couplings, maps)
        super().__init__(
            spec,
            steps,
            preprocessing=Logit(spec.levels, alpha=alpha),
            dequantization=dequantization_for(dequantization, spec, channels=channels),
            descent=Descent(
                learning_rate=learning_rate,
                batch_size=batch_size,
                schedule=schedule,
                warm_up_steps=200,
                max_gradient_norm=max_gradient_norm,
                validate_every=validate_every,
            ),
        )
