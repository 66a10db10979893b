"""Committed files are the same on every machine: the last bits of what is computed reach none of them."""

import random
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from harness.profiling import files, profile
from harness.profiling.files import render_profile
from harness.profiling.profile import GenerationProfile, read_measurements
from harness.profiling.tables import tables_of
from harness.support.numbers import ten_digits

BOARDS = Path(__file__).parents[2] / "leaderboards"
SPEED = BOARDS / "generation-speed"


def perturbed(function, noise):
    """The function, its results off by a few units of the last place."""

    def wrapped(*arguments):
        result = function(*arguments)
        if isinstance(result, tuple):
            return tuple(value * (1 + noise.choice([-1e-15, 0, 1e-15])) for value in result)
        return result * (1 + noise.choice([-1e-15, 1e-15]))

    return wrapped


def speed_files():
    asked = GenerationProfile.read(BOARDS / "generation-speed.toml")
    labels = [row.row_label for row in asked.models]
    machines = tables_of(read_measurements(SPEED / "measurements.jsonl"), labels=labels, baseline=asked.baseline)
    command = "harness profile report generation-speed"
    written = render_profile(asked.title, machines, stem="generation-speed", command=command)
    return {name: content.decode() for name, content in written.items()}


@pytest.mark.parametrize("seed", range(4))
def test_no_byte_of_the_profile_depends_on_a_processors_last_bits(monkeypatch, seed):
    noise = random.Random(seed)
    for module in (files, profile):
        monkeypatch.setattr(module, "median", perturbed(module.median, noise))
    monkeypatch.setattr(stats.t, "ppf", perturbed(stats.t.ppf, noise))
    for name in ("log", "log2", "polyfit", "quantile"):
        monkeypatch.setattr(np, name, perturbed(getattr(np, name), noise))
    for name, text in speed_files().items():
        assert text == (SPEED / name).read_text(encoding="utf-8"), name


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (2 / 3, 0.6666666667),
        (-1234567.890123, -1234567.89),
        (1.2345e-300, 1.2345e-300),
        (-0.0, 0.0),
        (float("inf"), float("inf")),
    ],
)
def test_ten_digits_are_kept(value, expected):
    assert repr(ten_digits(value)) == repr(expected)


def test_a_number_halfway_is_rounded_alike_on_either_side_of_the_last_bit():
    halfway = 1.23456789005
    found = {ten_digits(halfway * (1 + part)) for part in (-4e-16, 0, 4e-16)}
    assert len(found) == 1
