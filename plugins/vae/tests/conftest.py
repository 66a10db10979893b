"""The exact probabilities of tiny images under latents that can be integrated out."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from harness import LatentVariable

_POINTS = 40


@pytest.fixture
def every_image() -> Tensor:
    """(16, 1, 2, 2) uint8: all binary images of 2x2 pixels."""
    return torch.tensor([[[[i >> 3 & 1, i >> 2 & 1], [i >> 1 & 1, i & 1]]] for i in range(16)], dtype=torch.uint8)


@pytest.fixture
def log_prob_by_quadrature() -> Callable[[LatentVariable, Tensor], Tensor]:
    """Maps a float64 model with two standard normal latents, and images (N, C, H, W), to (N,) nats: log p(image)."""

    @torch.no_grad()
    def log_prob(model: LatentVariable, images: Tensor) -> Tensor:
        points, weights = (torch.from_numpy(each) for each in np.polynomial.hermite_e.hermegauss(_POINTS))
        grid = torch.cartesian_prod(points, points)
        log_weights = (torch.cartesian_prod(weights, weights)).log().sum(1) - math.log(2 * math.pi)
        each = [model.log_likelihood(image.repeat(len(grid), 1, 1, 1), grid) for image in images.split(1)]
        return (torch.stack(each) + log_weights).logsumexp(1)

    return log_prob
