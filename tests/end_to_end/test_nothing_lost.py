"""No command loses what is committed: what goes of records, figures, sample grids and weights was asked for by name.

Commands, plans, the store, the archive and the pictures are real; only the children are not: a run's training is a
random number, so that every training of one run ends in other weights, as on another machine.
"""

from __future__ import annotations

import itertools
import random
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from safetensors.numpy import save

from harness.discovery.loading import build_model, load_dataset
from harness.discovery.manager import plugin_manager
from harness.interface.data_folder import DataFolder
from harness.records.archive import read_archive
from harness.records.record import FitRecord, ScoreRecord
from harness.records.run_folder import RunFolder
from harness.records.store import Artifacts
from harness.report.charts import mark_of
from harness.support.checkpoint import save_weights
from harness.support.files import write_atomically

MODELS = ("independent-pixels", "uniform")
IMAGES = np.arange(4)
NUMBERS = itertools.count(1)


class Training:
    """What a child would leave in a run's folder, at once; an executor's handle, too."""

    def __init__(self, job, plugins, data):
        folder, self.ended = RunFolder(job.folder), lambda: None
        spec, number = folder.description().spec, next(NUMBERS)
        if folder.fit() is None:
            save_weights(folder.weights, build_model(plugins, spec, data, torch.device("cpu")), {"number": str(number)})
            fit = FitRecord(steps=1, epochs=1.0, seconds=number, checkpoint="last", weights_sha256=f"{number}")
            folder.write_fit(fit, {})
        for stage in job.stages:
            scores = folder.fit().seconds + np.arange(4.0)
            described = {"metric": stage.metric, "key": stage.key, "kind": "exact", "value": float(scores.mean())}
            if stage.metric == "nll":
                described |= {"per_image": f"{folder.run}/{stage.name}", "num_images": 4}
                content = save({"per_image": scores, "images": IMAGES})
                write_atomically(folder.per_image_file(stage.name), content)
            folder.write_score(stage.name, ScoreRecord(**described))

    def exit_code(self):
        return 0


class Lab:
    """Two suites of one name that share models, two artifact folders as of two machines, and what is committed."""

    def __init__(self, root, command_line):
        self.root, self.command_line = root, command_line
        self.suites = [root / place / "exp.toml" for place in "xy"]
        self.machines = [root / "A", root / "B"]
        for suite in self.suites:
            suite.parent.mkdir()
            self.write(suite, MODELS)

    def write(self, suite, models, seeds=(0, 1)):
        rows = "".join(f'[[models]]\nname = "{name}"\n' for name in models)
        metrics = '["nll", "fid-pixels-n100"]' if suite == self.suites[0] else '["nll"]'
        head = f'title = "T"\ndatasets = ["digits-binary"]\nseeds = {list(seeds)}\nmetrics = {metrics}\naudit = false\n'
        suite.write_text(head + rows)

    def __call__(self, machine, *arguments):
        return self.command_line("--artifacts", self.machines[machine], *arguments)

    def done(self, machine, *arguments):
        answer = self(machine, *arguments)
        assert answer.code == 0, answer
        return answer

    def committed(self):
        """All that is committed, by what it is called: figures of records, scores of images, and sample grids."""
        found = {}
        for folder in (suite.with_suffix("") for suite in self.suites):
            if not (folder / "records.jsonl").exists():
                continue
            archive = read_archive(folder)
            for record in archive.records:
                found[folder, record.run, ""] = record.fit.weights_sha256
                found |= {(folder, record.run, name): score.value for name, score in record.scores.items()}
            found |= {(folder, *name.split("/")): tuple(values[0]) for name, values in archive.per_image.items()}
            grids = [file for file in folder.glob("samples/*") if not file.name.startswith("real")]
            found |= {(folder, file.name, "grid"): mark_of(file.read_bytes()) for file in grids}
        return found

    def weights(self):
        """All trainings, by machine and run."""
        folders = [RunFolder(path) for machine in self.machines for path in (machine / "runs").glob("*")]
        return {(folder.path.parent.parent, folder.run): folder.fit() for folder in folders}

    def referred(self, machine):
        return set().union(*Artifacts(machine).store.references().values())


@pytest.fixture
def lab(tmp_path, command_line, monkeypatch):
    plugins, data = plugin_manager(), load_dataset(plugin_manager(), "digits-binary", DataFolder.resolve(tmp_path))
    local = "harness.builtin.executors.local.LocalExecutor"
    monkeypatch.setattr(f"{local}.__init__", lambda self: None)
    monkeypatch.setattr(f"{local}.close", lambda self: None)
    monkeypatch.setattr(f"{local}.start", lambda self, job: Training(job, plugins, data))
    monkeypatch.setattr("harness.running.dispatch._POLL_SECONDS", 0.001)
    return Lab(tmp_path, command_line)


class Whim:
    """Commands by chance, one after the other."""

    def __init__(self, lab, seed):
        self.lab, self.chance = lab, random.Random(seed)

    def step(self):
        """Does something to the suites, then one command, and returns what was said."""
        chance, lab = self.chance, self.lab
        machine, suite = chance.randrange(2), chance.choice(lab.suites)
        if chance.random() < 0.15:
            lab.write(suite, chance.sample(MODELS, chance.randint(1, 2)), chance.choice([(0,), (0, 1)]))
        replace = ["--replace"] if chance.random() < 0.2 else []
        part = [*chance.choice([[], ["--seeds", "0"], ["--seeds", "1"]])]
        other = lab.root / f"from-{chance.randrange(2)}"
        commands = [
            ["run", suite, *part],
            ["run", suite, *part],
            ["export", suite, *replace],
            ["export", suite, *replace],
            ["export", suite, "-o", other, *replace],
            ["leaderboard", suite, *chance.choice([[], ["--check"]])],
            ["merge", suite, other],
            ["clean", *chance.choice([[], ["--remove"]])],
        ]
        arguments = chance.choice(commands)
        answer = lab(machine, *arguments)
        assert answer.code in (0, 1, 2)
        return SimpleNamespace(
            machine=lab.machines[machine], arguments=[str(part) for part in arguments], said=answer.out + answer.err
        )


def losses(before, after):
    """What is gone or changed; a grid may become that of an earlier seed, if that is committed now."""
    gone = {key: value for key, value in before.items() if after.get(key) != value}
    trainings = {f"1 {run} {value}" for (_, run, name), value in after.items() if name == ""}
    return {key: value for key, value in gone.items() if key[-1] != "grid" or after.get(key) not in trainings}


def check_sequence(lab, seed, steps):
    whim = Whim(lab, seed)
    for _ in range(steps):
        committed, weights = lab.committed(), lab.weights()
        command = whim.step()
        lost = losses(committed, lab.committed())
        if "--replace" in command.arguments:
            # what goes is named, and is not what the store does not have
            lost = {key for key in lost if key[1] not in command.said and key[2] != "grid"}
        assert not lost, (seed, command, lost)
        gone = {key for key, fit in weights.items() if lab.weights().get(key) != fit}
        if "--remove" in command.arguments:
            referred = lab.referred(command.machine)
            gone = {
                key for key in gone if key[0] != command.machine or key[1] not in command.said or key[1] in referred
            }
        assert not gone, (seed, command, gone)


@pytest.fixture
def committed(lab):
    """A lab whose first suite was run and exported on one machine; the other has trained nothing."""
    lab.done(0, "run", lab.suites[0])
    lab.done(0, "export", lab.suites[0])
    return lab


def test_the_export_of_a_part_keeps_the_whole(committed):
    lab, before = committed, committed.committed()
    lab.done(0, "clean", "--remove")
    lab.write(lab.suites[0], ("independent-pixels", "uniform", "gaussian"))
    lab.done(1, "run", lab.suites[0], "--only", "gaussian", "--seeds", "0")
    answer = lab.done(1, "export", lab.suites[0])
    assert "4 runs are kept that the store does not hold" in answer.err
    after = lab.committed()
    assert losses(before, after) == {}
    assert len({run for _, run, name in after.keys() - before.keys() if name == ""}) == 1


def test_what_another_training_would_take_the_place_of_is_said_and_stays_until_it_is_to_be_replaced(committed):
    lab, before, folder = committed, committed.committed(), committed.suites[0].with_suffix("")
    files = {file: file.read_bytes() for file in folder.rglob("*") if file.is_file()}
    lab.done(1, "run", lab.suites[0], "--only", "uniform", "--seeds", "0")
    refused = lab(1, "export", lab.suites[0])
    assert refused.code == 1
    assert "would be dropped: uniform-digits-binary-s0-" in refused.err
    assert "nothing was written: --replace takes the store's records" in refused.err
    assert {file: file.read_bytes() for file in folder.rglob("*") if file.is_file()} == files

    assert "dropped: uniform-digits-binary-s0-" in lab.done(1, "export", lab.suites[0], "--replace").err
    changed = {key for key in losses(before, lab.committed()) if key[2] != "grid"}
    assert {key[1] for key in changed} == {key[1] for key in before if key[1].startswith("uniform-digits-binary-s0-")}


def test_runs_that_the_suite_lists_no_more_stay_until_they_are_to_be_replaced(committed):
    lab, before = committed, committed.committed()
    lab.write(lab.suites[0], ("uniform",))
    assert "kept; --replace drops them: 2 runs" in lab.done(0, "export", lab.suites[0]).err
    assert losses(before, lab.committed()) == {}
    assert "dropped: 2 runs that the suite does not list: independent" in (
        lab.done(0, "export", lab.suites[0], "--replace").err
    )
    assert {run.partition("-")[0] for _, run, name in lab.committed() if name == ""} == {"uniform"}


def test_records_of_another_suite_are_not_mixed_with_a_suites(committed):
    lab = committed
    lab.write(lab.suites[1], ("gaussian",))
    lab.done(0, "run", lab.suites[1])
    complaint = lab(0, "export", lab.suites[1], "-o", lab.suites[0].with_suffix("")).complaint
    assert "holds 4 runs that the suite does not list" in complaint


def test_a_figure_that_only_the_archive_has_stays(committed):
    lab, before = committed, committed.committed()
    lab.done(0, "run", lab.suites[0], "--set", "metrics=['nll']")
    lab.done(0, "export", lab.suites[0], "--replace")
    assert losses(before, lab.committed()) == {}


def test_the_leaderboard_says_that_the_store_has_what_the_archive_has_not(committed):
    lab = committed
    assert "harness export" not in lab.done(0, "leaderboard", lab.suites[0]).err
    assert "harness export" not in lab.done(1, "leaderboard", lab.suites[0]).err
    assert not lab.machines[1].exists()
    lab.done(1, "run", lab.suites[0], "--only", "uniform")
    said = lab.done(1, "leaderboard", lab.suites[0]).err
    assert f"2 runs in {lab.machines[1]} are not what" in said
    assert f"'harness export {lab.suites[0]}' brings them in" in said


def test_what_a_killed_writer_left_in_a_runs_folder_is_gone_when_the_run_is_done(lab):
    lab.done(0, "run", lab.suites[1], "--only", "uniform", "--seeds", "0")
    [folder] = (lab.machines[0] / "runs").iterdir()
    left = [folder / ".training.safetensors.abc.part", folder / "scores" / ".nll.json.abc.part"]
    for file in left:
        file.touch()
    lab.done(0, "run", lab.suites[1])
    assert not any(file.exists() for file in left)


def test_a_sequence_of_commands_loses_nothing_that_is_not_named(lab):
    check_sequence(lab, 0, 25)


@pytest.mark.thorough
@pytest.mark.parametrize("seed", range(1, 20))
def test_no_sequence_of_commands_loses_anything_that_is_not_named(lab, seed):
    check_sequence(lab, seed, 50)
