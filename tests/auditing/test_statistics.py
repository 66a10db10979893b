"""The tests under the audit: sizes, powers and identities of their own."""

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from scipy import stats

from harness.auditing.checks.conditionals import _bernstein, _coupling
from harness.auditing.subject import SMALL, KnownDistribution, all_images, index_of, num_images
from harness.auditing.trial import (
    POWER,
    Trial,
    chi_square,
    same_distribution,
    smallest_total_variation,
)
from harness.interface.spec import ImageSpec


def draw_counts(probs, total, seed):
    rng = np.random.default_rng(seed)
    return torch.from_numpy(rng.multinomial(total, probs.numpy() / float(probs.sum())))


def skewed(size, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return (4 * torch.randn(size, dtype=torch.float64, generator=generator)).softmax(0)


def test_chi_square_p_values_are_uniform_though_most_cells_are_rare():
    probs = skewed(512)
    p_values = [chi_square(draw_counts(probs, 4000, seed), probs)[0] for seed in range(600)]
    assert stats.kstest(p_values, "uniform").pvalue > 1e-3


def test_chi_square_holds_in_its_tail():
    probs = skewed(512, seed=1)
    p_values = np.array([chi_square(draw_counts(probs, 4000, seed), probs)[0] for seed in range(8000)])
    assert (p_values < 1e-3).sum() <= stats.binom.isf(1e-4, 8000, 1e-3)


def test_chi_square_p_values_are_conservative_where_probabilities_are_estimates():
    probs, p_values = skewed(64, seed=2), []
    for seed in range(400):
        errors = 0.2 * probs / 10
        noise = torch.randn(64, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
        p_values.append(chi_square(draw_counts(probs, 5000, seed), probs + errors * noise, errors)[0])
    assert stats.kstest(p_values, "uniform", alternative="greater").pvalue > 1e-3


def test_two_samples_of_one_distribution_have_uniform_p_values():
    probs = skewed(256, seed=3)
    p_values = [
        same_distribution(draw_counts(probs, 3000, seed), draw_counts(probs, 6000, 10_000 + seed))[0]
        for seed in range(500)
    ]
    assert stats.kstest(p_values, "uniform").pvalue > 1e-3


def test_two_samples_of_two_distributions_are_told_apart():
    first, second = draw_counts(skewed(256), 3000, 0), draw_counts(skewed(256, seed=9), 3000, 1)
    assert same_distribution(first, second)[0] < 1e-10


@pytest.mark.parametrize("size", [2, 3, 20, 200])
def test_the_lower_tails_of_both_chi_square_tests_are_conservative(size):
    probs, total = torch.full((size,), 1 / size, dtype=torch.float64), 10 * size
    draws = [draw_counts(probs, total, seed) for seed in range(2000)]
    against = [chi_square(one, probs, both_tails=True)[0] for one in draws]
    alike = [same_distribution(one, two, both_tails=True)[0] for one, two in pairwise(draws)]

    assert np.mean(np.array(against) < 0.02) < 0.03
    assert np.mean(np.array(alike) < 0.02) < 0.03


def test_counts_that_are_too_regular_are_seen():
    probs = skewed(60)
    counts = (20_000 * probs).round()

    assert chi_square(counts, probs, both_tails=True)[0] < 1e-10
    assert same_distribution(counts, counts, both_tails=True)[0] < 1e-10
    assert chi_square(counts, probs)[0] > 0.99


def test_p_values_of_couplings_hold_and_repeated_noise_is_seen():
    draws = torch.randint(2, (300, 8, 40), generator=torch.Generator().manual_seed(0)).double() * 2 - 1
    residuals = torch.stack([draws, torch.ones_like(draws), torch.ones_like(draws)], 1)
    p_values = [_coupling("", "", each, jointly=False).statistic for each in residuals]
    repeated = torch.cat([residuals[0, :, :, :20]] * 2, 2)

    assert np.mean(np.array(p_values) < 0.05) < 0.05
    assert _coupling("", "", repeated, jointly=False).statistic < 1e-10


def test_one_image_is_no_evidence():
    counts, probs = torch.tensor([100, 0]), torch.tensor([1.0, 0.0], dtype=torch.float64)
    assert chi_square(counts, probs) == (1.0, 0)


def test_the_smallest_total_variation_is_seen_with_the_stated_power():
    size, total, threshold = 64, 20_000, 1e-4
    probs = torch.full((size,), 1 / size, dtype=torch.float64)
    words = smallest_total_variation(size - 1, total)(threshold)
    distance = float(words.split()[4].rstrip(","))
    sign = torch.ones(size, dtype=torch.float64)
    sign[::2] = -1
    wrong = probs * (1 + 2 * distance * sign)
    assert float(0.5 * (wrong - probs).abs().sum()) == pytest.approx(distance)
    seen = np.mean([chi_square(draw_counts(wrong, total, seed), probs)[0] < threshold for seed in range(300)])
    assert seen == pytest.approx(POWER, abs=0.05)


def test_bernsteins_p_values_hold_where_sums_are_far_from_normal():
    rng, p = np.random.default_rng(0), 0.002
    log_p, log_q = math.log(p), math.log1p(-p)
    mean = p * log_p + (1 - p) * log_q
    variance = p * (log_p - mean) ** 2 + (1 - p) * (log_q - mean) ** 2
    ones = torch.from_numpy(rng.binomial(64, p, size=100_000)).double()
    total = ones * (log_p - mean) + (64 - ones) * (log_q - mean)
    bounds = _bernstein(total, torch.full_like(total, 64 * variance), torch.full_like(total, abs(log_p - mean)))
    for level in (0.1, 0.01, 1e-3):
        assert float((bounds < level).double().mean()) <= level
    assert float(_bernstein(torch.tensor([50.0]), torch.tensor([4.0]), torch.tensor([1.0]))) < 1e-9


@pytest.mark.parametrize("side", [0, 1, -1])
def test_a_z_test_sees_its_smallest_defect_with_the_stated_power(side):
    error, level = 0.1, 1e-3
    rng = np.random.default_rng(side + 1)
    defect = float(
        Trial.z_test("", "", estimate=0.0, standard_error=error, side=side, meaning="").smallest_defect(level)
    )
    estimates = rng.normal(defect * (side or 1), error, 4000)
    trials = [Trial.z_test("", "", estimate=e, standard_error=error, side=side, meaning="") for e in estimates]
    assert np.mean([trial.fails(level) for trial in trials]) == pytest.approx(POWER, abs=0.03)


def test_a_one_sided_z_test_is_silent_on_the_other_side():
    assert not Trial.z_test("", "", estimate=99.0, standard_error=0.1, side=-1, meaning="").fails(0.5)
    assert Trial.z_test("", "", estimate=-99.0, standard_error=0.1, side=-1, meaning="").fails(1e-6)


def test_nan_is_a_failure_of_every_kind_of_trial():
    nan = math.nan
    assert Trial.exact("", "", nan, tolerance=1.0, meaning="").fails(0.1)
    assert Trial.z_test("", "", estimate=nan, standard_error=1.0, meaning="").fails(0.1)
    assert Trial("", "", nan, smallest_defect=str, meaning="").fails(0.1)


def test_an_estimate_without_error_fails_unless_it_is_rounding():
    assert Trial.z_test("", "", estimate=1e-3, standard_error=0.0, rounding=1e-6, meaning="").fails(1e-9)
    assert not Trial.z_test("", "", estimate=1e-7, standard_error=0.0, rounding=1e-6, meaning="").fails(0.9)


@pytest.mark.parametrize("spec", SMALL, ids=str)
def test_images_are_enumerated_once_each_and_numbered(spec):
    images = all_images(spec)
    assert len(images) == num_images(spec) == len(images.flatten(1).unique(dim=0))
    assert torch.equal(index_of(images, spec), torch.arange(len(images)))


def test_a_space_that_is_too_large_is_refused_with_its_size():
    with pytest.raises(ValueError, match="28x28, 2 levels has"):
        all_images(ImageSpec(1, 28, 28, 2))


@pytest.mark.parametrize("spec", [SMALL[0], SMALL[3], ImageSpec(1, 2, 2, 3)], ids=str)
def test_the_known_distribution_sums_to_one_and_is_what_is_drawn(spec):
    known = KnownDistribution(spec, 5)
    assert float(known.log_probs.logsumexp(0)) == pytest.approx(0, abs=1e-12)
    assert known.entropy == pytest.approx(float(stats.entropy(known.log_probs.exp().numpy())))
    split = known.draw(20_000, "a test")
    counts = torch.bincount(index_of(split.images, spec), minlength=len(known.log_probs))
    assert chi_square(counts, known.log_probs.exp())[0] > 1e-4
    if spec.num_classes:
        first = index_of(split.images[split.labels == 1], spec)
        of_class = torch.bincount(first, minlength=len(known.log_probs))
        assert chi_square(of_class, known.class_log_probs[1].exp())[0] > 1e-4
