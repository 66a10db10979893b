"""The committed boards are the same on every machine: the last bits of what is computed reach none of their bytes."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest

from harness.boards import figures, pair_tests
from harness.boards import row as rows
from harness.boards.leaderboard import Leaderboard
from harness.boards.published import load_published
from harness.report.files import check_boards
from harness.suites.suite import Suite

BOARDS = Path(__file__).parents[2] / "leaderboards"
SUITES = ("digits", "known-entropy", "mnist", "mnist-static")


def of_scores(function, noise):
    """The function of an array, off by a few units of the last place of its result, and of what it is computed from."""

    def wrapped(values, *arguments, **options):
        result = function(values, *arguments, **options)
        return result * (1 + noise.choice([-1e-15, 0.0, 1e-15])) + noise.choice([0.0, 1e-16]) * np.abs(values).max()

    return wrapped


def of_numbers(function, noise):
    """The function, its result off by a few units of the last place."""

    def wrapped(*arguments, **options):
        return function(*arguments, **options) * (1 + noise.choice([-1e-15, 1e-15]))

    return wrapped


def board_of(name):
    published = load_published(BOARDS / "published.toml")
    return Leaderboard.read(BOARDS / name, Suite.read(BOARDS / f"{name}.toml"), published=published)


@pytest.fixture
def noisy(monkeypatch):
    """Perturbs every mean, spread, unit and test under the boards."""
    noise = random.Random(0)
    for name in ("mean", "std"):
        monkeypatch.setattr(np, name, of_scores(getattr(np, name), noise))
    for place, name in (
        (np, "einsum"), (np, "stack"), (np, "sqrt"), (pair_tests.special, "stdtr"), (pair_tests.special, "erfc"),
        (rows, "nats_per_bit_per_dim"), (figures, "_mean_square"),
    ):  # fmt: skip
        monkeypatch.setattr(place, name, of_numbers(getattr(place, name), noise))


@pytest.mark.parametrize("name", SUITES)
def test_no_byte_of_a_committed_board_moves_with_the_last_bits(name, noisy):
    assert check_boards(board_of(name), BOARDS / name) == []


def test_the_noise_does_reach_what_is_computed(noisy):
    values = np.array([1.0, 2.0, 4.0])
    assert len({np.mean(values) for _ in range(20)}) > 1
    assert len({figures.deviation(values) for _ in range(20)}) > 1


def test_a_computed_figure_has_ten_digits_and_what_was_recorded_has_all_of_its_own():
    board = board_of("mnist-static")
    table = board.table("likelihood", "mnist-static").set_index("label")
    row = next(row for row in board.rows if row.label == "NADE, 500 hidden units")
    [recorded] = [score.value for _, score in row.scores("nll")]
    assert table.nll_nats[row.label] == recorded
    bits = table.bits_per_dim[row.label]
    assert bits == float(f"{bits:.10g}") != recorded / row.bits_per_dim.factor
