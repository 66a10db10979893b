"""What plugins hand over is checked where it comes in: a failure of that figure, in words, and nothing else breaks."""

from __future__ import annotations

import json
import socket
import sqlite3
from contextlib import suppress
from urllib.request import urlopen

import pytest
from filelock import FileLock

from harness.interface.data_folder import DataUnavailable
from harness.records.record import RunRecord
from harness.records.store import Artifacts
from harness.running.coordinator import Settings, plan_suite
from harness.suites.suite import Suite

WRONG = {
    "pairs": "crooked-pairs: per_image must return (360,) float32 or float64, not (360, 2) float32",
    "whole": "crooked-whole: per_image must return (360,) float32 or float64, not (360,) int64",
    "undefined": "crooked-undefined: per_image is not finite in float32",
    "complex": "crooked-complex must be a number, not 1j",
    "protocol": "crooked-protocol: protocol 'number' must be a text, not 5",
    "number": "crooked-number.evaluate must return a harness.Score, not float",
}


@pytest.fixture(scope="module")
def crooked(make_lab):
    """A lab with what no plugin may return, run and exported: the lab, its suite, and what the export said."""
    lab = make_lab()
    metrics = ", ".join(f'"{name}"' for name in ["nll", "crooked-surrogate", *(f"crooked-{kind}" for kind in WRONG)])
    suite = lab.suite(["uniform", "boastful", "steering", "wordy"], metrics=f"[{metrics}]")
    lab.harness("run", suite, "--jobs", "1")
    return lab, suite, lab.harness("export", suite)


@pytest.mark.parametrize("kind", WRONG)
def test_what_no_metric_may_return_fails_that_figure_and_is_named(crooked, kind):
    score = crooked[0].record("uniform").scores[f"crooked-{kind}"]
    assert (score.status, score.failure.message) == ("failed", WRONG[kind])


def test_a_lone_surrogate_in_a_protocol_is_spelled_out_and_loses_no_figure(crooked):
    record = crooked[0].record("uniform")
    assert record.scores["crooked-surrogate"].protocol == {"file": "a\\udcff"}
    assert record.scores["nll"].status == "done"


def test_a_log_probability_above_zero_fails_without_any_audit_and_is_not_ranked(crooked):
    lab, suite, _ = crooked
    nll = lab.record("boastful").scores["nll"]
    assert nll.status == "failed"
    assert "log_prob is 5 nats for image 0, and above 0 for 360 images" in nll.failure.message
    page = lab.done("leaderboard", suite, "--board", "likelihood").out
    assert "no log-probability of an integer image is above 0" in page


def test_boards_and_the_terminal_show_what_would_steer_them(crooked):
    lab, suite, _ = crooked
    shown = lab.done("leaderboard", suite).out + lab.done("status").out
    written = "".join(file.read_text() for file in suite.with_suffix("").glob("*.*") if file.suffix in (".md", ".csv"))
    assert not {"\x1b", "\x9b", "\x00", "\u202e", "\x07"} & set(shown + written)
    assert r"\x1bc\x9b31m" in written


def test_a_message_of_thirty_megabytes_is_kept_in_a_few_kilobytes(crooked):
    lab, _, exported = crooked
    record = lab.record("wordy")
    assert record.failure.message.startswith("xxx")
    assert len(record.model_dump_json()) < 2**17
    assert (lab.artifacts / "runs" / record.run / "log.txt").stat().st_size < 2**17
    assert exported.code == 0


def test_the_records_of_all_this_can_be_read_again(crooked):
    lines = (crooked[1].with_suffix("") / "records.jsonl").read_text().splitlines()
    assert len([RunRecord.model_validate_json(line) for line in lines]) == 4


def states(lab, suite):
    answer = lab.done("status", suite, "--json")
    return [item["state"] for item in answer.json], answer.err


def test_the_status_of_a_suite_needs_no_data(finished, monkeypatch):
    suite = finished.root / "suite.toml"
    with_data, said = states(finished, suite)
    assert "hit" in with_data
    assert "cannot be loaded" not in said

    def missing(*arguments, **options):
        assert options["folder"].offline
        raise DataUnavailable("no such file")

    monkeypatch.setattr("harness.discovery.loading.load_dataset", missing)
    without, said = states(finished, suite)
    assert without == with_data
    assert "digits-binary cannot be loaded, and is taken to be that of the last records: no such file" in said


def test_the_status_of_a_suite_says_what_is_being_trained(lab):
    suite = lab.suite(["uniform", "tilted"])
    run = next(name for name in lab.states(suite) if name.startswith("tilted"))
    folder = Artifacts(lab.artifacts).folder(run)
    folder.write_progress(stage="fit")
    with FileLock(str(folder.lock)):
        assert states(lab, suite)[0] == ["missing", "running"]
    assert states(lab, suite)[0] == ["missing", "missing"]


def test_one_record_of_a_later_version_stops_no_command_for_the_others(lab, make_record):
    store = Artifacts(lab.artifacts).store
    for name in ("made-digits-s0-a", "nade-digits-s0-b"):
        store.put(make_record(name))
    with sqlite3.connect(lab.artifacts / "store.sqlite") as connection:
        connection.execute(
            """UPDATE runs SET record = replace(record, '"done"', '"dreaming"') WHERE run LIKE 'nade%'"""
        )
    lab.done("clean")
    answer = lab.done("status")
    assert "the record of nade-digits-s0-b cannot be read: status has to be" in answer.err
    assert "nade" not in answer.out
    assert "nade" not in lab.done("show", "made-digits").out
    refused = lab.harness("show", "nade-digits")
    assert refused.code == 2
    assert "error: the store" in refused.err


def test_the_site_that_is_served_shows_what_runs_and_how_far_it_is(lab):
    suite = lab.suite(["uniform", "tilted"])
    assert "neither the store nor" in lab.harness("report", suite, "--serve", "--port", "0").complaint
    plan = plan_suite(Suite.read(suite), Settings(Artifacts(lab.artifacts)))
    [run] = [run.record for run in plan.runs() if run.record.spec.model == "tilted"]
    folder, store = Artifacts(lab.artifacts).folder(run.run), Artifacts(lab.artifacts).store
    store.put(run.model_copy(update={"status": "running"}))
    folder.write_progress(stage="fit", step=7, total_steps=40)
    pages = []

    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert f"--port {port}: " in lab.harness("report", suite, "--serve", "--port", port).complaint

    def shown():
        with suppress(OSError):
            pages.extend(urlopen(f"http://127.0.0.1:{port}/suite/{query}").read().decode() for query in ("", "?live"))
        return len(pages) == 2

    with FileLock(str(folder.lock)), lab.interrupting(shown):
        assert lab.harness("report", suite, "--serve", "--port", port).code == 130
    assert "running (seeds 0): the training is not complete" in pages[0]
    assert json.loads(pages[1])["lines"] == [
        "suite: 1 of 2 runs: 1 running",
        "tilted on digits-binary, seed 0: running (fit, step 7 of 40)",
    ]
