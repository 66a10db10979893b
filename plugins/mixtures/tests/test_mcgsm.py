"""The mixture of conditional Gaussian scale mixtures against scipy's normals."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor

from harness_mixtures.mcgsm import MCGSM

Z, C, S, FEATURES = 3, 4, 2, 5


@pytest.fixture
def mixture() -> MCGSM:
    torch.manual_seed(0)
    model = MCGSM(Z, components=C, scales=S, features=FEATURES).double()
    with torch.no_grad():
        for name, values in model.named_parameters():
            values.normal_(std=1.0 if "weight" in name else 0.1)
        model.centre.normal_(std=5)
        model.width.uniform_(0.5, 2)
    return model


def by_scipy(model: MCGSM, z: Tensor) -> tuple[np.ndarray, list[list[stats.rv_continuous]]]:
    """Weights (C, S) and normals of p(y | z), by the formula, from one z (Z,)."""
    with torch.no_grad():
        alpha = 3 * np.tanh(10 * model.scale_log_precision.numpy() / 3)
        precision = np.exp(3 * np.tanh(10 * model.log_precision.numpy() / 3)) / model.width.numpy()
        x = z.numpy()
        mean, gate, features = (rows @ x for rows in np.split(model.weight.numpy(), [C, 2 * C]))
        gate = gate - model.feature_weights.numpy() ** 2 @ features**2 / 2
        means = model.centre.numpy() + (mean + 10 * model.shift.numpy()) / precision
        weights = np.exp(10 * model.logits.numpy() + np.exp(alpha) * gate[:, None])
    normals = [[stats.norm(means[c], np.exp(-alpha[c, s] / 2) / precision[c]) for s in range(S)] for c in range(C)]
    return weights / weights.sum(), normals


def test_the_density_is_the_mixture_of_normals_of_the_formula(mixture: MCGSM) -> None:
    for z in torch.randn(5, Z, dtype=torch.float64):
        weights, normals = by_scipy(mixture, z)
        y = torch.linspace(-20, 20, 41, dtype=torch.float64)
        expected = sum(weights[c, s] * normals[c][s].pdf(y.numpy()) for c in range(C) for s in range(S))
        found = mixture.log_prob(y, z.expand(len(y), Z)).exp().detach().numpy()
        np.testing.assert_allclose(found, expected, rtol=1e-10)


def test_the_density_integrates_to_one(mixture: MCGSM) -> None:
    y = torch.linspace(-200, 200, 200_001, dtype=torch.float64)
    z = torch.randn(Z, dtype=torch.float64)
    assert torch.trapezoid(mixture.log_prob(y, z.expand(len(y), Z)).exp(), y).item() == pytest.approx(1, abs=1e-9)


def test_draws_follow_the_density(mixture: MCGSM) -> None:
    z = torch.randn(Z, dtype=torch.float64)
    weights, normals = by_scipy(mixture, z)
    with torch.no_grad():
        draws = mixture.draw(z.expand(20_000, Z)).numpy()

    def distribution(y: np.ndarray) -> np.ndarray:
        return sum(weights[c, s] * normals[c][s].cdf(y) for c in range(C) for s in range(S))

    assert stats.kstest(draws, distribution).pvalue > 1e-3


def test_the_start_is_a_marginal_and_a_linear_prediction_in_equal_parts() -> None:
    mixture = MCGSM(1, components=64, scales=1, features=1).double()
    levels = 8
    frequencies = torch.tensor([0.7, 0, 0, 0.1, 0, 0, 0, 0.2], dtype=torch.float64)
    edges = torch.arange(levels + 1, dtype=torch.float64)
    one = torch.ones((), dtype=torch.float64)
    torch.nn.init.zeros_(mixture.feature_weights)
    mixture.start(frequencies, edges, prediction=2 * one.view(1), deviation=one / 10)
    y = torch.linspace(-30, 30, 6001, dtype=torch.float64)
    density = mixture.log_prob(y, torch.full((len(y), 1), 10.0, dtype=torch.float64)).exp().detach()
    found = torch.stack([mass(y, density, low, low + 1) for low in range(levels)])
    torch.testing.assert_close(found, frequencies / 2, atol=0.05, rtol=0)
    assert mass(y, density, 19, 21).item() == pytest.approx(0.5, abs=1e-3)


def mass(y: Tensor, density: Tensor, low: float, high: float) -> Tensor:
    """The integral of a density between two bounds, by the trapezoidal rule on a grid."""
    part = (y >= low) & (y <= high)
    return torch.trapezoid(density[part], y[part])
