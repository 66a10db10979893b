"""A dependence that is probed is the one that the masks give, and what is wrong with it stays for the audit to find."""

from __future__ import annotations

import pytest
import torch
from museum.autoregressive import MADE, MarkovChain, Multiscale
from museum.pixel_cnn import GatedPixelCNN, PixelCNN
from torch import nn

import harness
from harness import ImageSpec, Subject, audit
from harness.auditing.checks.dependence import _has_faded
from harness.support.randomness import isolated_rng
from harness_pixelcnn.pixelcnn import PixelCNN as FullPixelCNN

BINARY, COLOUR = ImageSpec(1, 8, 8, 2), ImageSpec(3, 4, 5, 3)


def past(model, ordering=0):
    steps = model.generation_steps(ordering).flatten()
    return steps[:, None] > steps[None, :]


@pytest.mark.parametrize("spec", [BINARY, COLOUR], ids=["binary", "colour"])
@pytest.mark.parametrize(
    "make",
    [PixelCNN, MarkovChain, lambda spec: FullPixelCNN(spec, channels=6, layers=2)],
    ids=["masked convolutions", "a look-up", "residual masked convolutions"],
)
def test_the_probe_is_the_receptive_field_in_closed_form(make, spec):
    model = make(spec)
    expected = model.dependence()
    assert not torch.equal(expected, past(model))
    assert torch.equal(harness.probe_dependence(model), expected)


@pytest.mark.parametrize("make", [MADE, GatedPixelCNN, Multiscale], ids=lambda make: make.__name__)
def test_where_all_of_the_past_is_seen_the_probe_is_the_past(make):
    model = make(BINARY)
    assert torch.equal(harness.probe_dependence(model), past(model))


class Forgetful(harness.Autoregressive):
    """A recurrent network that keeps a millionth of its state at each step."""

    def __init__(self, spec):
        super().__init__(spec)
        self.into, self.out = nn.Parameter(torch.ones(1)), nn.Parameter(torch.ones(1))

    def conditional_logits(self, images, ordering=0):
        state, logits = torch.zeros(len(images), dtype=self.dtype), []
        for entry in images.flatten(1).to(self.into.dtype).unbind(1):
            logits.append(1 + self.out * state)
            state = torch.tanh(1e-6 * state + self.into * entry)
        ones = torch.stack(logits, 1).view(images.shape)
        return torch.stack([torch.zeros_like(ones), ones], 1)

    def fit(self, data, trainer):
        raise harness.Unsupported("of a test")


def test_a_dependence_fainter_than_the_precision_is_found_by_its_gradient():
    model = Forgetful(ImageSpec(1, 1, 8, 2)).double()
    images = torch.zeros(2, 1, 1, 8, dtype=torch.uint8)
    images[1, ..., 0] = 1
    black, first_is_white = model.conditional_logits(images)[..., 7]
    assert torch.equal(black, first_is_white)
    assert torch.equal(harness.probe_dependence(model), past(model))


class SeesItself(MADE):
    """Masks of a model that is wrong, declared by a probe."""

    def masks(self, ordering):
        steps = self.generation_steps(ordering).flatten()
        into, _, direct = super().masks(ordering)
        degrees = torch.linspace(0, float(steps.max()), len(into)).round()
        return into, steps[:, None] >= degrees, direct

    def dependence(self, ordering=0):
        return harness.probe_dependence(self, ordering)


def test_a_leak_that_is_declared_by_a_probe_is_found_by_the_audit():
    result = audit(Subject("wrong", SeesItself), only=["dependence"]).result("dependence")
    assert result.verdict == "fail"
    assert "sees itself" in result.meaning


def test_a_probe_changes_neither_the_model_nor_random_numbers():
    model = PixelCNN(BINARY).train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with isolated_rng(3, torch.device("cpu")):
        expected = torch.rand(1)
    with isolated_rng(3, torch.device("cpu")):
        harness.probe_dependence(model)
        assert torch.equal(torch.rand(1), expected)
    assert model.training
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


# --- what fades ---

STEPS = torch.arange(64)
LAGS = (STEPS[:, None] - STEPS).clamp_min(0)


@pytest.mark.parametrize(
    ("strength", "faded"),
    [
        (1e11 * 0.4 ** LAGS.double(), 27),  # a filter: seen to a lag of 27, hidden by rounding beyond
        (1e9 * (LAGS <= 20).double(), 63),  # a window that ends
        (1e9 * ((LAGS <= 20) & (LAGS != 5)).double(), 63),  # and has a gap
    ],
)
def test_an_influence_fades_where_it_falls_to_rounding_step_by_step(strength, faded):
    strength = strength.masked_fill(LAGS == 0, 0.0)
    hidden = _has_faded(strength, STEPS, torch.float64) & (strength <= 1)
    assert torch.equal(hidden & (LAGS > 0), faded < LAGS)
