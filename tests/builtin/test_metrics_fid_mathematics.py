"""FID and KID of features against independent computations, closed forms and simulations."""

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.linalg
import torch
from torchmetrics.image.fid import FrechetInceptionDistance

from harness.builtin.metrics import sample_quality
from harness.builtin.metrics.feature_metric import halves, jackknife_error
from harness.builtin.metrics.sample_quality import FID, KID

frechet_distance, kernel_distance = FID.distance, KID.distance


def draw(num, dimensions, *, seed, shift=0.0, mixing=None):
    rng = np.random.default_rng(seed)
    mixing = np.eye(dimensions) if mixing is None else mixing
    return torch.from_numpy(rng.standard_normal((num, dimensions)) @ mixing + shift)


def matrix(dimensions, seed):
    return np.random.default_rng(seed).standard_normal((dimensions, dimensions)) / math.sqrt(dimensions)


def fid_by_sqrtm(x, y):
    x, y = x.numpy(), y.numpy()
    s1, s2 = np.cov(x, rowvar=False), np.cov(y, rowvar=False)
    root = scipy.linalg.sqrtm(s1 @ s2)
    return ((x.mean(0) - y.mean(0)) ** 2).sum() + np.trace(s1 + s2 - 2 * root.real)


def fid_by_eigenvalues(x, y):
    """From sqrt(S1) S2 sqrt(S1), which is symmetric, by way of the singular values of the centred data."""
    x, y = x.numpy(), y.numpy()
    a, b = ((z - z.mean(0)) / math.sqrt(len(z) - 1) for z in (x, y))
    # tr (sqrt(S1) S2 sqrt(S1))^(1/2) is the sum of the singular values of a b'
    overlap = np.linalg.svd(a @ b.T, compute_uv=False).sum()
    return ((x.mean(0) - y.mean(0)) ** 2).sum() + (a**2).sum() + (b**2).sum() - 2 * overlap


def kid_by_definition(x, y):
    def k(a, b):
        return (np.dot(a, b) / len(a) + 1) ** 3

    x, y = x.numpy(), y.numpy()
    m = len(x)
    inside = sum(k(a[i], a[j]) for a in (x, y) for i in range(m) for j in range(m) if i != j)
    return inside / (m * (m - 1)) - 2 * sum(k(a, b) for a in x for b in y) / m**2


def with_moments(num, mean, variances, seed):
    """Rows whose sample mean and covariance are exactly these."""
    x = draw(num, len(mean), seed=seed)
    x = x - x.mean(0)
    x = x @ torch.linalg.inv(torch.linalg.cholesky(x.T.cov())).T
    return x * torch.tensor(variances, dtype=torch.float64).sqrt() + torch.tensor(mean, dtype=torch.float64)


@pytest.mark.parametrize("offset", [0.0, 100.0], ids=["centred", "far from zero"])
def test_the_frechet_distance_equals_scipys_square_root_of_the_product(offset):
    x = draw(500, 20, seed=0, shift=offset, mixing=matrix(20, 1))
    y = draw(400, 20, seed=2, shift=offset + 0.3, mixing=matrix(20, 3))
    assert frechet_distance(x, y) == pytest.approx(fid_by_sqrtm(x, y), rel=1e-6)


def test_the_frechet_distance_between_gaussians_is_the_closed_form():
    mean, a, b = [0.5, -1.0, 2.0], [1.0, 4.0, 0.25], [9.0, 1.0, 0.01]
    x, y = with_moments(50, [0.0] * 3, a, seed=0), with_moments(70, mean, b, seed=1)
    expected = sum(m**2 for m in mean) + sum((math.sqrt(s) - math.sqrt(t)) ** 2 for s, t in zip(a, b, strict=True))
    assert frechet_distance(x, y) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize(
    ("num", "other"), [(15, 300), (300, 15), (12, 18)], ids=["few samples", "small reference", "both"]
)
def test_with_fewer_images_than_dimensions_the_frechet_distance_equals_that_of_symmetric_eigenvalues(num, other):
    x = draw(num, 40, seed=0, mixing=matrix(40, 1))
    y = draw(other, 40, seed=2, shift=0.1, mixing=matrix(40, 3))
    assert frechet_distance(x, y) == pytest.approx(fid_by_eigenvalues(x, y), rel=1e-6)


def test_features_that_never_vary_in_one_set_or_in_both_leave_the_frechet_distance_right():
    x, y = draw(200, 12, seed=0, mixing=matrix(12, 1)), draw(200, 12, seed=2, mixing=matrix(12, 3))
    x[:, :3], y[:, 2:6] = 0.25, 0.75  # columns 0, 1 in x, 2 in both, 3 to 5 in y
    assert frechet_distance(x, y) == pytest.approx(fid_by_eigenvalues(x, y), rel=1e-6)


def test_sets_that_vary_in_orthogonal_directions_are_as_far_apart_as_their_moments():
    x, y = torch.zeros(40, 4, dtype=torch.float64), torch.zeros(40, 4, dtype=torch.float64)
    x[:, :2], y[:, 2:] = with_moments(40, [0, 0], [1, 2], seed=0), with_moments(40, [3, 0], [4, 5], seed=1)
    assert frechet_distance(x, y) == pytest.approx(1 + 2 + 4 + 5 + 9, rel=1e-9)


def test_a_set_has_no_frechet_distance_to_itself():
    x = draw(60, 30, seed=0, mixing=matrix(30, 1))
    assert 0 <= frechet_distance(x, x.flip(0)) < 1e-9


def test_the_frechet_distance_equals_that_of_torchmetrics():
    class Given(torch.nn.Module):
        num_features = 20

        def forward(self, features):
            return features

    x, y = draw(300, 20, seed=0, mixing=matrix(20, 1)), draw(300, 20, seed=2, mixing=matrix(20, 3))
    reference = FrechetInceptionDistance(feature=Given())
    reference.update(y, real=True)
    reference.update(x, real=False)
    assert frechet_distance(x, y) == pytest.approx(float(reference.compute()), rel=1e-9)


def test_the_kernel_distance_equals_its_definition():
    x, y = draw(40, 5, seed=0), draw(40, 5, seed=1, shift=0.4)
    assert kernel_distance(x, y) == pytest.approx(kid_by_definition(x, y), rel=1e-9)


def test_the_kernel_distance_is_the_mean_over_disjoint_subsets(monkeypatch):
    monkeypatch.setattr(sample_quality, "MAX_SUBSET", 20)
    x, y = draw(70, 5, seed=0), draw(47, 5, seed=1, shift=0.4)
    expected = [kid_by_definition(x[start : start + 20], y[start : start + 20]) for start in (0, 20)]
    assert kernel_distance(x, y) == pytest.approx(np.mean(expected), rel=1e-9)


def test_the_kernel_distance_is_unbiased_where_the_distributions_are_equal():
    values = [kernel_distance(draw(50, 4, seed=s), draw(50, 4, seed=10_000 + s)) for s in range(200)]
    assert abs(np.mean(values)) < 3 * np.std(values) / math.sqrt(len(values))
    assert min(values) < 0


def test_the_jackknife_of_a_mean_is_its_standard_error():
    x = draw(50, 1, seed=0)[:, 0]
    replicates = (x.sum() - x) / 49
    assert jackknife_error(replicates) == pytest.approx(x.std().item() / math.sqrt(50), rel=1e-12)


def test_leaving_a_group_out_of_a_kernel_distance_is_computing_it_without(monkeypatch):
    x, y = draw(24, 3, seed=0), draw(24, 3, seed=1, shift=0.5)

    def general(a, b):
        kaa, kbb, kab = ((p @ q.T / 3 + 1) ** 3 for p, q in ((a, a), (b, b), (a, b)))
        inside = [(k.sum() - k.diagonal().sum()) / (len(k) * (len(k) - 1)) for k in (kaa, kbb)]
        return sum(inside) - 2 * kab.mean()

    parts = [torch.cat([x[: 4 * g], x[4 * g + 4 :]]) for g in range(6)]
    other = [torch.cat([y[: 4 * g], y[4 * g + 4 :]]) for g in range(6)]
    expected = (
        jackknife_error(torch.stack([general(part, y) for part in parts])),
        jackknife_error(torch.stack([general(x, part) for part in other])),
    )
    assert KID.errors(x, y, 6) == pytest.approx(expected, rel=1e-9)


def test_the_standard_errors_of_a_frechet_distance_are_the_spread_over_repeated_draws():
    a, b = matrix(6, 1), matrix(6, 2)
    fixed = draw(500, 6, seed=99, shift=0.3, mixing=b)
    values, errors, both, totals = [], [], [], []
    for seed in range(60):
        x, y = draw(400, 6, seed=seed, mixing=a), draw(500, 6, seed=5000 + seed, shift=0.3, mixing=b)
        values.append(frechet_distance(x, fixed))
        errors.append(FID.errors(x, fixed, 40)[0] ** 2)
        both.append(frechet_distance(x, y))
        totals.append(sum(error**2 for error in FID.errors(x, y, 40)))
    assert math.sqrt(np.mean(errors)) == pytest.approx(np.std(values, ddof=1), rel=0.25)
    assert math.sqrt(np.mean(totals)) == pytest.approx(np.std(both, ddof=1), rel=0.25)


def test_the_standard_errors_of_a_kernel_distance_are_the_spread_over_repeated_draws(monkeypatch):
    monkeypatch.setattr(sample_quality, "MAX_SUBSET", 150)
    b = matrix(6, 2)
    fixed = draw(300, 6, seed=99, shift=0.5, mixing=b)
    values, errors, both, totals = [], [], [], []
    for seed in range(60):
        x, y = draw(300, 6, seed=seed), draw(300, 6, seed=5000 + seed, shift=0.5, mixing=b)
        values.append(kernel_distance(x, fixed))
        errors.append(KID.errors(x, fixed, 40)[0] ** 2)
        both.append(kernel_distance(x, y))
        totals.append(sum(error**2 for error in KID.errors(x, y, 40)))
    assert math.sqrt(np.mean(errors)) == pytest.approx(np.std(values, ddof=1), rel=0.25)
    assert math.sqrt(np.mean(totals)) == pytest.approx(np.std(both, ddof=1), rel=0.25)


def test_the_interval_of_halves_holds_nearly_all_other_splits():
    x = draw(400, 5, seed=0)
    found = halves(x, frechet_distance, 40)
    others = []
    for seed in range(60):
        order = np.random.default_rng(seed).permutation(400)
        others.append(frechet_distance(x[order[:200]], x[order[200:]]))
    inside = np.mean([found["halves_low"] <= value <= found["halves_high"] for value in others])
    assert inside > 0.85
    assert found["halves"] == pytest.approx(np.mean(others), rel=0.1)
    assert found["halves_images"] == 200


def test_halves_are_the_same_for_every_run():
    x = draw(100, 3, seed=0)
    assert halves(x, frechet_distance, 5) == halves(x, frechet_distance, 5)
