"""The board of the zoo: all names of the lecture's list, what stands for each, or why nothing does."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from harness.boards.leaderboard import Leaderboard
from harness.records.record import FitRecord, RunRecord, ScoreRecord, identity_of
from harness.report.files import render_boards
from harness.report.site.build import site_files
from harness.report.site.suite import SuitePages
from harness.suites.suite import Suite
from harness_zoo import ENTRIES
from harness_zoo.board import read_zoo

SUITE = Suite.read(Path(__file__).parents[2] / "leaderboards" / "zoo-digits.toml")
ALL = [entry for entries in read_zoo().values() for entry in entries]
LABELS = [label for entry in ALL for label in entry.rows]


def record_of(row, value):
    spec = row.configurations[0][0]
    score = ScoreRecord(metric="fid-lenet", key="k", value=value, kind="estimate", unit="", num_images=360,
                        header="FID", board="sample-quality", protocol={"split": "test"})  # fmt: skip
    return RunRecord(
        run=row.label, key="k", identity=identity_of(spec), spec=spec, hyperparameters={}, provider="p 1", code="c",
        dataset_digest="d", num_images={"test": 360}, image_shape=(1, 8, 8, 17), status="done",
        fit=FitRecord(steps=9, epochs=2.0, seconds=3.0, checkpoint="last", weights_sha256="w"),
        scores={"fid-lenet": score},
    )  # fmt: skip


@pytest.fixture(scope="module")
def board():
    """Three rows are trained, once each."""
    once = SUITE.select(seeds=[0])
    rows = {row.label: row for row in once.rows()}
    figures = {"GAN": 5.5, "LSGAN": 4.25, "HALI": 9.0}
    return Leaderboard([record_of(rows[label], value) for label, value in figures.items()], once)


def test_the_lecture_has_92_different_names_and_papers():
    lecture = read_zoo()["lecture"]
    assert len(lecture) == len({entry.name for entry in lecture}) == 92
    assert [entry.name for entry in lecture] == sorted((entry.name for entry in lecture), key=str.casefold)
    for entry in lecture:
        assert re.fullmatch(r"1[4-7]\d\d\.\d{4,5}", entry.arxiv), entry


def test_no_paper_stands_for_two_names():
    papers = [entry.arxiv for entry in ALL]
    assert [paper for paper in set(papers) if papers.count(paper) > 1] == ["1611.06430"]  # SSL-GAN, with CCGAN


def test_a_name_has_rows_or_a_reason_why_not():
    assert [entry.name for entry in ALL if bool(entry.rows) == bool(entry.not_built)] == []
    for entry in ALL:
        assert all(label == entry.name or label.startswith(f"{entry.name}, ") for label in entry.rows), entry


def test_every_row_of_the_suite_stands_for_one_name_and_every_label_is_one_of_the_suite():
    assert sorted(LABELS) == sorted(row.label for row in SUITE.rows() if row.role == "model")


def test_every_model_of_the_package_and_of_its_neighbours_has_a_row():
    asked = {row.model for row in SUITE.rows()}
    assert {entry.name for entry in ENTRIES} | {"gan", "wgan", "wgan-gp", "ali", "bigan", "hali"} <= asked


def test_the_board_has_every_name_in_order_with_what_stands_for_it(board):
    assert "zoo" in board.boards
    table = board.table("zoo", "digits").set_index("label")
    wanted = [label for entry in read_zoo()["lecture"] for label in entry.labels]
    assert list(table[table.list == "lecture"].index) == wanted
    assert table.here["GAN"] == "gan"
    assert table.here["LSGAN"] == "gan; objective=least-squares"
    assert table.here["3D-GAN"] == "not built: voxels"
    assert table.fid_lenet["LSGAN"] == 4.25
    assert table.arxiv["LSGAN"] == "1611.04076"
    assert set(table[table.list == "others"].index) >= {"HALI", "SN-GAN", "real test images"}


def test_the_page_and_the_site_show_it(board, tmp_path):
    text = render_boards(board)["zoo.md"].decode()
    assert re.search(r"\| LSGAN +\| objective +\| 1611.04076 +\| gan; objective=least-squares +\| +4.25", text)
    assert "Where nothing else is said: network=mlp, width=128." in text
    page = dict(site_files([SuitePages("t", board, tmp_path)]))["t/index.html"].decode()
    assert "not built: voxels" in page


def test_a_suite_without_all_of_the_rows_has_no_such_board():
    part = SUITE.select(["GAN", "LSGAN"])
    assert "zoo" not in Leaderboard([], part).boards
