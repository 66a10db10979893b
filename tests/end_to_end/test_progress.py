"""What a command says of the time that a suite takes, and what stands at its end."""

import pytest

from harness.records.store import Artifacts


@pytest.fixture(scope="module")
def timed(make_lab):
    """A lab in which one seed of a row took two minutes: 100 s of training and 20 s of scoring; and what its run said.

    Its suite asks for speeds too, which took 5 s.
    """
    lab = make_lab()
    suite = lab.suite(["uniform"], metrics='["nll", "hardness"]')
    said = lab.done("run", suite, "--jobs", "1").err
    [record] = lab.records()
    scores = {
        name: score.model_copy(update={"seconds": 5.0 if score.stage == "speed" else 20.0})
        for name, score in record.scores.items()
    }
    fit = record.fit.model_copy(update={"seconds": 100.0})
    with_times = record.model_copy(update={"fit": fit, "scores": scores})
    Artifacts(lab.artifacts).store.put(with_times)
    return lab, suite, said


def plan(lab, *arguments):
    return lab.done("run", *arguments, "--dry-run").out.splitlines()[-1]


def test_a_plan_says_how_long_it_takes_by_what_other_seeds_of_a_row_took_two_at_a_time(timed):
    lab, suite, _ = timed
    assert plan(lab, suite, "--seeds", "1-3", "--jobs", "2").endswith("; about 3 min 5 s, 2 at a time")


def test_a_plan_counts_the_runs_that_never_ran_before_and_gives_no_time_for_them(timed):
    lab, _, _ = timed
    suite = lab.suite(["uniform", "tilted"], name="more", metrics='["nll"]', seeds="[1]")
    said = plan(lab, suite, "--jobs", "1")
    assert said.endswith("about 2 min 0 s, 1 at a time for 1 of 2 runs; 1 never ran before, or not with all figures")
    assert plan(lab, suite, "--only", "tilted").endswith("time not known: nothing of it ran before")


def test_a_plan_knows_the_times_of_the_records_beside_the_suite(timed, command_line, tmp_path):
    lab, suite, _ = timed
    lab.done("export", suite)
    plan = command_line("--artifacts", tmp_path / "elsewhere", "run", suite, "--dry-run", "--jobs", "1")
    assert "about 2 min 5 s, 1 at a time" in plan.out


def test_a_run_that_was_stopped_does_not_hide_the_times_of_the_records_beside_the_suite(timed, command_line, tmp_path):
    lab, suite, _ = timed
    lab.done("export", suite)
    [record] = lab.records()
    store = Artifacts(tmp_path / "elsewhere").store
    store.put(record.model_copy(update={"fit": None, "scores": {}, "status": "interrupted"}))
    plan = command_line("--artifacts", tmp_path / "elsewhere", "run", suite, "--dry-run", "--jobs", "1")
    assert "about 2 min 5 s, 1 at a time" in plan.out


def test_a_plan_of_nothing_to_do_gives_no_time(timed):
    lab, suite, _ = timed
    assert plan(lab, suite) == "plan: 1 hit"


def test_a_run_ends_in_about_ten_lines_with_the_best_rows_and_the_commands_that_show_the_rest(finished):
    suite = finished.root / "suite.toml"
    said = finished.done("run", suite).err.splitlines()
    first, best, *others, boards, show = said[said.index(next(line for line in said if line.startswith("6 runs: "))) :]
    assert first.startswith("6 runs: 6 done; 6 were done before; ")
    assert best.startswith("best on likelihood, digits-binary: ")
    assert ": NLL, nats ↓ " in best
    assert ", rank 1" in best
    named = [line.partition(",")[0] for line in others]
    assert named == ["best on cost", "best on other", "best on equal-compute"]
    assert boards == f"'harness leaderboard {suite}' shows the boards, 'harness export {suite}' keeps the records"
    assert show == f"'harness show RUN' shows a run; its log is {finished.artifacts}/runs/RUN/log.txt"


def test_speeds_are_reported_as_speeds(timed):
    _, _, said = timed
    trained, measured = [line for line in said.splitlines() if line.startswith("[1/1] uniform-")]
    assert "nll " in trained
    assert "hardness" not in trained
    assert "hardness " in measured
    assert "nll " not in measured


def test_a_brief_leaderboard_names_the_best_rows_and_writes_the_boards(finished, tmp_path):
    said = finished.done("leaderboard", finished.root / "suite.toml", "-o", tmp_path, "--brief").out
    assert said.startswith("best on likelihood, digits-binary: ")
    assert "|" not in said
    assert (tmp_path / "likelihood.md").read_text().startswith("<!-- Generated from")
