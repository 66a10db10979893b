"""The sample-quality board from synthetic records: one protocol a column, no failed seed in a mean, ranks as tested."""

from __future__ import annotations

import csv
import io
import itertools
import re
from dataclasses import dataclass, field
from html import unescape
from pathlib import Path
from typing import Any

import markdown
import numpy as np
import pandas as pd
import pytest
from scipy import stats

from harness.boards.figures import Figure
from harness.boards.leaderboard import Leaderboard
from harness.boards.published import PublishedFigure, load_published
from harness.records.archive import Archive, write_archive
from harness.records.record import FAILURES, Failure, FitRecord, RunRecord, ScoreRecord, identity_of
from harness.report.files import check_boards, render_board, render_boards, to_csv, write_boards
from harness.report.pages import picture_names
from harness.suites.suite import Suite

PUBLISHED = Path(__file__).parents[2] / "leaderboards" / "published.toml"
PROTOCOL = {
    "samples": "10000", "reference": "test, 10000 images", "features": "lenet-mnist, 84 dimensions",
    "network digest": "0123456789abcdef", "resize": "none", "device": "cpu",
}  # fmt: skip
HALVES = {"halves": 0.5, "halves_low": 0.41, "halves_high": 0.63, "halves_images": 5000.0}


@dataclass
class Lab:
    """Makes records as a store has them."""

    suite: Suite
    records: list[RunRecord] = field(default_factory=list)

    def add(self, label: str, seed: int = 0, dataset: str = "mnist", **changes: Any) -> RunRecord:
        [row] = [row for row in self.suite.rows() if (row.label, row.dataset) == (label, dataset)]
        spec = next(spec for spec in row.configurations[0] if spec.seed == seed)
        identity = identity_of(spec)
        values: dict[str, Any] = {
            "run": f"{spec.model}-{dataset}-s{seed}-{identity[:10]}", "key": f"key-{identity}", "identity": identity,
            "spec": spec, "hyperparameters": {}, "provider": "p 1", "code": "c", "dataset_digest": "d",
            "num_images": {"train": 1000, "valid": 100, "test": 200}, "image_shape": (1, 28, 28, 2), "status": "done",
            "fit": FitRecord(steps=9, epochs=2.0, seconds=3.0, checkpoint="last", weights_sha256="w"),
            "scores": {},
        }  # fmt: skip
        self.records.append(RunRecord(**{**values, **changes}))
        return self.records[-1]

    def board(self, **options: Any) -> Leaderboard:
        return Leaderboard(self.records, self.suite, **options)

    def table(self, dataset: str = "mnist", **options: Any) -> Any:
        return self.board(**options).table("sample-quality", dataset).set_index("label")

    def text(self, **options: Any) -> str:
        return render_boards(self.board(**options))["sample-quality.md"].decode()


def score(
    record: RunRecord, value: float, metric: str = "fid-lenet", error: float | None = None, **protocol: str
) -> None:
    details = dict(HALVES)
    if error is not None:
        details |= {"standard_error_samples": 0.6 * error, "standard_error_reference": 0.8 * error}
    record.scores[metric] = ScoreRecord(
        metric=metric, key="k", value=value, kind="estimate", standard_error=error, details=details,
        protocol={**PROTOCOL, **{name.replace("_", " "): words for name, words in protocol.items()}},
    )  # fmt: skip


def fail(record: RunRecord, status: str, message: str, metric: str = "fid-lenet") -> None:
    failure = Failure(stage=metric, type="Broken", message=message, status=status)  # type: ignore[arg-type]
    record.scores[metric] = ScoreRecord(metric=metric, key="k", status=status, failure=failure)  # type: ignore[arg-type]


def make_lab(*models: Any, seeds: int = 1, metrics: tuple[str, ...] = ("fid-lenet",), **content: Any) -> Lab:
    tables = [{"name": model} if isinstance(model, str) else model for model in models]
    suite = {"title": "T", "datasets": ["mnist"], "seeds": list(range(seeds)), "metrics": list(metrics), **content}
    return Lab(Suite.parse({**suite, "models": tables}, name="t", source="t"))


def cells(text: str) -> dict[str, dict[str, str]]:
    """The rows of all tables of a Markdown text, by their model or first cell; of two, the first."""
    rows = {}
    head: list[str] = []
    lines = [re.split(r"(?<!\\)\|", line)[1:-1] if line.startswith("|") else [] for line in text.splitlines()]
    for before, line in itertools.pairwise([[], *lines]):
        words = [cell.strip() for cell in line]
        if line and not before:
            head = words
        elif line and not set("".join(words)) <= {"-", ":"}:
            row = dict(zip(head, words, strict=True))
            rows.setdefault(row.get("Model", words[0]), row)
    return rows


def filled(row: pd.Series) -> list[str]:
    """The columns of figures in which a row of a table has one."""
    names = [str(name) for name in row.index]
    return [name for name in names if re.fullmatch(r"(fid|kid)_[a-z]+(__\d+)?", name) and not pd.isna(row[name])]


# --- columns ---


@pytest.mark.parametrize(
    ("protocol", "header"),
    [
        ({"features": "pixels, 784 dimensions"}, "FID, pixels (784 dimensions) ↓"),
        ({"samples": "2000"}, "FID, lenet-mnist (84 dimensions), samples 2000 ↓"),
        ({"reference": "test, 500 images"}, "FID, lenet-mnist (84 dimensions), reference test, 500 images ↓"),
        ({"network_digest": "fedcba9876543210"}, "FID, lenet-mnist (84 dimensions), network digest fedcba9876543210 ↓"),
        ({"new_key": "x"}, "FID, lenet-mnist (84 dimensions), new key x ↓"),
    ],
)
def test_a_different_protocol_never_shares_a_column(protocol: dict[str, str], header: str) -> None:
    lab = make_lab("a", "b", "c")
    score(lab.add("a"), 1.0, error=0.1)
    score(lab.add("b"), 2.0, error=0.1)
    score(lab.add("c"), 3.0, error=0.1, **protocol)
    table = lab.table()
    assert {label: filled(row) for label, row in table.iterrows()} == {
        "a": ["fid_lenet"], "b": ["fid_lenet"], "c": ["fid_lenet__2"]
    }  # fmt: skip
    assert table.rank_best.isna().to_dict() == {"a": False, "b": False, "c": True}
    rows = cells(lab.text())
    [other] = [name for name, cell in rows["a"].items() if "FID" in name and cell != "–"]
    assert rows["c"][header].startswith("3.0")
    assert rows["c"][other] == rows["a"][header] == "–"


def test_figures_of_two_devices_share_a_column() -> None:
    lab = make_lab("a", "b")
    score(lab.add("a"), 1.0, device="cpu")
    score(lab.add("b"), 2.0, device="cuda")
    assert {label: filled(row) for label, row in lab.table().iterrows()} == {"a": ["fid_lenet"], "b": ["fid_lenet"]}


def test_protocols_of_two_datasets_do_not_share_a_column_of_the_csv() -> None:
    lab = make_lab("a", datasets=["mnist", "fashion-mnist"])
    score(lab.add("a"), 1.0)
    score(lab.add("a", dataset="fashion-mnist"), 2.0, features="lenet-fashion-mnist, 84 dimensions")
    lines = list(csv.DictReader(io.StringIO(render_boards(lab.board())["sample-quality.csv"].decode())))
    for name in ("fid_lenet", "fid_lenet__2"):
        assert len({line[f"{name}_protocol"] for line in lines if line[name]}) == 1
    assert [(line["fid_lenet"], line["fid_lenet__2"]) for line in lines] == [("1.0", ""), ("", "2.0")]


def test_seeds_of_two_protocols_are_not_averaged() -> None:
    lab = make_lab("a", seeds=3)
    for seed, (value, digest) in enumerate([(1.0, "old"), (2.0, "new"), (4.0, "new")]):
        score(lab.add("a", seed), value, error=0.1, network_digest=digest)
    row = lab.table().loc["a"]
    assert (row.fid_lenet, row.fid_lenet_seeds, row.fid_lenet__2, row.fid_lenet__2_seeds) == (3.0, 2, 1.0, 1) or (
        row.fid_lenet, row.fid_lenet_seeds, row.fid_lenet__2, row.fid_lenet__2_seeds
    ) == (1.0, 1, 3.0, 2)  # fmt: skip
    assert cells(lab.text())["a"]["Seeds"] in ("2 of 3 seeds", "1 of 3 seeds")


def test_two_metrics_of_one_protocol_have_two_columns() -> None:
    lab = make_lab("a", metrics=("fid", "fid-lenet"))
    record = lab.add("a")
    score(record, 1.0, "fid")
    score(record, 2.0, "fid-lenet")
    row = cells(lab.text())["a"]
    assert {name: row[name] for name in row if "FID" in name} == {
        "FID, lenet-mnist (84 dimensions), fid ↓": "1.00", "FID, lenet-mnist (84 dimensions), fid-lenet ↓": "2.00"
    }  # fmt: skip


def test_the_board_is_ranked_by_the_first_metric_in_the_column_of_most_rows() -> None:
    lab = make_lab("a", "b", "c", "d", metrics=("kid-lenet", "fid-lenet"))
    for label, kid, samples in (("a", 0.3, "2000"), ("b", 0.2, "10000"), ("c", 0.1, "10000")):
        record = lab.add(label)
        score(record, kid, "kid-lenet", 0.001, samples=samples)
        score(record, 1 - kid, "fid-lenet", 0.001)
    score(lab.add("d"), 0.0, "fid-lenet", 0.001)
    table = lab.table()
    assert list(table.index) == ["c", "b", "a", "d"]
    assert list(table.rank_best.fillna(0)) == [1, 2, 0, 0]
    assert set(table.ranked_by.dropna()) == {"kid_lenet"}
    assert "Ranked by KID × 1,000, lenet-mnist (84 dimensions), samples 10000." in lab.text()


# --- figures ---


def test_kid_is_printed_times_a_thousand_and_written_to_csv_as_it_is() -> None:
    lab = make_lab("a", metrics=("kid-lenet",))
    score(lab.add("a"), -0.00123, "kid-lenet", 0.00045)
    assert cells(lab.text())["a"]["KID × 1,000, lenet-mnist (84 dimensions) ↓"] == "-1.23 (0.45)"
    assert lab.table().kid_lenet["a"] == -0.00123


def test_several_seeds_print_their_deviation_and_one_its_resampling_error() -> None:
    lab = make_lab("a", "b", seeds=2)
    for seed, value in enumerate([10.0, 12.0]):
        score(lab.add("a", seed), value, error=0.5)
    score(lab.add("b"), 20.0, error=0.5)
    rows = cells(lab.text())
    header = "FID, lenet-mnist (84 dimensions) ↓"
    assert (rows["a"][header], rows["b"][header]) == ("11.00 ± 1.41 (0.45)", "20.00 (0.50)")
    assert lab.table().fid_lenet_sd["a"] == pytest.approx(np.sqrt(2))


def test_the_error_of_a_mean_falls_with_seeds_for_the_samples_and_not_for_the_shared_reference() -> None:
    lab = make_lab("a", seeds=3)
    records = [lab.add("a", seed) for seed in range(3)]
    for record in records:
        score(record, 1.0, error=5.0)  # of which 3 are the samples', and 4 the reference's
    scores = tuple(record.scores["fid-lenet"] for record in records)
    assert Figure("", tuple(records[:1]), scores[:1], "").error == pytest.approx(5.0)
    assert Figure("", tuple(records), scores, "").error == pytest.approx(np.sqrt(9 / 3 + 16))


def test_two_halves_of_the_reference_are_told_a_line_a_column() -> None:
    lab = make_lab("a", "b", metrics=("fid-lenet", "kid-pixels"))
    for label in "ab":
        record = lab.add(label)
        score(record, 9.0, error=0.2)
        score(record, 0.5, "kid-pixels", 0.02, features="pixels, 784 dimensions")
    text = lab.text()
    half = "two halves of the reference of 5,000 images each give"
    assert text.count(half) == 2
    assert f"- FID, lenet-mnist (84 dimensions): {half} 0.50 (0.41 to 0.63)." in text
    assert f"- KID × 1,000, pixels (784 dimensions): {half} 500.00 (410.00 to 630.00)." in text


# --- failures ---


def test_a_degenerate_seed_is_named_and_not_averaged_in() -> None:
    lab = make_lab("a", seeds=5)
    for seed in range(4):
        score(lab.add("a", seed), 10.0 + seed, error=0.1)
    fail(lab.add("a", 4, status="degenerate"), "degenerate", "all 10000 samples are the same image")
    row = lab.table().loc["a"]
    assert (row.fid_lenet, row.fid_lenet_seeds, row.seeds, row.seeds_planned) == (11.5, 4, 4, 5)
    assert row.fid_lenet_sd == pytest.approx(np.std([10, 11, 12, 13], ddof=1))
    assert "degenerate (seeds 4)" in row.problems
    here, missing = lab.text().split("### Missing")
    assert cells(here)["a"]["Seeds"] == "4 of 5 seeds"
    row = cells(missing)["a"]
    assert (row["Seeds"], row["Status"]) == ("4", "degenerate")
    assert row["Reason"] == "fid-lenet: Broken: all 10000 samples are the same image"


def test_seeds_that_failed_in_different_ways_are_all_told() -> None:
    lab = make_lab("a", seeds=4)
    score(lab.add("a", 0), 10.0)
    fail(lab.add("a", 1, status="degenerate"), "degenerate", "one image")
    failure = Failure(stage="fit", type="TimedOut", message="60 s", status="timed-out")
    lab.add("a", 2, status="timed-out", fit=None, failure=failure)
    problems = lab.table().loc["a"].problems
    assert problems == (
        "degenerate (seeds 1): fid-lenet: Broken: one image; timed-out (seeds 2): fit: TimedOut: 60 s; "
        "not run (seeds 3): no record"
    )


@pytest.mark.parametrize("status", sorted(FAILURES))
@pytest.mark.parametrize("stage", ["fit", "fid-lenet"])
def test_a_row_whose_runs_have_all_failed_is_missing_with_its_status(status: Any, stage: str) -> None:
    lab = make_lab("a", "b", seeds=2)
    for seed in (0, 1):
        score(lab.add("a", seed), 10.0)
        if stage == "fit":
            failure = Failure(stage="fit", type="Broken", message="why", status=status)
            lab.add("b", seed, status=status, fit=None, failure=failure)
        else:
            fail(lab.add("b", seed, status=status), status, "why")
    assert lab.table().status.to_dict() == {"a": "done", "b": status}
    row = cells(lab.text().split("### Missing")[1])["b"]
    assert (row["Seeds"], row["Status"], row["Reason"]) == ("0, 1", status, f"{stage}: Broken: why")


# --- ranks ---


def step_down(p_values: dict[tuple[str, str], float]) -> list[tuple[str, str]]:
    """The pairs that Holm's method rejects at 5 %."""
    order = sorted(p_values, key=lambda pair: p_values[pair])
    number = len(order)
    return list(itertools.takewhile(lambda pair: p_values[pair] <= 0.05 / (number - order.index(pair)), order))


def test_with_one_seed_ranks_are_those_of_z_tests_on_the_resampling_errors() -> None:
    lab = make_lab(*"abcde")
    figures = {"a": (10.0, 0.3), "b": (10.8, 0.3), "c": (12.0, 0.2), "d": (12.6, 0.4), "e": (30.0, 3.0)}
    for label, (value, error) in figures.items():
        score(lab.add(label), value, error=error)
    pairs = list(itertools.combinations(figures, 2))
    p_values = [
        2 * stats.norm.sf(abs(figures[i][0] - figures[j][0]) / np.hypot(figures[i][1], figures[j][1])) for i, j in pairs
    ]
    proven = step_down(dict(zip(pairs, p_values, strict=True)))  # the figures rise: the first is better
    expected = {
        label: (1 + sum(j == label for _, j in proven), 5 - sum(i == label for i, _ in proven)) for label in figures
    }
    table = lab.table()
    assert {label: (row.rank_best, row.rank_worst) for label, row in table.iterrows()} == expected
    assert set(table.tests_rest_on) == {"resampling"}
    text = lab.text()
    assert "resampling alone: a row with one seed, whose training variance is unseen" in text


def test_a_row_of_one_seed_is_tested_by_resampling_and_the_others_on_seeds() -> None:
    lab = make_lab("a", "b", "c", seeds=3)
    for seed in range(3):
        score(lab.add("a", seed), 10.0 + 0.01 * seed, error=0.1)
        score(lab.add("b", seed), 11.0 + 0.01 * seed, error=0.1)
    score(lab.add("c"), 11.1, error=0.1)
    table = lab.table()
    assert {label: (row.rank_best, row.rank_worst) for label, row in table.iterrows()} == {
        "a": (1, 1), "b": (2, 3), "c": (2, 3)
    }  # fmt: skip
    assert set(table.tests_rest_on) == {"seeds; resampling"}


def test_rows_of_one_seed_without_an_error_cannot_be_told_apart() -> None:
    lab = make_lab("a", "b")
    score(lab.add("a"), 1.0)
    score(lab.add("b"), 1000.0)
    assert {(row.rank_best, row.rank_worst) for _, row in lab.table().iterrows()} == {(1, 2)}
    assert "1 pairs could not be tested" in lab.text()


# --- reference rows ---


def reference(name: str) -> dict[str, str]:
    return {"name": name, "role": "reference"}


def test_reference_rows_stand_in_a_part_of_their_own_and_change_no_rank() -> None:
    def board_with(*more: str) -> Lab:
        lab = make_lab("a", "b", *map(reference, more), seeds=3)
        levels = {"a": 10.0, "b": 20.0, "test-images": 1.0, "uniform": 300.0}
        for label, seed in itertools.product(["a", "b", *more], range(3)):
            score(lab.add(label, seed), levels[label] + 0.01 * seed, error=0.1)
        return lab

    with_references, without = board_with("uniform", "test-images"), board_with()
    table = with_references.table()
    assert list(table.index) == ["a", "b", "test-images", "uniform"]
    assert list(table.role) == ["model", "model", "reference", "reference"]
    assert table.rank_best.isna().to_list() == [False, False, True, True]
    assert list(table.rank_worst[:2]) == list(without.table().rank_worst)
    main, floors = with_references.text().split("### Floors and ceilings")
    assert {"a", "b"} <= cells(main).keys()
    assert not {"uniform", "test-images"} & cells(main).keys()
    assert [cells(floors)[name]["Rank"] for name in ("test-images", "uniform")] == ["–", "–"]


@pytest.mark.parametrize(
    ("board", "metric", "kind"), [("likelihood", "nll", "exact"), ("bounds", "iwae-5", "upper bound")]
)
def test_reference_rows_are_not_ranked_on_other_boards(board: Any, metric: str, kind: Any) -> None:
    lab = make_lab("a", "b", reference("uniform"), metrics=(metric,), seeds=3)
    for label, level in (("a", 80.0), ("b", 90.0), ("uniform", 5.0)):
        for seed in range(3):
            record = lab.add(label, seed)
            record.scores[metric] = ScoreRecord(
                metric=metric, key="k", value=level + 0.01 * seed, kind=kind, unit="nats"
            )
    table = lab.board().table(board, "mnist").set_index("label")
    assert table.rank_best.fillna(0).to_dict() == {"a": 1, "b": 2, "uniform": 0}
    assert table.status["uniform"] == "done"
    main, floors = render_boards(lab.board())[f"{board}.md"].decode().split("### Floors and ceilings")
    assert cells(main).keys() == {"a", "b"}
    assert cells(floors)["uniform"]["Rank"] == "–"


# --- published figures ---


def test_published_figures_stand_apart_with_protocol_and_tags() -> None:
    lab = make_lab({"name": "gan", "label": "our GAN", "published": "non-saturating-gan-mnist-fid"})
    score(lab.add("our GAN"), 1.0, features="inception, 2048 dimensions")
    text = lab.text(published=load_published(PUBLISHED))
    ours, theirs = text.split("### Published elsewhere, not comparable")
    assert "6.8" not in ours
    row = cells(theirs)["non-saturating GAN"]
    assert (row["Metric"], row["Figure"], row["Row here"]) == ("FID", "6.8 ± 0.5", "our GAN")
    assert row["Protocol"] == "Inception features; 10,000 test images; best of a large search"
    assert row["Source"] == "Are GANs created equal? (1711.10337), arXiv 1406.2661 \\[2\\]"
    assert {"WGAN", "WGAN-GP", "LSGAN", "BEGAN", "saturating GAN"} <= cells(theirs).keys()


def test_every_published_figure_of_samples_says_by_which_protocol() -> None:
    figures = load_published(PUBLISHED).values()
    chosen = [figure for figure in figures if figure.metric in ("fid", "inception-score")]
    assert len(chosen) > 40
    assert [figure.slug for figure in chosen if figure.protocol is None] == []


# --- files ---


@pytest.fixture
def full() -> Lab:
    """Two datasets, two metrics, failures, one row of one seed, references, a likelihood."""
    lab = make_lab(
        "a", {"name": "b", "published": "wgan-mnist-fid"}, "c", "d", reference("uniform"), seeds=3,
        metrics=("nll", "fid-lenet", "kid-pixels"), datasets=["mnist", "digits"],
    )  # fmt: skip
    rng = np.random.default_rng(0)
    for dataset, label, seed in itertools.product(("mnist", "digits"), "abc", range(3)):
        if label == "c" and seed > 0:
            continue
        record = lab.add(label, seed, dataset)
        score(record, rng.normal(10, 1), error=0.1, features=f"lenet-{dataset}, 84 dimensions")
        score(record, rng.normal(0.01, 0.001), "kid-pixels", 0.001, features="pixels, 784 dimensions")
    fail(lab.add("d", 0), "degenerate", "all 10000 samples are the same image")
    score(lab.add("uniform", 0), 200.0, error=1.0)
    return lab


def test_board_from_the_archive_is_that_from_the_store_byte_for_byte(full: Lab, tmp_path: Path) -> None:
    published: dict[str, PublishedFigure] = load_published(PUBLISHED)
    expected = render_boards(full.board(published=published))
    write_archive(Archive(tuple(full.records), {}), tmp_path)
    assert render_boards(Leaderboard.read(tmp_path, full.suite, published=published)) == expected
    order = np.random.default_rng(1).permutation(len(full.records))
    full.records = [full.records[k] for k in order]
    assert render_boards(full.board(published=published)) == expected


def test_csv_keeps_full_precision(full: Lab) -> None:
    table = full.board().table("sample-quality", "mnist")
    rows = list(csv.DictReader(io.StringIO(to_csv([table]))))
    for name in table.columns:
        if str(table[name].dtype) == "float64":
            assert [float(row[name]) for row in rows if row[name]] == list(table[name].dropna())


def test_a_suite_without_such_metrics_has_no_such_board(tmp_path: Path) -> None:
    lab = make_lab("a", metrics=("nll",))
    lab.add("a")
    (tmp_path / "sample-quality.md").write_text("<!-- Generated from records by `harness leaderboard`; ... -->")
    assert "sample-quality" not in lab.board().boards
    assert "sample-quality.md" in check_boards(lab.board(), tmp_path)


def test_sample_grids_are_linked_if_they_are_there(full: Lab, tmp_path: Path) -> None:
    write_boards(full.board(), tmp_path)
    assert "### Samples" not in (tmp_path / "sample-quality.md").read_text()
    (tmp_path / "samples").mkdir()
    for name in ("a-mnist.png", "real-test-images-mnist.png", "of-no-row.png"):
        (tmp_path / "samples" / name).touch()
    assert check_boards(full.board(), tmp_path) == ["sample-quality.md"]
    write_boards(full.board(), tmp_path)
    assert check_boards(full.board(), tmp_path) == []
    text = (tmp_path / "sample-quality.md").read_text()
    links = re.findall(r"!\[([^]]*)\]\(([^)]*)\)", text)
    assert links == [
        ("real test images", "samples/real-test-images-mnist.png"), ("a, seed 0", "samples/a-mnist.png")
    ]  # fmt: skip


def test_no_two_rows_share_a_file_of_samples() -> None:
    labels = ["A b", "a/b", "a-b", "real test images", "../x", "x"]
    lab = make_lab(*({"name": "m", "label": label, "hyperparameters": {"k": k}} for k, label in enumerate(labels)))
    names = picture_names(lab.board().rows)
    assert len({name.lower() for name in names.values()}) == len(labels) + 1
    assert all(re.fullmatch(r"[\w@.-]+\.png", name) and ".." not in name for name in names.values())
    assert names[None, "mnist"] == "real-test-images-mnist.png"


# --- hostile texts ---

HOSTILE = 'a|b\n<script>alert(1)</script> **x** `y` [z](http://w) ![i](j) _u_ \\ & "q", =1'
FORMULAS = ["=1+1", "+1", "-1", "@SUM(A1)", " =1", "\n=1", "\t=1", "\uff1d1"]


def hostile_lab(label: str) -> Lab:
    """A label, a protocol and a message on every board, each of them hostile."""
    metrics = ("nll", "iwae-5", "fid-lenet", "sampling-throughput")
    lab = make_lab({"name": "a", "label": label}, {"name": "b", "label": f"{label} 2"}, metrics=metrics)
    record = lab.add(label)
    for metric in ("nll", "iwae-5"):
        record.scores[metric] = ScoreRecord(
            metric=metric, key="k", value=-80.0, kind="upper bound", protocol={"split": label}, unit="nats"
        )
    score(record, 3.0, error=0.1, features=label, reference=label)
    record.scores["sampling-throughput@f"] = ScoreRecord(
        metric="sampling-throughput", key="k", value=5.0, stage="speed", fingerprint="f", hardware=label,
        protocol={"sampler": label},
    )  # fmt: skip
    fail(lab.add(f"{label} 2"), "failed", label)
    return lab


@pytest.mark.parametrize("board", ["likelihood", "bounds", "sample-quality", "throughput"])
def test_markdown_prints_hostile_texts_as_they_are(board: str, tmp_path: Path) -> None:
    lab = hostile_lab(HOSTILE)
    names = picture_names(lab.board().rows)
    text = render_board(lab.board(), board, "markdown", dict.fromkeys(names.values(), HOSTILE))
    html = markdown.markdown(text, extensions=["tables"])
    assert not re.search(r"<(script|strong|em|code|a)\b", html)
    assert all(source.startswith("samples/") for source in re.findall(r'<img[^>]* src="([^"]*)"', html))
    for table in re.findall(r"<table>.*?</table>", html, flags=re.DOTALL):
        widths = {len(re.findall(r"<t[hd][ >]", row)) for row in re.findall(r"<tr>.*?</tr>", table, flags=re.DOTALL)}
        assert len(widths) == 1
    shown = [unescape(cell) for cell in re.findall(r"<td[^>]*>(.*?)</td>", html, flags=re.DOTALL)]
    assert " ".join(HOSTILE.split()) in shown


@pytest.mark.parametrize("label", FORMULAS)
@pytest.mark.parametrize("board", ["likelihood", "bounds", "sample-quality", "throughput"])
def test_csv_has_no_cell_that_is_a_formula(board: str, label: str) -> None:
    text = render_boards(hostile_lab(label).board())[f"{board}.csv"].decode()
    for row in csv.reader(io.StringIO(text)):
        for cell in row:
            assert not cell.startswith(("=", "+", "@", "\t", "\r", "\uff1d"))
            assert not cell.startswith("-") or float(cell) < 0  # numbers are left alone
    assert len(text.splitlines()) == 3
