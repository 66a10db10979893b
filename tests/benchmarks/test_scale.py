"""A plan, a status and a board of 1,000, 10,000 and 100,000 records: seconds of a processor, memory, and how they grow.

Each is measured in a process of its own, by ``python test_scale.py WHAT NUMBER FOLDER``, on records that are made up.
What was measured is printed as the table that ``docs/store.md`` has.
"""

from __future__ import annotations

import contextlib
import io
import itertools
import json
import resource
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from test_board import Scale, make_archive, make_suite

from harness.records.store import Artifacts, Store

NUMBERS = (1_000, 10_000, 100_000)
GROWTH = 13  # times as long for ten times as many, at most: linear, and what a busy machine adds
SUITE = """
title = "Many"
datasets = ["digits-binary"]
seeds = {seeds}
metrics = ["nll", "parameters-training"]
audit = false
[[models]]
name = "uniform"
"""


def scale(number: int) -> Scale:
    """So many records, of 10 seeds each, on as many datasets of 100 models as it takes."""
    return Scale(100, number // 1000, 10, ("nll",), 0)


def prepare(number: int, folder: Path) -> None:
    """Writes a suite of so many runs, and a store that holds the records of another one."""
    (folder / "many.toml").write_text(SUITE.format(seeds=list(range(number))))
    store, (_, archive) = Store(f"sqlite:///{folder}/shared.sqlite"), make_archive(scale(number))
    store.transact(lambda connection: [store_row(connection, record) for record in archive.records])
    store.close()


def store_row(connection, record):
    from harness.records.database import insert, runs

    row = record.model_dump(include={"run", "key", "identity", "status"})
    row |= record.spec.model_dump(include={"model", "dataset", "seed"}) | {"record": record.model_dump_json()}
    insert(connection, runs, row)


def plan(number: int, folder: Path) -> int:
    from harness.running.coordinator import Settings, plan_suite
    from harness.suites.suite import Suite

    settings = Settings(Artifacts(folder / "artifacts", f"sqlite:///{folder}/shared.sqlite"))
    return len(plan_suite(Suite.read(folder / "many.toml"), settings).runs())


def status(number: int, folder: Path) -> int:
    from harness.cli.commands import app

    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        store = f"sqlite:///{folder}/shared.sqlite"
        app(["--artifacts", str(folder / "artifacts"), "--store", store, "status"], standalone_mode=False)
    return len(said.getvalue().splitlines()) - 1


def board(number: int, folder: Path) -> int:
    from harness.boards.leaderboard import Leaderboard
    from harness.report.files import write_boards

    records = Store(f"sqlite:///{folder}/shared.sqlite").records()
    write_boards(Leaderboard(records, make_suite(scale(number)), published={}), folder / "boards")
    return len(records)


def measured(what: str, number: int, folder: Path) -> tuple[float, float]:
    """Returns the seconds of a processor, imports left out, and the peak memory in MiB."""
    command = [sys.executable, __file__, what, str(number), str(folder)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    seconds, memory, found = json.loads(done.stdout.splitlines()[-1])
    assert found >= number
    return seconds, memory


@pytest.fixture(scope="module")
def folders(tmp_path_factory) -> dict[int, Path]:
    """A suite and a store of each size, which nothing that is measured changes.

    Made in other processes: what is measured inherits the peak memory of the one that starts it.
    """
    found = {number: tmp_path_factory.mktemp(f"records-{number}-") for number in NUMBERS}
    for number, folder in found.items():
        subprocess.run([sys.executable, __file__, "prepare", str(number), str(folder)], check=True)
    return found


@pytest.fixture(scope="module")
def table(request) -> Iterator[dict[str, list[str]]]:
    """The cells of each column; printed when all are measured, whether or not output is captured."""
    columns: dict[str, list[str]] = {"records": [f"{number:,}" for number in NUMBERS]}
    yield columns
    lines = [list(columns), ["---"] * len(columns), *itertools.zip_longest(*columns.values(), fillvalue="")]
    with request.config.pluginmanager.getplugin("capturemanager").global_and_fixture_disabled():
        print("\n\n" + "\n".join(f"| {' | '.join(cells)} |" for cells in lines))


def cell(seconds: float, memory: float) -> str:
    said = f"{memory / 1024:.1f} GiB" if memory >= 1024 else f"{memory:,.0f} MiB"
    return f"{seconds:.{0 if seconds >= 10 else 1}f} s, {said}"


@pytest.mark.parametrize("what", ["status", "board", "plan"])
def test_time_and_memory_grow_no_faster_than_the_records(what, benchmark, say, folders, table):
    found, table[what] = [], []
    for number in NUMBERS:
        found.append(measured(what, number, folders[number]))
        table[what].append(cell(*found[-1]))
        say(f"{what} of {number:,} records: {table[what][-1]}")
    benchmark.pedantic(measured, (what, NUMBERS[0], folders[NUMBERS[0]]), rounds=1)
    (small, _), (middle, memory), (large, most) = found
    assert middle < GROWTH * max(small, 0.5)
    assert large < GROWTH * middle
    assert most < GROWTH * memory


if __name__ == "__main__":
    what, number, folder = sys.argv[1], int(sys.argv[2]), Path(sys.argv[3])
    if what == "prepare":
        folder.mkdir(exist_ok=True)
        prepare(number, folder)
        sys.exit()
    import harness.cli.commands
    import harness.running.coordinator  # noqa: F401

    began = time.process_time()
    lines = {"plan": plan, "status": status, "board": board}[what](number, folder)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 1024)
    print(json.dumps([time.process_time() - began, peak, lines]))
