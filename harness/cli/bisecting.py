"""``harness bisect``: the first commit in which a row's figure got worse, each commit run with its own code."""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path

import typer

from harness.cli import completion, lazy
from harness.cli.completion import SUITE_ARGUMENT
from harness.cli.context import Context, echo, fail, suite_path
from harness.support.names import did_you_mean


def bisect(
    context: typer.Context,
    suite: str = SUITE_ARGUMENT,
    row: str = typer.Argument(help="A row of the suite, by its label or model.", autocompletion=completion.only),
    metric: str = typer.Argument(help="The figure, such as nll.", autocompletion=completion.metrics),
    good: str = typer.Option(..., "--good", metavar="REV", help="A commit in which the figure was good."),
    bad: str = typer.Option("HEAD", "--bad", metavar="REV", help="A later one, in which it is worse."),
    changed: bool = typer.Option(False, "--changed", help="Look for a change in either direction."),
    dataset: str = typer.Option(None, "--dataset", help="On which dataset.", autocompletion=completion.datasets),
    device: str = typer.Option("auto", "--device", help="cpu, cuda:1, mps, ...; auto takes the accelerator if any."),
) -> None:  # fmt: skip
    """Find the first commit in which a row's figure got worse, by running the row with the code of a few of them."""
    path = suite_path(suite)
    asked = lazy.Suite.read(path).select([row, *([dataset] if dataset else [])])
    if len(rows := asked.rows()) != 1:
        fail(f"{row!r} is {len(rows)} rows of {path}: name one by its label, and its --dataset")
    if metric not in asked.metrics:
        fail(f"{path} has no metric {metric!r}{did_you_mean(metric, asked.metrics)}")
    repository = lazy.Repository(path)
    first, last = repository.commit(good), repository.commit(bad)
    if not (commits := repository.between(first, last)):
        fail(f"--good {good} --bad {bad}: {first} is not before {last} along first parents")
    halvings = math.ceil(math.log2(len(commits)))
    echo(f"{len(commits)} commits, of which about {halvings} are run, and both ends", err=True)
    trial = _Trial(context.obj, repository, path, asked, metric, device)
    alpha = lazy.ALPHA / (1 + 2 * halvings)  # of each test that there may be

    def worse(found: lazy.History) -> lazy.Step | None:
        """The test that proves the later figure worse; or other, where any change is looked for."""
        proven = (it for it in found.steps if it.p_value <= alpha and (it.tested.difference > 0 or changed))
        return next(proven, None)

    reference, worst = trial.source(first), trial.source(last)
    if (proof := worse(lazy.follow([reference, worst]))) is None:
        echo(f"{metric} of {row} is not proven worse", err=True)
        raise typer.Exit(1)
    low, high, skipped = -1, len(commits) - 1, set[int]()
    while between := [number for number in range(low + 1, high) if number not in skipped]:
        number = between[len(between) // 2]
        try:
            against = lazy.follow([reference, source := trial.source(commits[number])])
            if (found := worse(against)) is not None:
                high, proof, worst = number, found, source
            elif not (against.steps or against.not_told) or worse(lazy.follow([source, worst])) is not None:
                low = number
            else:
                raise ValueError(next(iter(against.not_told), "it is told apart from neither end"))
        except ValueError as error:
            skipped.add(number)
            echo(f"skipped: {commits[number]}: {error}", err=True)
    before, after, (difference, least, most) = proof.before.mean, proof.after.mean, proof.change
    echo(f"{proof.name}: {before:.6g}, then {after:.6g} {proof.after.unit}: {difference:+.4g}, 95 % "
         f"[{least:+.4g}, {most:+.4g}], p = {proof.p_value:.2g}, by {proof.tested.basis}")  # fmt: skip
    said = "the first is" if high - low == 1 else "the first is one of these, of which all but the last were skipped:"
    echo("\n".join([said, *(f"  {commit}" for commit in commits[low + 1 : high + 1])]))
    raise typer.Exit(int(high - low > 1))


@dataclass(frozen=True)
class _Trial:
    """Runs one row with the code of a commit, into the store: what depends on the same code is there already."""

    options: Context
    repository: lazy.Repository
    path: Path
    asked: lazy.Suite
    metric: str
    device: str

    def source(self, commit: lazy.Commit) -> lazy.Source:
        """Returns the row with the code of a commit, a speed of each seed by a run of its own; else a ValueError."""
        echo(str(commit), err=True)
        with self.repository.checked_out(commit) as folder:
            records = self._run(folder)
            if any(score.stage == "speed" for record in records.values() for score in record.scores.values()):
                for seed in self.asked.seeds[1:]:
                    records |= self._run(folder, "--seeds", str(seed))
        found = lazy.collect_all(self.options.artifacts, records.values())
        # read now: another commit's run may measure the same trainings anew
        archive = replace(found, per_image={name: found.per_image[name] for name in found.per_image})
        source = lazy.Source.of(str(commit), archive, self.asked)
        if not source.rows or (figure := source.rows[0].figure(self.metric)) is None:
            raise ValueError(f"the row has no {self.metric}")
        echo(f"  {self.metric} {figure.mean:.6g} {figure.unit}, {len(figure.values)} seeds", err=True)
        return source

    def _run(self, folder: Path, *more: str) -> dict[str, lazy.RunRecord]:
        # What is asked for is the suite as it stands now; the code is the commit's.
        suite = folder / self.repository.place(self.path)
        suite.parent.mkdir(parents=True, exist_ok=True)
        suite.write_bytes(self.path.read_bytes())
        roots = [folder, folder / "src", *sorted(path.parent for path in folder.glob("plugins/*/pyproject.toml"))]
        search = os.pathsep.join([*map(str, roots), *filter(None, [os.environ.get("PYTHONPATH")])])
        options = ["--artifacts", str(self.options.artifacts_root.resolve())]
        options += ["--data", str(self.options.data.resolve())] if self.options.data else []
        options += [word for name in self.options.blocked for word in ("-p", f"no:{name}")]
        [row] = self.asked.rows()
        how = ["--only", row.label, "--only", row.dataset, "--redo-stale", "--no-audit", "--json", *more]
        if len(row.configurations) == 1:  # else they are chosen by another
            how += ["--set", f'metrics=["{self.metric}"]']
        command = [sys.executable, "-m", "harness", *options, "run", str(suite), "--device", self.device, *how]
        # no module is taken from the working folder; Ctrl-C is for this process, which passes it on
        environment, pipe = {**os.environ, "PYTHONPATH": search, "PYTHONSAFEPATH": "1"}, subprocess.PIPE
        with subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, env=environment, process_group=0) as child:
            try:
                out, err = child.communicate()
            except KeyboardInterrupt:
                child.send_signal(signal.SIGINT)
                child.communicate()
                raise
        try:
            records = [lazy.read_record(json.dumps(record)) for record in json.loads(out)]
        except ValueError:
            raise ValueError((err.strip().splitlines() or [f"exit status {child.returncode}"])[-1]) from None
        found, by = dict[str, lazy.RunRecord](), lazy.VALID_PREFIX  # a grid is chosen by scores on that split
        for record in records:
            scores = {it: of for it, of in record.scores.items() if of.metric == self.metric or it.startswith(by)}
            failures = [it.message for it in (record.failure, *(of.failure for of in scores.values())) if it]
            if failures or record.is_unfinished or record.reason:
                raise ValueError(f"{record.run}: {next(iter(failures), record.reason or record.status)}")
            found[record.run] = record.model_copy(update={"scores": scores})
        return found
