"""Kills a suite at random moments, lets the same command go on, and checks that nothing changed, and nothing was lost.

    python tests/durability/kill_at_random.py leaderboards/digits.toml --seeds 0,1 --moments 50

A first run is left alone. A second one, in another folder, is killed with SIGKILL at random moments: a child, the
coordinator, or both with the fork server, in turn; whatever is dead is started again with the same command. At the end

- every figure that does not depend on time, and every digest of trained weights, equals the first run's;
- no file of a finished stage was ever written again;
- every run is there with all that was asked of it.

It prints what it counted, and fails if one of the three does not hold.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import psutil
import typer

from harness.records.record import RunRecord
from harness.records.run_folder import RunFolder
from harness.records.store import Artifacts

TARGETS = ("child", "coordinator", "both")
TIMINGS = ("fit-seconds",)


class Suite:
    """One suite in one artifact folder, through the command line."""

    def __init__(self, artifacts: Path, arguments: list[str]) -> None:
        self.artifacts = Artifacts(artifacts)
        self._command = [sys.executable, "-c", "from harness.cli import main; main()"]
        self._command += ["--artifacts", str(artifacts), "run", *arguments]
        self._log = artifacts.with_suffix(".log")
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with self._log.open("ab") as log:
            self.process = subprocess.Popen(self._command, stdout=log, stderr=log, start_new_session=True)

    def is_running(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def finish(self) -> int:
        """Starts the command, if it is not running, and waits for its end; returns the exit status."""
        if not self.is_running():
            self.start()
        assert self.process is not None
        return self.process.wait()

    def jobs(self) -> list[psutil.Process]:
        """The processes that work on runs: those that the fork server started."""
        return [child for server in self.servers() for child in _children(server)]

    def servers(self) -> list[psutil.Process]:
        assert self.process is not None
        try:
            children = _children(psutil.Process(self.process.pid))
        except psutil.NoSuchProcess:
            return []
        return [child for child in children if "forkserver" in " ".join(_command_line(child))]

    def finished_stages(self) -> dict[Path, tuple[int, str]]:
        """When each file of a finished stage was written, and the digest of its content."""
        found = {}
        for folder in self.folders():
            files = [folder.path / "fit.json", folder.weights] if folder.fit() is not None else []
            for file in (folder.path / "scores").glob("*.json"):
                score = folder.score(file.stem)
                if score is not None and score.status == "done":
                    files.append(file)
            for file in files:
                found[file] = (file.stat().st_mtime_ns, hashlib.sha256(file.read_bytes()).hexdigest())
        return found

    def folders(self) -> list[RunFolder]:
        return [RunFolder(path) for path in sorted((self.artifacts.root / "runs").glob("*")) if path.is_dir()]

    def saved_trainings(self) -> int:
        return sum(folder.has_state() for folder in self.folders())

    def records(self) -> dict[str, RunRecord]:
        return {record.run: record for record in self.artifacts.store.records()}


def _children(process: psutil.Process) -> list[psutil.Process]:
    try:
        return process.children()
    except psutil.NoSuchProcess:
        return []


def _command_line(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:
        return []


def kill(suite: Suite, target: str, chance: random.Random) -> str:
    """Kills; returns what was hit: a child may have ended in the meantime."""
    assert suite.process is not None
    jobs, servers = suite.jobs(), suite.servers()
    coordinator = psutil.Process(suite.process.pid)
    victims = {"child": jobs and [chance.choice(jobs)], "both": [coordinator, *servers, *jobs]}.get(target, [])
    if not victims:
        target, victims = "coordinator", [coordinator]
    for victim in victims:
        with contextlib.suppress(psutil.NoSuchProcess):
            victim.kill()
    if target != "child":
        suite.process.wait()
    return target


def figures(record: RunRecord) -> dict[str, object]:
    """What must not depend on what happened on the way."""
    values: dict[str, object] = {"status": record.status}
    if record.fit is not None:
        values["fit"] = (record.fit.steps, record.fit.valid_score, record.fit.valid_step, record.fit.weights_sha256)
    for name, score in record.scores.items():
        if score.stage != "speed" and score.metric not in TIMINGS:
            values[name] = (score.status, score.value, score.standard_error, score.num_images)
    return values


def main(
    suite: str = typer.Argument("leaderboards/digits.toml", help="The suite."),
    moments: int = typer.Option(50, min=1, help="How many times to kill."),
    every: float = typer.Option(4.0, help="Mean seconds between two moments, once a child works."),
    seeds: str = typer.Option(None, help="Other seeds, as harness run takes them."),
    only: str = typer.Option(None, help="A part of the suite, as harness run takes it."),
    jobs: int = typer.Option(2, help="Child processes at a time."),
    seed: int = typer.Option(0, help="Of the moments."),
    folder: Path = typer.Option(None, help="Where to work; a temporary folder by default."),
) -> None:
    """Kills a suite at random moments and compares."""
    os.environ["HARNESS_CHECKPOINT_SECONDS"] = "1"
    where = folder or Path(tempfile.mkdtemp(prefix="kill-at-random-"))
    where.mkdir(parents=True, exist_ok=True)
    arguments = [suite, "--jobs", str(jobs)]
    arguments += ["--seeds", seeds] if seeds else []
    arguments += ["--only", only] if only else []
    chance = random.Random(seed)

    alone = Suite(where / "alone", arguments)
    started = time.monotonic()
    if alone.finish() != 0:
        raise typer.Exit(_fail(f"the uninterrupted run failed: see {where / 'alone.log'}"))
    typer.echo(f"uninterrupted: {len(alone.records())} runs in {time.monotonic() - started:.0f} s")

    tried = Suite(where / "killed", arguments)
    hits: Counter[str] = Counter()
    starts = twice = resumable = 0
    finished: dict[Path, tuple[int, str]] = {}
    moment = 0
    while moment < moments:
        if not tried.is_running():
            tried.start()
            starts += 1
        if chance.random() < 0.2:
            time.sleep(chance.uniform(0.0, 2 * every))  # anywhere: while it imports, plans, or works
        else:
            _wait_for_a_child(tried)
            time.sleep(chance.uniform(0.0, 2 * every))
        if not tried.is_running():
            if tried.process is not None and tried.process.returncode == 0:
                typer.echo(
                    f"the suite was done after {moment} moments: take more seeds, or a smaller --every", err=True
                )
                break
            continue
        hit = kill(tried, TARGETS[moment % len(TARGETS)], chance)
        hits[hit] += 1
        moment += 1
        resumable += tried.saved_trainings()
        now = tried.finished_stages()
        twice += sum(now.get(file) != then for file, then in finished.items())
        finished |= now
        typer.echo(f"{moment:3d} {hit:<12} {len(now):5d} finished stages", err=True)
    ends = [tried.finish()]
    while (
        ends[-1] != 0 and len(ends) < 4
    ):  # what was killed is failed for the command that saw it; the same one goes on
        ends.append(tried.finish())
    now = tried.finished_stages()
    twice += sum(now.get(file) != then for file, then in finished.items())

    expected, found = alone.records(), tried.records()
    lost = [run for run in expected if run not in found or expected[run].scores.keys() != found[run].scores.keys()]
    compared = differing = 0
    for run in expected.keys() & found.keys():
        wanted, got = figures(expected[run]), figures(found[run])
        compared += len(wanted)
        different = [name for name in wanted if wanted[name] != got.get(name)]
        differing += len(different)
        for name in different:
            typer.echo(f"{run}: {name}: {got.get(name)} instead of {wanted[name]}", err=True)
    words = ", ".join(f"{count} {target}" for target, count in sorted(hits.items()))
    typer.echo(f"killed {sum(hits.values())} times ({words}), with {resumable} trainings in a saved state")
    typer.echo(f"the command was started {starts + len(ends)} times; exit status of the last: {ends[-1]}")
    typer.echo(f"{len(expected)} runs, {compared} figures compared: {differing} differ")
    typer.echo(f"{len(finished)} finished stages watched: {twice} done twice")
    typer.echo(f"lost: {len(lost)}")
    if differing or twice or lost or ends[-1] != 0 or moment < moments:
        raise typer.Exit(_fail(f"something is wrong; everything is in {where}"))


def _wait_for_a_child(suite: Suite) -> None:
    deadline = time.monotonic() + 120
    while suite.is_running() and not suite.jobs() and time.monotonic() < deadline:
        time.sleep(0.05)


def _fail(message: str) -> int:
    typer.echo(message, err=True)
    return 1


if __name__ == "__main__":
    typer.run(main)
