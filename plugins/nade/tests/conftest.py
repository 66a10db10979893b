from __future__ import annotations

import itertools
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from harness import Autoregressive, ImageSpec

BINARY = ImageSpec(channels=1, height=3, width=3, levels=2)
COLOUR = ImageSpec(channels=3, height=2, width=1, levels=3)


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)
    torch.set_num_threads(1)


@pytest.fixture(params=[BINARY, COLOUR], ids=["binary", "colour"])
def spec(request: pytest.FixtureRequest) -> ImageSpec:
    return request.param


def _every_image(spec: ImageSpec) -> Tensor:
    values = itertools.product(range(spec.levels), repeat=spec.num_dimensions)
    return torch.tensor(list(values), dtype=torch.uint8).view(-1, *spec.shape)


def _randomised(model: Autoregressive) -> Autoregressive:
    """The model in float64 with large random parameters: nearly deterministic conditionals, every weight in play."""
    model = model.double()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn_like(parameter))
    return model


@pytest.fixture
def every_image() -> Callable[[ImageSpec], Tensor]:
    return _every_image


@pytest.fixture
def randomised() -> Callable[[Autoregressive], Autoregressive]:
    return _randomised
