"""Boards from synthetic records: what may be compared is, what may not is not, and equal records give equal bytes."""

from __future__ import annotations

import csv
import io
import itertools
import re
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import dataclass, field
from html import unescape
from pathlib import Path
from typing import Any

import markdown
import numpy as np
import pytest
from scipy import stats

from harness.boards.figures import Measured, ScoreMatrix
from harness.boards.leaderboard import Leaderboard
from harness.boards.pair_tests import rank
from harness.boards.published import PublishedFigure
from harness.interface.spec import RunSpec
from harness.records.record import Failure, FitRecord, RunRecord, ScoreRecord, identity_of
from harness.report.files import check_boards, render_boards, to_csv, write_boards
from harness.report.markdown import escape
from harness.suites.suite import Suite
from harness.support.numbers import fixed, seconds, short, significant, with_spread

NUM_IMAGES = 200
IMAGES = np.random.default_rng(7).integers(-(2**62), 2**62, NUM_IMAGES)
DIFFICULTY = np.random.default_rng(8).normal(0, 8, NUM_IMAGES)

Arrays = dict[str, tuple[np.ndarray, np.ndarray]]


@dataclass
class Lab:
    """Makes records as a store has them, with their scores per image."""

    suite: Suite
    records: list[RunRecord] = field(default_factory=list)
    per_image: Arrays = field(default_factory=dict)

    def add(
        self, label: str, seed: int = 0, dataset: str = "mnist-static", configuration: int = 0, **changes: Any
    ) -> RunRecord:
        rows = [row for row in self.suite.rows() if (row.label, row.dataset) == (label, dataset)]
        spec = next(spec for spec in rows[0].configurations[configuration] if spec.seed == seed)
        record = make_record(spec, **changes)
        self.records.append(record)
        return record

    def score(
        self, record: RunRecord, metric: str, mean: float, *, kind: str = "exact", noise: float = 1.0, **changes: Any
    ) -> None:
        rng = np.random.default_rng([record.spec.seed, *record.run.encode(), *metric.encode()])
        values = mean + DIFFICULTY - DIFFICULTY.mean() + rng.normal(0, 1, NUM_IMAGES)
        values += mean - values.mean() + rng.normal(0, 0.05)
        self.score_values(record, metric, values, kind=kind, **changes)

    def score_values(
        self, record: RunRecord, metric: str, values: np.ndarray, *, kind: str = "exact", **changes: Any
    ) -> None:
        reference = f"{record.run}/{metric}"
        self.per_image[reference] = (values, IMAGES)
        error = float(values.std(ddof=1) / np.sqrt(len(values)))
        record.scores[metric] = ScoreRecord(
            metric=metric, key="k", value=float(values.mean()), standard_error=error, kind=kind, unit="nats",
            num_images=len(values), per_image=reference, protocol={"split": "test", "images": str(len(values))},
            **changes,
        )  # fmt: skip

    def figure(self, record: RunRecord, metric: str, value: float, name: str | None = None, **changes: Any) -> None:
        score = ScoreRecord(metric=metric, key="k", value=value, kind="estimate", **changes)
        record.scores[name or metric] = score

    def speed(self, record: RunRecord, value: float, fingerprint: str, hardware: str) -> None:
        details = {"batch_16_q25": value * 0.9, "batch_16_q75": value * 1.1, "batch_1_q25": 0.1, "batch_1_q75": 0.2}
        self.figure(
            record, "sampling-throughput", value, f"sampling-throughput@{fingerprint}", stage="speed", unit="images/s",
            fingerprint=fingerprint, hardware=hardware, details=details, higher_is_better=True,
            protocol={"batch size": "16", "sampler": "cached"},
        )  # fmt: skip

    def board(self, **options: Any) -> Leaderboard:
        return Leaderboard(self.records, self.suite, per_image=self.per_image, **options)


def make_record(spec: RunSpec, **changes: Any) -> RunRecord:
    identity = identity_of(spec)
    fit = FitRecord(steps=100, epochs=20.0, seconds=132.0, checkpoint="best-on-valid", weights_sha256="w")
    values: dict[str, Any] = {
        "run": f"{spec.model}-{spec.dataset}-s{spec.seed}-{identity[:10]}", "key": f"key-{identity}",
        "identity": identity, "spec": spec, "hyperparameters": spec.hyperparameters, "provider": "p 1", "code": "c",
        "dataset_digest": "d",
        "split_protocol": "The official split.", "num_images": {"train": 1000, "valid": 100, "test": NUM_IMAGES},
        "image_shape": (1, 28, 28, 2), "status": "done", "fit": fit, "created": "2026-01-01T00:00:00+00:00",
        "scores": {},
    }  # fmt: skip
    return RunRecord(**(values | changes))


def make_suite(*models: dict[str, Any] | str, seeds: Iterable[int] = (0,), metrics: Iterable[str] = ("nll",),
               datasets: Iterable[str] = ("mnist-static",)) -> Suite:  # fmt: skip
    tables = [{"name": model} if isinstance(model, str) else model for model in models]
    content = {
        "title": "Test",
        "datasets": list(datasets),
        "seeds": list(seeds),
        "metrics": list(metrics),
        "models": tables,
    }
    return Suite.parse(content, name="test", source="test")


def section(lines: str, title: str) -> str:
    """The part of a Markdown text from a heading to the next of any level."""
    return lines.split(f"# {title}\n", 1)[1].split("\n#", 1)[0]


def failed(message: str, stage: str = "fit") -> dict[str, Any]:
    return {"status": "failed", "fit": None, "failure": Failure(stage=stage, type="Diverged", message=message)}


@pytest.fixture
def full() -> Lab:
    """All that a board can show: bounds, grids, failures, missing seeds, two machines, a model without likelihood."""
    lab = Lab(
        make_suite(
            {"name": "made", "label": "MADE | wide", "published": "made"}, "vae",
            {"name": "iwae", "grid": {"rate": [0.1, 0.2]}}, "broken", "absent", "gan",
            seeds=(0, 1, 2),
            metrics=("nll", "negative-elbo", "iwae-5", "iwae-50", "active-units", "sampling-throughput",
                     "parameters-training"),
        )
    )  # fmt: skip
    for seed in (0, 1):
        lab.score(lab.add("MADE | wide", seed), "nll", 88.0)
    lab.add("MADE | wide", 2, **failed("loss is nan\nat step 7"))
    for seed in (0, 1, 2):
        vae = lab.add("vae", seed)
        for metric, mean in (("negative-elbo", 92.0), ("iwae-5", 90.5), ("iwae-50", 89.5)):
            lab.score(vae, metric, mean, kind="upper bound")
        lab.figure(vae, "active-units", 20 + seed, details={"units": 50.0})
        for configuration, valid in ((0, 95.0), (1, 85.0)):
            iwae = lab.add("iwae", seed, configuration=configuration)
            lab.figure(iwae, "iwae-50", valid, "valid--iwae-50")
            if configuration == 1:
                lab.score(iwae, "iwae-50", 86.0, kind="upper bound")
        lab.add("broken", seed, status="skipped", fit=None, reason="needs 256 levels")
        lab.add("gan", seed)
    lab.speed(lab.records[0], 100.0, "aaa", "a laptop")
    lab.speed(lab.records[3], 300.0, "bbb", "a GPU")
    lab.speed(lab.records[3], 50.0, "aaa", "a laptop")
    lab.figure(lab.records[0], "parameters-training", 1234.0)
    return lab


def test_the_same_records_give_the_same_bytes(full: Lab) -> None:
    assert render_boards(full.board()) == render_boards(full.board())


def test_the_order_of_the_records_does_not_matter(full: Lab) -> None:
    expected = render_boards(full.board())
    order = np.random.default_rng(0).permutation(len(full.records))
    full.records = [full.records[index] for index in order]
    full.per_image = dict(reversed(full.per_image.items()))
    assert render_boards(full.board()) == expected
    without_suite = [Leaderboard(records, per_image=full.per_image) for records in (full.records, full.records[::-1])]
    assert render_boards(without_suite[0]) == render_boards(without_suite[1])


def test_ranks_are_those_of_the_tests_on_the_raw_scores() -> None:
    means = {"a": 80.0, "b": 80.05, "c": 81.0, "d": 85.0}
    lab = Lab(make_suite(*means, seeds=(0, 1, 2)))
    for model, seed in itertools.product(means, (0, 1, 2)):
        lab.score(lab.add(model, seed), "nll", means[model])
    by_model = {
        model: ScoreMatrix(
            np.stack([lab.per_image[f"{r.run}/nll"][0] for r in lab.records if r.spec.model == model]), IMAGES
        )
        for model in means
    }
    figures = [Measured(item.values.mean(axis=1), item, None, "exact") for item in by_model.values()]
    expected = dict(zip(means, rank(figures).intervals, strict=True))
    table = lab.board().table("likelihood", "mnist-static").set_index("label")
    assert {label: (row.rank_best, row.rank_worst) for label, row in table.iterrows()} == {
        label: (interval.best, interval.worst) for label, interval in expected.items()
    }
    assert set(table.tests_rest_on) == {"seeds x images"}


def test_with_one_seed_ranks_are_those_of_scipys_paired_t_test() -> None:
    lab = Lab(make_suite("a", "b", "c"))
    for model, mean in (("a", 80.0), ("b", 80.05), ("c", 81.0)):
        lab.score(lab.add(model), "nll", mean)
    raw = {record.spec.model: lab.per_image[f"{record.run}/nll"][0] for record in lab.records}
    p_values = {pair: stats.ttest_rel(raw[pair[0]], raw[pair[1]]).pvalue for pair in itertools.combinations("abc", 2)}
    order = sorted(p_values, key=lambda pair: p_values[pair])
    proven = list(itertools.takewhile(lambda pair: p_values[pair] <= 0.05 / (3 - order.index(pair)), order))
    expected = {
        label: (1 + sum(pair[1] == label for pair in proven), 3 - sum(pair[0] == label for pair in proven))
        for label in "abc"
    }
    [table] = lab.board().tables("likelihood", "mnist-static")
    assert {line.row.label: (line.rank.best, line.rank.worst) for line in table.lines} == expected
    assert len(set(expected.values())) > 1
    assert "images alone" in table.ranks.sentence


def test_a_row_shows_mean_and_deviation_over_seeds_and_error_over_images() -> None:
    lab = Lab(make_suite("a", seeds=(0, 1)))
    values = np.stack([np.linspace(80, 90, NUM_IMAGES), np.linspace(81, 93, NUM_IMAGES)])
    for seed in (0, 1):
        lab.score_values(lab.add("a", seed), "nll", values[seed])
    row = lab.board().table("likelihood", "mnist-static").iloc[0]
    assert row.nll_nats == pytest.approx(86.0, rel=1e-9)
    assert row.nll_nats_sd == pytest.approx(np.sqrt(2.0), rel=1e-9)
    assert row.nll_nats_se == pytest.approx(values.mean(0).std(ddof=1) / np.sqrt(NUM_IMAGES), rel=1e-6)
    assert row.bits_per_dim == pytest.approx(86.0 / (784 * np.log(2)), rel=1e-9)


def test_a_bound_is_marked_and_the_lowest_stands_for_the_row(full: Lab) -> None:
    table = full.board().table("likelihood", "mnist-static").set_index("label")
    assert (table.loc["vae", "kind"], table.loc["vae", "metric"]) == ("upper bound", "iwae-50")
    text = render_boards(full.board())["likelihood.md"].decode()
    [line] = [line for line in text.splitlines() if "| vae " in line and "≤" in line]
    assert "≤ 89." in line
    assert "upper bound, iwae-50" in line


def test_an_exact_value_below_a_bound_is_not_ranked_above_it() -> None:
    lab = Lab(make_suite("exact", "bound", "other", metrics=("nll", "negative-elbo")))
    lab.score(lab.add("exact"), "nll", 80.0)
    lab.score(lab.add("bound"), "negative-elbo", 90.0, kind="upper bound")
    lab.score(lab.add("other"), "nll", 95.0)
    table = lab.board().table("likelihood", "mnist-static").set_index("label")
    ranks = {label: (row.rank_best, row.rank_worst) for label, row in table.iterrows()}
    assert ranks == {"exact": (1, 2), "bound": (1, 2), "other": (3, 3)}


def test_different_numbers_of_samples_never_share_a_column() -> None:
    lab = Lab(make_suite("a", "b", metrics=("iwae-5", "iwae-50")))
    lab.score(lab.add("a"), "iwae-5", 80.0, kind="upper bound")
    lab.score(lab.add("b"), "iwae-50", 90.0, kind="upper bound")
    table = lab.board().table("bounds", "mnist-static").set_index("label")
    filled = {
        label: [name for name in ("iwae_5_nats", "iwae_50_nats") if row[name] == row[name]]
        for label, row in table.iterrows()
    }
    assert filled == {"a": ["iwae_5_nats"], "b": ["iwae_50_nats"]}
    assert table.rank_best.isna().to_dict() == {"a": True, "b": False}


def test_bounds_are_ranked_by_the_most_samples_whatever_the_order_of_the_metrics() -> None:
    lab = Lab(make_suite("a", "b", metrics=("iwae-500", "negative-elbo", "iwae-5")))
    for model, few, many in (("a", 80.0, 79.0), ("b", 85.0, 70.0)):
        record = lab.add(model)
        for metric, mean in (("negative-elbo", few + 1), ("iwae-5", few), ("iwae-500", many)):
            lab.score(record, metric, mean, kind="upper bound")
    table = lab.board().table("bounds", "mnist-static")
    assert list(table.label) == ["b", "a"]
    assert set(table.ranked_by) == {"iwae_500_nats"}


def test_bounds_in_bits_are_ranked_by_the_most_samples_too() -> None:
    lab = Lab(make_suite("a", "b", metrics=("bits-per-dim-bound", "bits-per-dim-iwae-9", "bits-per-dim-iwae-10")))
    for model, few, many in (("a", 80.0, 79.0), ("b", 85.0, 70.0)):
        record = lab.add(model)
        for kind, mean in (("bound", few + 1), ("iwae-9", few), ("iwae-10", many)):
            lab.score(record, metric := f"bits-per-dim-{kind}", mean, kind="upper bound")
            record.scores[metric] = record.scores[metric].model_copy(update={"unit": "bits/dim"})
    table = lab.board().table("bounds", "mnist-static")
    assert list(table.label) == ["b", "a"]
    assert set(table.ranked_by) == {"bits_per_dim_iwae_10"}
    assert set(lab.board().table("likelihood", "mnist-static").metric) == {"bits-per-dim-iwae-10"}


def test_failed_skipped_and_absent_runs_stay_on_every_board(full: Lab) -> None:
    files = render_boards(full.board())
    for board in full.board().boards:
        missing = re.sub(" +", " ", section(files[f"{board}.md"].decode(), "Missing"))
        assert "| broken | 0, 1, 2 | skipped | needs 256 levels |" in missing
        assert "| absent | 0, 1, 2 | not run | no record |" in missing
        assert ("| MADE \\| wide | 2 | failed | fit: Diverged: loss is nan at step 7 |" in missing) == (
            board in ("likelihood", "cost")
        )
        table = full.board().table(board, "mnist-static").set_index("label")
        assert list(table.status[["broken", "absent"]]) == ["skipped", "not run"]


def test_a_model_that_the_metrics_do_not_apply_to_is_named_as_such(full: Lab) -> None:
    board = full.board()
    status = {name: board.table(name, "mnist-static").set_index("label").status for name in board.boards}
    assert [status[name]["gan"] for name in board.boards] == [
        "no likelihood",
        "no bound",
        "not measured",
        "not measured",
    ]
    assert status["bounds"]["MADE | wide"] == "no bound"


def test_a_failed_score_stands_on_its_board() -> None:
    lab = Lab(make_suite("a", "b"))
    lab.score(lab.add("a"), "nll", 80.0)
    failure = Failure(stage="nll", type="NonFiniteScore", message="3 of 200 images score inf")
    broken = lab.add("b", status="failed")
    broken.scores["nll"] = ScoreRecord(metric="nll", key="k", status="failed", failure=failure)
    table = lab.board().table("likelihood", "mnist-static").set_index("label")
    assert table.loc["b", "status"] == "failed"
    assert table.loc["b", "problems"] == "failed (seeds 0): nll: NonFiniteScore: 3 of 200 images score inf"


def test_a_row_says_how_many_of_its_seeds_it_has(full: Lab) -> None:
    assert "| 2 of 3 seeds |" in render_boards(full.board())["likelihood.md"].decode()


def test_two_machines_are_never_in_one_table(full: Lab) -> None:
    text = render_boards(full.board())["throughput.md"].decode()
    laptop, accelerator = section(text, "a laptop (aaa)"), section(text, "a GPU (bbb)")
    assert "100 (90.0–110)" in laptop
    assert "50.0 (45.0–55.0)" in laptop
    assert "300" not in laptop
    assert "300 (270–330)" in accelerator
    assert "MADE" not in accelerator
    table = full.board().table("throughput", "mnist-static")
    assert table.groupby("fingerprint").label.agg(list).to_dict() == {"aaa": ["MADE | wide", "vae"], "bbb": ["vae"]}


def test_a_grid_shows_the_best_on_validation_and_how_many_were_tried(full: Lab) -> None:
    row = full.board().table("likelihood", "mnist-static").set_index("label").loc["iwae"]
    assert row.configurations_tried == 2
    assert row.nll_nats == pytest.approx(86.0, abs=0.2)
    assert "iwae (best of 2 on validation)" in render_boards(full.board())["likelihood.md"].decode()


def test_failed_configurations_of_a_grid_are_visible() -> None:
    lab = Lab(make_suite({"name": "a", "grid": {"rate": [1, 2, 3]}}))
    record = lab.add("a", configuration=1)
    lab.figure(record, "nll", 80.0, "valid--nll")
    lab.score(record, "nll", 80.0)
    lab.add("a", configuration=2, **failed("loss is inf"))
    [row] = lab.board().table("likelihood", "mnist-static").itertuples()
    assert row.problems.startswith("not run (seeds 0): 2 of 3 configurations could not be chosen from")
    lab.records = [lab.records[1]]
    [row] = lab.board().table("likelihood", "mnist-static").itertuples()
    assert "3 of 3 configurations" in row.problems


@pytest.mark.parametrize(
    ("value", "judgement"), [(88.0, "reproduced"), (70.0, "under-trained"), (None, "not comparable")]
)
def test_a_published_figure_stands_beside_ours_with_a_verdict(full: Lab, value: float | None, judgement: str) -> None:
    theirs = PublishedFigure(
        slug="made", label="MADE", dataset="mnist-static" if value else "mnist-dynamic", metric="nll", kind="exact",
        value=value or 88.0, printed=f"{value or 88.0}", unit="nats", tags=("P",), verified=True, split="test",
        model="made", source="Table 3 of the paper",
    )  # fmt: skip
    board = full.board(published={"made": theirs})
    row = board.table("likelihood", "mnist-static").set_index("label").loc["MADE | wide"]
    assert (row.verdict, row.published_value, row.published_tags) == (judgement, value or 88.0, "P")
    text = render_boards(board)["likelihood.md"].decode()
    assert f"| {value or 88.0:.2f} \\[P\\] | {judgement}" in text
    assert "Table 3 of the paper" in text


@pytest.mark.parametrize("metrics", [("negative-elbo",), ("bits-per-dim-bound", "bits-per-dim-iwae-10")])
def test_a_bound_of_one_draw_is_compared_with_published_bits_per_dim(metrics: tuple[str, ...]) -> None:
    lab = Lab(make_suite({"name": "flow", "published": "flow"}, metrics=metrics))
    record, bit = lab.add("flow"), 784 * np.log(2)
    for metric, bits in zip(metrics, (3.49, 3.0), strict=False):
        unit, size = ("bits/dim", 1) if metric.startswith("bits") else ("nats", bit)
        lab.score(record, metric, bits * size, kind="upper bound")
        record.scores[metric] = record.scores[metric].model_copy(update={"unit": unit, "value": bits * size})
    theirs = PublishedFigure(
        slug="flow", label="Flow", dataset="mnist-static", metric="bits-per-dim", kind="upper bound", value=3.49,
        printed="3.49", unit="bits/dim", tags=("P",), verified=True, split="test",
    )  # fmt: skip
    row = lab.board(published={"flow": theirs}).table("likelihood", "mnist-static").iloc[0]
    assert row.verdict == "reproduced"


def test_an_unknown_published_figure_is_an_error_that_says_which_row(full: Lab) -> None:
    with pytest.raises(
        ValueError, match=r"'made': published.toml beside the suite has no such figure; did you mean 'mad'"
    ):
        full.board(published={"mad": None}).table("likelihood", "mnist-static")  # type: ignore[dict-item]


def test_two_records_of_one_run_are_refused(full: Lab) -> None:
    full.records.append(full.records[0].model_copy(update={"run": "other", "key": "other"}))
    with pytest.raises(ValueError, match="before and after a change"):
        full.board()


HOSTILE = 'a|b\n<script>alert(1)</script> **x** `y` [z](http://w) _u_ \\ & "q", =1'


def test_markdown_prints_labels_as_they_are() -> None:
    lab = Lab(make_suite({"name": "a", "label": HOSTILE}))
    lab.score(lab.add(HOSTILE), "nll", 80.0)
    html = markdown.markdown(render_boards(lab.board())["likelihood.md"].decode(), extensions=["tables"])
    shown = html.split("<td")[2].split(">", 1)[1].split("</td>")[0]
    assert "<script" not in html
    assert unescape(shown) == " ".join(HOSTILE.split())


def test_escaping_leaves_hyperparameter_names_readable() -> None:
    assert escape("made (hidden_size=500)") == "made (hidden_size=500)"


@pytest.mark.parametrize("text", ["a {: onclick=alert(1) }", "a { #id onmouseover=alert(1) }"])
def test_a_text_gives_no_attributes_to_what_it_stands_in(text):
    page = f"# {escape(text)}\n\n| {escape(text)} | b |\n| --- | --- |\n| {escape(text)} | c |\n"
    shown = markdown.markdown(page, extensions=["tables", "attr_list", "md_in_html"])
    assert shown.count(text) == 3


@pytest.mark.parametrize("label", ["=1+1", "+1", "-1", "@SUM(A1)", " =1", "\n=1", "a\nb", 'x,"y"'])
def test_csv_has_no_cell_that_is_a_formula_and_no_line_break_in_one(label: str) -> None:
    lab = Lab(make_suite({"name": "a", "label": label}))
    lab.score(lab.add(label), "nll", -80.0)
    text = render_boards(lab.board())["likelihood.csv"].decode()
    assert len(text.splitlines()) == 2
    [row] = csv.DictReader(io.StringIO(text))
    assert row["label"].removeprefix("'") == " ".join(label.split())
    assert not row["label"].startswith(("=", "+", "-", "@"))
    assert float(row["nll_nats"]) < 0  # numbers are left alone


def test_csv_keeps_full_precision(full: Lab) -> None:
    table = full.board().table("likelihood", "mnist-static")
    rows = list(csv.DictReader(io.StringIO(to_csv([table]))))
    for name in ("nll_nats", "nll_nats_sd", "nll_nats_se", "bits_per_dim"):
        assert [float(row[name]) for row in rows if row[name]] == list(table[name].dropna())


def test_check_finds_an_edit_of_one_character_and_a_lost_file(full: Lab, tmp_path: Path) -> None:
    board = full.board()
    files = write_boards(board, tmp_path)
    assert check_boards(board, tmp_path) == []
    content = files[0].read_bytes()
    assert b"MADE" in content
    files[0].write_bytes(content.replace(b"MADE", b"MADF", 1))
    files[1].unlink()
    assert check_boards(board, tmp_path) == [files[0].name, files[1].name]


def test_check_finds_a_board_that_the_suite_does_not_have(tmp_path: Path) -> None:
    lab = Lab(make_suite("a"))
    lab.score(lab.add("a"), "nll", 80.0)
    (tmp_path / "bounds.md").write_text("<!-- Generated from records by `harness leaderboard`; edits are lost. -->")
    (tmp_path / "README.md").write_text("mine")
    assert check_boards(lab.board(), tmp_path) == ["likelihood.md", "likelihood.csv", "bounds.md"]
    write_boards(lab.board(), tmp_path)
    assert check_boards(lab.board(), tmp_path) == []
    assert (tmp_path / "README.md").read_text() == "mine"


def test_without_a_suite_rows_are_models_with_hyperparameters_and_budget() -> None:
    specs = [
        RunSpec(model="m", dataset="d", metrics=("nll",), hyperparameters=hyperparameters, budget=budget, seed=seed)
        for hyperparameters, budget in (({}, "1 epochs"), ({}, "2 epochs"), ({"width": 3}, None))
        for seed in (0, 1)
    ]
    board = Leaderboard([make_record(spec) for spec in specs])
    assert {row.label: row.seeds for row in board.rows} == {
        "m, 1 epochs": (0, 1), "m, 2 epochs": (0, 1), "m (width=3)": (0, 1)
    }  # fmt: skip


def test_random_data_show_the_share_of_the_draws() -> None:
    lab = Lab(make_suite("a"))
    lab.score(lab.add("a"), "nll", 80.0, details={"draw_share_of_variance": 0.125})
    assert lab.board().table("likelihood", "mnist-static").draw_share_of_variance[0] == 0.125
    assert "12.5 %" in render_boards(lab.board())["likelihood.md"].decode()


def test_test_images_among_the_training_images_are_said_above_the_table() -> None:
    lab = Lab(make_suite("nade"))
    counts = {"train": 1000, "valid": 100, "test": NUM_IMAGES, "test in train": 7, "levels used": 2}
    lab.score(lab.add("nade", num_images=counts, image_shape=(1, 28, 28, 256)), "nll", 90.0)
    head = section(render_boards(lab.board())["likelihood.md"].decode(), "mnist-static").partition("| Rank")[0]
    assert f"Attention: 7 of {NUM_IMAGES} test images are also in train." in head
    assert "Attention: the images use 2 of 256 levels." in head


def test_boards_are_built_without_torch() -> None:
    code = "import sys, harness.boards.leaderboard, harness.report; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


@pytest.mark.parametrize(
    ("printed", "expected"),
    [
        (fixed(-0.001, 2), "0.00"), (fixed(12345.678, 2), "12,345.68"), (short(20.0), "20"),
        (with_spread(88.3, 0.001, None, 2), "88.30 ± <0.01"),
        (with_spread(88.333, 0.05, 0.2, 2), "88.33 ± 0.05 (0.20)"), (significant(12345.6), "12,300"),
        (significant(0.012345), "0.0123"), (significant(9.999), "10.0"), (significant(1e-7), "1.00e-07"),
        (seconds(90.0), "90.0 s"), (seconds(7200.0), "2.00 h"), (seconds(0.0123), "12.3 ms"),
        (seconds(600), "10.0 min"),
    ],
)  # fmt: skip
def test_numbers_print_as(printed: str, expected: str) -> None:
    assert printed == expected


def test_boards_that_are_read_have_the_rows_of_the_suite_beside_them():
    folder = Path(__file__).parents[2] / "leaderboards" / "first"
    found = Leaderboard.read(folder).table("likelihood", "digits")
    with (folder / "likelihood.csv").open(newline="") as file:
        assert list(found["label"]) == [row["label"] for row in csv.DictReader(file)]
