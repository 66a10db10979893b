"""Laws of growth, on costs whose law is known."""

import numpy as np
import pytest
from scipy import stats

from harness.profiling.tables import fit_growth, fit_power_law

PIXELS = [256.0, 1024.0, 4096.0, 16384.0]


@pytest.mark.parametrize("exponent", [0.0, 1.0, 2.0])
def test_an_exact_power_law_is_recovered(exponent):
    law = fit_power_law(PIXELS, [3.0 * n**exponent for n in PIXELS])
    assert law.exponent == pytest.approx(exponent, abs=1e-12)
    assert (law.exponent_low, law.exponent_high) == (
        pytest.approx(exponent, abs=1e-9),
        pytest.approx(exponent, abs=1e-9),
    )


def test_exponent_and_interval_are_those_of_linear_regression():
    costs = [1.0, 3.7, 17.0, 66.0]
    law = fit_power_law(PIXELS, costs)
    reference = stats.linregress(np.log(PIXELS), np.log(costs))
    reach = stats.t.ppf(0.975, 2) * reference.stderr
    assert law.exponent == pytest.approx(reference.slope)
    assert (law.exponent_low, law.exponent_high) == (
        pytest.approx(reference.slope - reach),
        pytest.approx(reference.slope + reach),
    )


def test_the_interval_covers_the_true_exponent_as_often_as_it_says():
    random = np.random.default_rng(0)
    noise = random.normal(0.0, 0.2, (2000, 4))
    covered = 0
    for row in noise:
        law = fit_power_law(PIXELS, [n**1.5 * np.exp(e) for n, e in zip(PIXELS, row, strict=True)])
        covered += law.exponent_low <= 1.5 <= law.exponent_high
    assert 0.935 < covered / 2000 < 0.965


@pytest.mark.parametrize("pixels", [[256.0], [256.0, 256.0, 256.0], [256.0, 1024.0], [256.0, 256.0, 1024.0]])
def test_fewer_than_three_sizes_give_nothing(pixels):
    assert fit_power_law(pixels, pixels) is None
    assert fit_growth(pixels, pixels) is None


def test_a_logarithm_is_told_from_a_power_law():
    logarithm = fit_growth(PIXELS, [3 + 2 * np.log2(n) for n in PIXELS])
    assert logarithm.nearer == "logarithmic"
    assert (logarithm.intercept, logarithm.slope_per_doubling) == (pytest.approx(3), pytest.approx(2))
    power = fit_growth(PIXELS, PIXELS)
    assert power.nearer == "power"
    assert power.exponent == pytest.approx(1.0)


def test_costs_that_are_not_positive_have_no_law():
    with pytest.raises(ValueError, match="positive"):
        fit_power_law(PIXELS, [0.0, 1.0, 2.0, 3.0])
