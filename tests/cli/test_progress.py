"""What somebody sees who waits for a suite: on a terminal of 80 columns, and in a file that the output goes to."""

import io
import logging
import time
from types import SimpleNamespace

import pytest
from rich.console import Console

from harness.cli import progress
from harness.cli.progress import ConsoleReporter, doing, outcome_of, summarise, telling
from harness.records.record import FitRecord
from harness.running.estimates import seconds_of
from harness.running.planning import PlannedRun
from harness.support.numbers import duration


class Clock:
    """Time that passes when it is told to."""

    def __init__(self):
        self.now = 1000.0

    def monotonic(self):
        return self.now


@pytest.fixture
def clock(monkeypatch):
    monkeypatch.setattr(progress, "time", clock := Clock())
    return clock


@pytest.fixture
def watch(monkeypatch, clock):
    """Makes a reporter and what it writes to; ``before`` maps runs to the seconds that they took earlier."""

    def make(before, *, terminal=False, speeds=0.0):
        out = io.StringIO()
        console = Console(file=out, width=80, force_terminal=terminal, get_time=clock.monotonic)
        monkeypatch.setattr(progress, "Console", lambda stderr: console)
        return ConsoleReporter(SimpleNamespace(seconds=lambda run: before.get(run.run), speeds=speeds)), out

    return make


@pytest.fixture
def planned(make_record):
    return lambda *names: [PlannedRun(record := make_record(f"{name}-0123456789"), record.spec) for name in names]


def trained(make_record, name, seconds, **changes):
    fit = FitRecord(steps=1, epochs=1.0, seconds=seconds, checkpoint="last", weights_sha256="0")
    return make_record(f"{name}-0123456789", fit=fit).model_copy(update=changes)


def last_line(out):
    return out.getvalue().splitlines()[-1]


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0.4, "0 s"), (59.4, "59 s"), (80, "1 min 20 s"), (725, "12 min"), (5999, "99 min"), (7500, "2 h 5 min")],
)
def test_a_duration_is_what_a_person_would_say(seconds, words):
    assert duration(seconds) == words


def test_off_a_terminal_a_line_every_half_minute_says_what_is_done_and_how_long_it_takes(watch, planned, clock):
    reporter, out = watch({f"{name}-0123456789": 100.0 for name in "ab"}, speeds=50.0)
    reporter.phase("fit and score", planned("a", "b"), 2)
    for _ in range(10):
        clock.now += 4
        reporter.progress("a-0123456789", {"stage": "audit", "doing": "normalisation, check 3 of 17"})
        reporter.tick()
    assert out.getvalue().splitlines() == [
        "fit and score: 2 runs, 2 at a time",
        "[0/2] 32 s, about 2 min 30 s left; a-0123456789: audit: normalisation, check 3 of 17 (28 s)",
    ]


def test_a_run_that_takes_longer_than_before_makes_the_rest_take_longer(watch, planned, clock, make_record):
    reporter, out = watch({f"{name}-0123456789": 100.0 for name in "abc"})
    reporter.phase("fit and score", planned("a", "b", "c"), 1)
    reporter.finished(trained(make_record, "a", 300.0))
    clock.now += 40
    reporter.tick()
    assert last_line(out) == "[1/3] 40 s, about 10 min left; waiting for another process"


def test_runs_that_never_ran_before_are_taken_to_be_as_long_as_others_once_one_is_done(
    watch, planned, clock, make_record
):
    reporter, out = watch({})
    reporter.phase("fit and score", planned("a", "b", "c"), 2)
    clock.now += 31
    reporter.tick()
    assert "[0/3] 31 s, time left not known; " in last_line(out)
    reporter.finished(trained(make_record, "a", 60.0))
    clock.now += 31
    reporter.tick()
    assert "[1/3] 1 min 2 s, about 1 min 0 s left; " in last_line(out)


def test_on_80_columns_percent_and_times_are_whole_and_the_names_are_cut(watch, planned, clock):
    [run] = planned("a-model-with-a-name-longer-than-the-window-is-wide-on-a-dataset-s0")
    reporter, _ = watch({run.run: 3600.0}, terminal=True)
    reporter.phase("fit and score", [run], 1)
    values = {"stage": "fit", "step": 420, "total_steps": 1000, "loss": 93.4321, "best_valid": 93.1}
    reporter.progress(run.run, {**values, "step": 1})
    clock.now += 3000
    reporter.progress(run.run, values)
    clock.now += 3000
    reporter.progress(run.run, values)
    reporter.tick()
    shown = Console(file=io.StringIO(), width=80)
    shown.print(reporter.bars.get_renderable())
    overall, bar = shown.file.getvalue().splitlines()
    assert max(map(len, (overall, bar))) <= 80
    assert overall.split()[-1] == "s"
    assert "…" in bar
    assert " 42% " in bar
    assert "1:40:00" in bar


def test_while_speeds_are_measured_a_finished_run_is_said_with_its_speeds_and_no_likelihood(
    watch, planned, make_record, make_score
):
    reporter, out = watch({})
    reporter.phase("measure speed", planned("a"), 1)
    scores = {"nll": make_score(), "sampling-latency@x": make_score("sampling-latency", 0.25, stage="speed", unit="s")}
    reporter.finished(make_record("a-0123456789").model_copy(update={"scores": scores}))
    assert last_line(out) == "[1/1] a-0123456789: done (sampling-latency 0.25 s)"


def test_what_a_run_does_is_said_without_what_a_terminal_obeys_and_is_cut():
    assert doing({"stage": "nll", "doing": "\x1b[2J" + "x" * 500}).startswith("nll: \\x1b[2Jxxx")
    assert len(doing({"stage": "nll", "doing": "x" * 500})) == 100


def test_what_of_a_run_never_ran_before_makes_its_time_unknown(make_record, make_score):
    stage = SimpleNamespace(metric="nll")
    run = PlannedRun(make_record(), make_record().spec, stages=(stage,))
    scored = trained(make_record, "a", 4.0, scores={"nll": make_score(seconds=3.0)})
    other = trained(make_record, "b", 6.0, scores={"nll": make_score(seconds=1.0)})
    assert seconds_of(run, [scored, other]) == 7.0
    assert seconds_of(run, [trained(make_record, "a", 4.0, scores={})]) is None
    assert outcome_of(scored) == "done"
    assert summarise(scored).startswith("fit 4.0 s, nll 1.5")


@pytest.mark.parametrize("terminal", [False, True])
def test_who_waits_for_an_audit_is_told_again_and_again_what_it_does_and_for_how_long(monkeypatch, capsys, terminal):
    monkeypatch.setattr(progress, "EVERY_SECONDS", 0.1)
    monkeypatch.setattr(progress, "Console", lambda stderr: Console(stderr=True, width=80, force_terminal=terminal))
    with telling("audit"):
        logging.getLogger("harness.progress").info("sampling, check 4 of 17")
        print("what a model prints")
        time.sleep(0.5)
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("audit: sampling, check 4 of 17 (0 s)") > 1
    assert "what a model prints" in err
    assert not logging.getLogger("harness.progress").isEnabledFor(logging.INFO)


def test_an_audit_that_is_over_soon_says_nothing_off_a_terminal(capsys):
    with telling("audit"):
        logging.getLogger("harness.progress").info("sampling, check 4 of 17")
    assert capsys.readouterr() == ("", "")
