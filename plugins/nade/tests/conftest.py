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


def _seen(model: Autoregressive, ordering: int) -> Tensor:
    """(D, D) bool: row i is true where changing entry j, in any of 50 random images, changes the logits of entry i."""
    spec = model.spec
    images = torch.randint(spec.levels, (50, *spec.shape), dtype=torch.uint8)
    before = model.conditional_logits(images, ordering).flatten(2)
    columns = []
    for entry in range(spec.num_dimensions):
        changed = images.clone().flatten(1)
        changed[:, entry] = (changed[:, entry] + 1) % spec.levels
        after = model.conditional_logits(changed.view_as(images), ordering).flatten(2)
        columns.append(((after - before).abs() > 1e-12).any(0).any(0))
    return torch.stack(columns, dim=1)


def _past(model: Autoregressive, ordering: int) -> Tensor:
    steps = model.generation_steps(ordering).flatten()
    return steps[:, None] > steps[None, :]


@pytest.fixture
def every_image() -> Callable[[ImageSpec], Tensor]:
    return _every_image


@pytest.fixture
def randomised() -> Callable[[Autoregressive], Autoregressive]:
    return _randomised


@pytest.fixture
def seen() -> Callable[[Autoregressive, int], Tensor]:
    return _seen


@pytest.fixture
def past() -> Callable[[Autoregressive, int], Tensor]:
    return _past
