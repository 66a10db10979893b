"""Sampling speed against likelihood: which rows are points, where they stand, and that no two names overlap."""

import itertools
from pathlib import Path

import numpy as np
import pytest

from harness import Leaderboard
from harness.builtin.figures.speed import _apart, draw

BOARDS = Path(__file__).parents[2] / "leaderboards"


def points(suite, dataset):
    board = Leaderboard.read(BOARDS / suite)
    chart = draw(board, dataset).to_dict()
    assert len(chart["vconcat"]) == 1  # one machine
    return board, chart["datasets"][chart["data"]["name"]]


def test_every_model_with_a_likelihood_and_a_speed_is_a_point_at_its_fastest_sampler():
    board, values = points("first", "digits")
    speeds = board.table("throughput", "digits").set_index("label")
    scores = board.table("likelihood", "digits").query("role == 'model'").set_index("label")
    assert {row["label"] for row in values} == set(scores.index[scores["nll_nats"].notna()]) & set(speeds.index)
    for row in values:
        assert row["speed"] >= speeds.loc[row["label"], "sampling_images_per_second"] * (1 - 1e-9)
        assert row["score"] == pytest.approx(scores.loc[row["label"], "nll_nats"])
        assert row["kind"] == scores.loc[row["label"], "kind"]


def test_a_suite_in_bits_per_dim_is_drawn_in_them():
    board, values = points("mnist", "mnist")
    bits = board.table("likelihood", "mnist").set_index("label")["bits_per_dim"]
    assert all(row["score"] == pytest.approx(bits[row["label"]]) for row in values)


def test_without_speeds_there_is_no_figure():
    assert draw(Leaderboard.read(BOARDS / "known-entropy"), "ising-8x8") is None


@pytest.mark.parametrize("scores", [[0.0], [0, 0, 0], [0, 5, 5.1, 5.2, 9], [1, 1.5, 2.1, 8, 8]])
def test_names_are_a_line_apart_in_order_and_as_near_to_their_points_as_can_be(scores):
    places = np.array(_apart(scores, 1.0))
    assert (np.diff(places) >= 1 - 1e-9).all()
    far = sum((places - scores) ** 2)
    for moved in itertools.product((-0.01, 0, 0.01), repeat=len(scores)):
        other = places + moved
        assert (np.diff(other) < 1 - 1e-9).any() or sum((other - scores) ** 2) >= far - 1e-9
