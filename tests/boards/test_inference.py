"""The board of inference, and a value from both sides on that of bounds."""

from __future__ import annotations

from harness.boards.leaderboard import Leaderboard
from harness.interface.spec import RunSpec
from harness.records.record import FitRecord, RunRecord, ScoreRecord, identity_of
from harness.report.files import render_boards

PATH = {"path": "200 steps", "transitions": "10 leapfrog steps", "chains": "16"}
AIS = {"log_weight_variance": 0.4, "effective_sample_size": 9.0}


def run(model, *, gap=0.3, variance=0.4, gap_chains="16"):
    metrics = ("negative-elbo", "iwae-50", "active-units", "kl", "marginal-kl", "ais-200-n100", "bdmc-gap-200")
    spec = RunSpec(model=model, dataset="digits", metrics=metrics)

    def score(metric, value, board="inference", kind="estimate", details=None, protocol=None):
        more = {"details": details or {}, "protocol": protocol or {}}
        return ScoreRecord(
            metric=metric, key="k", value=value, board=board, header=metric, unit="nats", kind=kind, **more
        )

    units = {"units": 60.0, "layer_1_active": 3.0, "layer_1_units": 10.0, "layer_2_active": 20.0, "layer_2_units": 50.0}
    scores = [
        score("negative-elbo", 90.0, "bounds", "upper bound"),
        score("iwae-50", 88.0, "bounds", "upper bound"),
        score("active-units", 23.0, "bounds", details=units),
        score("kl", 25.0, details={"layer_1_nats": 5.0, "layer_2_nats": 20.0}),
        score("marginal-kl", 0.5, details={"accuracy": 0.625}),
        score("ais-200-n100", 87.0, kind="upper bound", details=AIS | {"log_weight_variance": variance}, protocol=PATH),
        score("bdmc-gap-200", gap, kind="upper bound", protocol=PATH | {"chains": gap_chains}),
    ]
    return RunRecord(
        run=model, key="k", identity=identity_of(spec), spec=spec, hyperparameters={}, provider="p", code="c",
        dataset_digest="d", status="done", num_images={"train": 50}, image_shape=(1, 8, 8, 2),
        fit=FitRecord(steps=1, epochs=1.0, seconds=1.0, checkpoint="last", weights_sha256="w"),
        scores={it.metric: it for it in scores},
    )  # fmt: skip


def cells(board, record):
    [table] = Leaderboard([record]).tables(board, "digits")
    return table.lines[0].cells, table


def test_a_row_says_what_each_layer_costs_and_how_many_of_its_units_are_active():
    found, _ = cells("inference", run("vae"))
    assert found["kl"].value == 25.0
    assert found["kl_layers"].value == "5.00, 20.00"
    assert (found["active_units"].value, found["active_units"].note) == (23.0, " of 60 (3 of 10, 20 of 50)")
    assert found["marginal_kl_told_apart"].value == 0.625


def test_ais_stands_beside_how_far_it_is_below_the_bound_of_the_most_samples():
    found, table = cells("inference", run("vae"))
    assert found["ais_200_n100"].kind == "upper bound"
    assert (found["ais_200_n100_below_iwae"].value, found["ais_200_n100_below_iwae"].note) == (1.0, " (K = 50)")
    assert table.by.key == "ais_200_n100"


def test_chains_that_have_not_converged_are_named():
    board = Leaderboard([run("vae", variance=2.5)])
    assert "Not converged" in render_boards(board)["inference.md"].decode()
    assert "Not converged" not in render_boards(Leaderboard([run("vae")]))["inference.md"].decode()


def test_a_bound_whose_gap_is_small_is_shown_from_both_sides():
    found, _ = cells("bounds", run("vae"))
    both = found["nll_from_both_sides"]
    assert (both.value, both.more["_lower"], both.text) == (87.0, 86.7, "86.70 to 87.00")


def test_a_gap_that_is_large_or_of_other_chains_says_nothing_of_the_other_side():
    for other in ({"gap": 1.5}, {"gap_chains": "4"}):
        assert "nll_from_both_sides" not in cells("bounds", run("vae", **other))[0]


def test_ais_stands_for_no_row_on_the_likelihood_board():
    found, _ = cells("likelihood", run("vae"))
    assert found["metric"].value == "iwae-50"
