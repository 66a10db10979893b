"""The models that are timed."""

from __future__ import annotations

import dataclasses
import os
from functools import cache
from pathlib import Path

import pytest
import torch
from torch import nn

import harness
from harness import Autoregressive, DataFolder, Dataset, ImageSpec, Split, Trainer
from harness.builtin.datasets import register_datasets
from harness.interface.spec import Budget
from harness_nade.made import MADE
from harness_pixelcnn.gated_pixelcnn import GatedPixelCNN

MNIST = ImageSpec(1, 28, 28, 2)
RUN, DATA = "HARNESS_BENCHMARK_RUN", "HARNESS_DATA"
STEPS = 500


def gated() -> GatedPixelCNN:
    """64 channels x 8 layers, with weights of a trained model's size: an untrained one's outputs are all near zero."""
    torch.manual_seed(0)
    model = GatedPixelCNN(MNIST, channels=64, layers=8, kernel=3).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 1:
                parameter.normal_(0, 0.1)
    return model


@cache
def static_mnist() -> Dataset | None:
    """The dataset with 500 images to validate on; None where the environment names no data."""
    root = os.environ.get(DATA)
    if not root or not (Path(root) / "binarized-mnist").is_dir():
        return None
    (entry,) = [entry for entry in register_datasets() if entry.name == "mnist-static"]
    data: Dataset = entry.load()(DataFolder(Path(root), offline=True))
    return dataclasses.replace(data, valid=Split(data.valid.images[:500]))


def trained_made(hidden: tuple[int, ...]) -> tuple[str, MADE]:
    """A model after 500 steps; without data, one with large random weights; and which of them it is."""
    torch.manual_seed(0)
    model, data = MADE(MNIST, hidden=hidden), static_mnist()
    if data is not None:
        model.fit(data, Trainer(model, data, budget=Budget(STEPS, "steps")))
        return "trained", model.eval()
    with torch.no_grad():
        for layer in [*model.layers, model.output]:
            layer.weight.mul_(6)
    return "large random weights", model.eval()


@cache
def trained_gated() -> tuple[str, Autoregressive]:
    """The run that the environment names, or a small model after about a minute; and what it is."""
    if RUN in os.environ:
        model = harness.load(os.environ[RUN])
        assert isinstance(model, Autoregressive)
        return os.environ[RUN], model
    data = static_mnist()
    if data is None:
        pytest.skip(f"needs the folder binarized-mnist in {DATA}, or the name of a run in {RUN}")
    torch.manual_seed(0)
    model = GatedPixelCNN(data.spec, channels=16, layers=8, batch_size=16, validate_every=f"{STEPS} steps")
    model.fit(data, Trainer(model, data, budget=Budget(STEPS, "steps")))
    model.eval()
    with torch.no_grad():
        nats = -model.log_prob(data.valid.images).mean().item()
    return f"16 channels x 8 layers, {STEPS} steps on mnist-static, {nats:.0f} nats", model


def agree(ours: Autoregressive, plain: nn.Module) -> None:
    """Asserts that the plain formulation gives the values of ours."""
    images = (torch.rand(4, *ours.spec.shape) < 0.3).to(torch.uint8)
    with torch.no_grad():
        torch.testing.assert_close(plain.log_prob(images), ours.log_prob(images), rtol=1e-6, atol=1e-4)
