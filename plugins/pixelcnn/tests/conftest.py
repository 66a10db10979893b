from __future__ import annotations

import itertools
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from harness import Autoregressive, ImageSpec


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)
    torch.set_num_threads(1)


def _every_image(spec: ImageSpec) -> Tensor:
    values = itertools.product(range(spec.levels), repeat=spec.num_dimensions)
    return torch.tensor(list(values), dtype=torch.uint8).view(-1, *spec.shape)


def _randomised(model: Autoregressive, scale: float = 0.5) -> Autoregressive:
    """The model in float64, every weight random and in play."""
    model = model.double()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(scale * torch.randn_like(parameter))
    return model


def _seen(model: Autoregressive) -> Tensor:
    """(D, D) bool: row i is true at the entries j that change the logits of entry i, in any of 20 random images."""
    spec = model.spec
    images = torch.randint(spec.levels, (20, *spec.shape), dtype=torch.uint8)
    with torch.no_grad():
        before = model.conditional_logits(images).flatten(2)
        columns = []
        for entry in range(spec.num_dimensions):
            changed = images.clone().flatten(1)
            changed[:, entry] = (changed[:, entry] + 1) % spec.levels
            after = model.conditional_logits(changed.view_as(images)).flatten(2)
            columns.append(((after - before).abs() > 1e-14).any(0).any(0))
    return torch.stack(columns, dim=1)


def _past(spec: ImageSpec) -> Tensor:
    channels, height, width = spec.shape
    steps = torch.arange(spec.num_dimensions).view(height, width, channels).permute(2, 0, 1).flatten()
    return steps[:, None] > steps[None, :]


@pytest.fixture
def every_image() -> Callable[[ImageSpec], Tensor]:
    return _every_image


@pytest.fixture
def randomised() -> Callable[..., Autoregressive]:
    return _randomised


@pytest.fixture
def seen() -> Callable[[Autoregressive], Tensor]:
    return _seen


@pytest.fixture
def past() -> Callable[[ImageSpec], Tensor]:
    return _past
