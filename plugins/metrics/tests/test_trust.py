"""The board of metric trust on records with known answers: who follows a damage, who does not, who rewards it."""

from __future__ import annotations

import numpy as np
import pytest

from harness import Leaderboard, RunRecord, RunSpec, ScoreRecord
from harness_metrics.trust_figure import draw

STRENGTHS, SEEDS = (0.0, 0.25, 0.5, 1.0), (0, 1, 2)
METRICS = ("nll", "fid-pixels-n500", "fid-pixels-n100", "kid-pixels-n500", "recall-pixels-n500")


def score(name, value):
    """A score as the metric of that name leaves it."""
    if name == "nll":
        return ScoreRecord(metric=name, key="k", value=value, kind="exact", board="likelihood")
    family, network, size = name.split("-")
    return ScoreRecord(
        metric=name, key="k", value=value, standard_error=0.2, kind="estimate", board="sample-quality", header=family,
        higher_is_better=family == "recall", protocol={"features": f"{network}, 64 dimensions", "samples": size[1:]},
    )  # fmt: skip


def run(model, seed, scores, **hyperparameters):
    spec = RunSpec(model=model, dataset="digits", metrics=METRICS, seed=seed, hyperparameters=hyperparameters)
    where = f"{model}-{'-'.join(map(str, hyperparameters.values()))}-s{seed}"
    return RunRecord(
        run=where, key="k", identity=where, spec=spec, hyperparameters=hyperparameters, provider="p", code="c",
        dataset_digest="d", status="done", num_images={"test": 9}, image_shape=(1, 8, 8, 2),
        scores={name: score(name, value) for name, value in scores.items()},
    )  # fmt: skip


def tried(make, damage="blur", strengths=STRENGTHS):
    """Runs of damaged images; ``make`` gives the scores of a strength and a seed."""
    for strength in strengths:
        for seed in SEEDS:
            name = "none" if strength == 0 else damage
            yield run("corrupted-images", seed, make(strength, seed), damage=name, strength=strength)


def scores(strength, seed):
    """One metric that follows, one of which higher is better that follows, one that is constant."""
    value = 10 * strength + 0.1 * seed
    return {"fid-pixels-n500": value, "recall-pixels-n500": -value, "kid-pixels-n500": 3.0}


def table(records):
    return Leaderboard(list(records)).table("metric-trust", "digits").set_index("label")


def cells(records):
    [found] = Leaderboard(list(records)).tables("metric-trust", "digits")
    return {line.cells["label"].value: line.cells for line in found.models}


# --- the board ---


def test_a_metric_that_follows_has_one_whichever_way_is_up_and_a_constant_one_does_not_move():
    found = table(tried(scores))
    assert (found.loc["fid-pixels-n500", ["blur", "blur_low", "blur_high"]] == 1).all()
    assert (found.loc["recall-pixels-n500", ["blur", "blur_low", "blur_high"]] == 1).all()
    assert (found.loc["kid-pixels-n500", ["blur", "blur_low", "blur_high"]] == 0).all()
    text = {label: (row["blur"].text, row["falls"].text) for label, row in cells(tried(scores)).items()}
    assert text == {
        "fid-pixels-n500": ("+1.00", "1 of 1"),
        "recall-pixels-n500": ("+1.00", "1 of 1"),
        "kid-pixels-n500": ("does not move +0.00", "0 of 1"),
    }


def test_a_metric_that_rises_the_wrong_way_is_seen():
    board = Leaderboard(list(tried(lambda strength, seed: {"fid-pixels-n500": -strength - 0.01 * seed})))
    [found] = board.tables("metric-trust", "digits")
    assert found.lines[0].cells["blur"].text == "wrong way -1.00"
    assert found.lines[0].cells["falls"].part("_wrong_way") == 1
    assert board.board("metric-trust").notes(found) == ["Blur is rewarded by fid-pixels-n500."]


def test_spreads_are_held_against_the_change_that_the_least_strength_makes():
    found = table(tried(scores)).loc["fid-pixels-n500"]
    assert found["reseeding"] == pytest.approx(0.1 / 2.5)  # 0, 0.1, 0.2 over seeds; 10 x 0.25
    assert found["resampling"] == pytest.approx(0.2 / 2.5)
    two = [*tried(scores), *tried(lambda strength, seed: scores(3 * strength, seed), "noise", STRENGTHS[1:])]
    assert table(two).loc["fid-pixels-n500", "reseeding"] == pytest.approx(0.1 / 5)  # the median of 2.5 and 7.5


def test_bias_is_against_the_most_samples_of_the_same_run():
    found = table(tried(lambda strength, seed: {"fid-pixels-n500": strength, "fid-pixels-n100": strength + 2 + seed}))
    assert found.loc["fid-pixels-n100", "bias"] == pytest.approx(3)  # 2, 3, 4: the sd over seeds is 1
    assert np.isnan(found.loc["fid-pixels-n500", "bias"])


def test_agreement_with_the_divergence_is_over_models_of_exact_likelihood():
    fids = (1.0, 3.0, 2.0, 4.0, 5.0)
    models = [run(f"m{n}", 0, {"nll": 10.0 + n, "fid-pixels-n500": fid}) for n, fid in enumerate(fids)]
    found = table([*tried(scores), *models]).loc["fid-pixels-n500"]
    assert found["kl"] == pytest.approx(0.8)  # one pair of ten
    assert found["kl_models"] == 5
    assert found["kl_low"] < 0.8 <= found["kl_high"]
    bound = models[0].scores["nll"].model_copy(update={"kind": "upper bound"})
    models[0] = models[0].model_copy(update={"scores": {**models[0].scores, "nll": bound}})
    assert table([*tried(scores), *models]).loc["fid-pixels-n500", "kl_models"] == 4


def test_without_damaged_images_there_is_neither_board_nor_figure():
    board = Leaderboard([run("m", 0, {"nll": 1.0, "fid-pixels-n500": 2.0})])
    assert "metric-trust" not in board.boards
    assert draw(board, "digits") is None


# --- the figure ---


def test_the_figure_has_a_point_for_each_strength_of_the_most_samples():
    several = tried(lambda strength, seed: {**scores(strength, seed), "fid-pixels-n100": 1.0})
    chart = draw(Leaderboard(list(several)), "digits").to_dict()
    points = chart["datasets"][chart["data"]["name"]]
    found = {point["strength"]: point for point in points if point["metric"] == "fid"}
    assert list(found) == list(STRENGTHS)
    assert found[0.5]["worse"] == pytest.approx(5 / 0.1)
    assert (found[0.5]["low"], found[0.5]["high"]) == pytest.approx((4.9 / 0.1, 5.1 / 0.1))
    assert {point["metric"] for point in points} == {"fid", "recall"}  # without a spread there is no unit
