"""The board of quality at equal compute: best validation scores within shares of a budget, from curves alone."""

from __future__ import annotations

import pytest

from harness.boards.leaderboard import Leaderboard
from harness.interface.spec import RunSpec
from harness.records.record import Curve, FitRecord, RunRecord, ScoreRecord, identity_of
from harness.report.files import render_board

BOARD = "equal-compute"


def training(model, seconds, valid, *, seed=0, kind="exact", flops=None, machine="a laptop"):
    """A run that validated after so many seconds, by 10 steps each; the last validation may be None."""
    spec = RunSpec(model=model, dataset="digits", metrics=("nll", "flops-training"), seed=seed)
    steps, best = [10 * (k + 1) for k in range(len(seconds))], min(it for it in valid if it is not None)
    curve = Curve(step=steps, epoch=[s / 5 for s in steps], seconds=seconds, loss=[1.0] * len(steps), valid=valid)
    fit = FitRecord(
        steps=steps[-1], epochs=steps[-1] / 5, seconds=seconds[-1], checkpoint="best-on-valid", weights_sha256="w",
        valid_score=best, valid_step=steps[valid.index(best)], curve=curve,
    )  # fmt: skip
    scores = [("nll", 80.0, "nats", kind)] + ([] if flops is None else [("flops-training", flops, "FLOPs", "estimate")])
    return RunRecord(
        run=f"{model}-s{seed}", key="k", identity=identity_of(spec), spec=spec, hyperparameters={}, provider="p",
        code="c", dataset_digest="d", status="done", fit=fit, num_images={"train": 50}, image_shape=(1, 8, 8, 2),
        environment={"device_name": machine, "cores": 2},
        scores={name: ScoreRecord(metric=name, key="k", value=it, unit=unit, kind=of) for name, it, unit, of in scores},
    )  # fmt: skip


def tables(*records):
    return {table.title: table for table in Leaderboard(records).tables(BOARD, "digits")}


def test_a_cell_is_the_best_score_within_its_share_and_says_when_trainings_had_ended():
    found = tables(
        training("long", [2.0, 10.0, 100.0], [90.0, 80.0, 85.0], seed=0),
        training("long", [3.0, 10.0, 90.0], [92.0, 82.0, 81.0], seed=1),
        training("short", [0.5, 5.0], [95.0, 94.0]),
    )
    [(title, table)] = found.items()
    assert title == "exact likelihood: 100 % = 100 s on a laptop, 2 cores"
    long, short = (line.cells for line in table.models)
    assert long["label"].value == "long"
    assert "within_1" not in long
    assert [long[f"within_{share}"].value for share in (3, 10, 30, 100)] == [91.0, 81.0, 81.0, 80.5]
    assert long["within_100"].sd == pytest.approx(0.5**0.5)
    assert {cell.note for key, cell in long.items() if key.startswith("within")} == {""}
    assert [short[f"within_{share}"].note for share in (1, 3, 10, 30, 100)] == ["", "", " ended", " ended", " ended"]
    assert short["within_100"].value == 94.0


def test_kinds_of_likelihood_and_machines_never_share_a_table():
    found = tables(
        training("exact", [1.0, 10.0], [90.0, 80.0]),
        training("bound", [1.0, 20.0], [90.0, 70.0], kind="upper bound"),
        training("elsewhere", [1.0, 30.0], [90.0, 75.0], machine="a rack"),
    )
    assert {title: [row.label for row in table.rows] for title, table in found.items()} == {
        "exact likelihood: 100 % = 10 s on a laptop, 2 cores": ["exact"],
        "exact likelihood: 100 % = 30 s on a rack, 2 cores": ["elsewhere"],
        "bounds: 100 % = 20 s on a laptop, 2 cores": ["bound"],
    }


def test_flops_at_a_step_are_its_share_of_those_that_were_counted():
    counted = training("counted", [1.0, 2.0, 3.0, 4.0], [90.0, 88.0, 86.0, 84.0], flops=4e12)
    first, *_ = tables(counted, training("not", [1.0], [70.0])).items()
    title, table = first
    assert title == "exact likelihood: 100 % = 4.00e12 FLOPs"
    assert [row.label for row in table.rows] == ["counted"]
    assert table.models[0].cells["within_30"].value == 90.0
    none, *_ = tables(training("none counted", [1.0], [70.0], flops=0.0))
    assert none.endswith(" s on a laptop, 2 cores")


def test_nothing_is_ranked_and_every_format_takes_the_board():
    board = Leaderboard([training("a", [1.0], [90.0]), training("b", [1.0], [80.0])])
    assert board.table(BOARD, "digits").rank_best.isna().all()
    assert list(board.table(BOARD, "digits").label) == ["b", "a"]
    for form in ("markdown", "csv", "latex"):
        text = render_board(board, BOARD, form)
        assert "**80" not in text
        assert "textbf" not in text


def test_without_a_curve_there_is_no_such_board():
    record = training("a", [1.0], [90.0])
    bare = record.model_copy(update={"fit": record.fit.model_copy(update={"curve": None})})
    assert BOARD in Leaderboard([record]).boards
    assert BOARD not in Leaderboard([bare]).boards


def test_a_budget_is_the_most_that_was_spent_also_where_a_resumed_training_s_clock_went_back():
    [(title, table), *_] = tables(training("resumed", [1.0, 50.0, 10.0], [90.0, 80.0, 85.0], flops=-1.0)).items()
    assert title.startswith("exact likelihood: 100 % = 50 s on")
    assert table.models[0].cells["within_100"].value == 80.0
