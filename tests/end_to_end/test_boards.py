"""From a run to its boards and sample grids, by commands."""

from __future__ import annotations

REFERENCE = 'name = "uniform"\nrole = "reference"'


def test_export_draws_grids_that_the_board_links_and_the_check_counts_on(lab):
    suite = lab.suite(["independent-pixels", REFERENCE], metrics='["fid-pixels-n100"]')
    lab.done("run", suite)
    drawn = lab.done("export", suite).out
    for figure in ("samples", "nearest"):
        assert f"{figure}: 3 files written, 0 pictures up to date, 0 left out" in drawn
    assert "samples: 0 files written, 3 pictures up to date, 0 left out" in lab.done("export", suite).out
    lab.done("leaderboard", suite)
    folder = suite.with_suffix("")
    board = (folder / "sample-quality.md").read_text()
    assert {path.name for path in (folder / "samples").iterdir()} == {
        "real-test-images-digits-binary.png",
        "independent-pixels-digits-binary.png",
        "uniform-digits-binary.png",
    }
    assert board.count("](samples/") == 3
    assert (
        board.index("| 1    | independent-pixels") < board.index("### Floors and ceilings") < board.index("| uniform")
    )
    assert lab.done("leaderboard", suite, "--check").out.endswith("the boards are what records.jsonl gives\n")
    (folder / "samples" / "uniform-digits-binary.png").unlink()
    assert "sample-quality.md in" in lab.harness("leaderboard", suite, "--check").complaint


def test_the_check_needs_neither_weights_nor_store(lab, tmp_path):
    suite = lab.suite(["independent-pixels"], metrics='["fid-pixels-n100"]')
    lab.done("run", suite)
    lab.done("export", suite)
    lab.done("leaderboard", suite)
    lab.artifacts.rename(tmp_path / "elsewhere")
    lab.done("leaderboard", suite, "--check")


def test_grids_can_be_left_out_and_asked_for(lab):
    suite = lab.suite(["independent-pixels"], metrics='["nll"]')
    lab.done("run", suite)
    assert "samples" not in lab.done("export", suite).out
    assert "samples: 2 files written" in lab.done("export", suite, "--samples").out
    drawn = lab.done("export", suite, "--no-samples").out
    assert "samples" not in drawn
    assert "nearest" not in drawn


def test_a_suite_without_a_result_has_no_boards_yet(lab):
    suite = lab.suite(["uniform"], metrics='["nll"]')
    complaint = lab.harness("leaderboard", suite).complaint
    assert f"there is no result of {suite} yet; 'harness run {suite}' makes them" in complaint
