from __future__ import annotations

import numpy as np
import pytest
import torch

from harness import ImageSpec
from harness_zoo.mcgan import McGanCovariance, McGanMean, covariance_distance, mean_distance

TINY = ImageSpec(channels=1, height=2, width=2, levels=5)
REAL, FAKE = torch.randn(2, 7, 5, generator=torch.Generator().manual_seed(3), dtype=torch.float64)


@pytest.mark.parametrize("q", [1.0, 2.0, 4.0])
def test_the_distance_of_means_is_the_largest_of_a_direction_of_bounded_dual_norm(q):
    difference = REAL.mean(0) - FAKE.mean(0)
    best = difference.sign() * difference.abs() ** (q - 1)
    dual = q / (q - 1) if q > 1 else torch.inf
    best = best / torch.linalg.vector_norm(best, dual)
    distance = mean_distance(REAL, FAKE, q)
    assert ((REAL @ best).mean() - (FAKE @ best).mean()).item() == pytest.approx(distance.item())
    for _ in range(20):
        other = torch.randn(5, dtype=torch.float64)
        other = other / torch.linalg.vector_norm(other, dual)
        assert (REAL @ other).mean() - (FAKE @ other).mean() <= distance


def test_the_distance_of_covariances_is_the_largest_trace_of_orthonormal_directions():
    real, fake = REAL.numpy(), FAKE.numpy()
    moments = sum(np.outer(x, x) for x in real) / 7 - sum(np.outer(x, x) for x in fake) / 7
    left, values, right = np.linalg.svd(moments)
    distance = covariance_distance(REAL, FAKE, 2).item()
    best = np.trace(left[:, :2].T @ moments @ right[:2].T)
    assert distance == pytest.approx(best)
    for _ in range(20):
        u, v = (np.linalg.qr(torch.randn(5, 2, dtype=torch.float64).numpy())[0] for _ in range(2))
        assert np.trace(u.T @ moments @ v) <= distance
    assert covariance_distance(REAL, FAKE, 5).item() == pytest.approx(np.abs(np.linalg.eigvalsh(moments)).sum())
    assert values[0] < distance


def test_second_moments_are_about_zero():
    """Features that differ by their mean alone differ in their second moments."""
    assert covariance_distance(REAL, REAL + 1, 5) > 1


@pytest.mark.parametrize("model", [McGanMean, McGanCovariance])
def test_weights_are_clipped(model):
    made = model(TINY, network="mlp", latents=2, width=3, features=16, clip=0.02)
    with torch.no_grad():
        made.after_discriminator(None)
    assert max(weight.abs().max() for weight in made.discriminator.parameters()) <= 0.02


def test_there_are_no_more_components_than_features():
    with pytest.raises(ValueError, match="features must be at least 16, not 8"):
        McGanCovariance(TINY, network="mlp", features=8)
