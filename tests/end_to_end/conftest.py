"""The command line in this process, with real child processes, one artifact folder a lab, and a plugin to play with."""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import shutil
import signal
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from harness.discovery import distributions
from harness.discovery import manager as plugins
from harness.records.store import Artifacts

TINKER = Path(__file__).with_name("tinker")


@dataclass(frozen=True)
class Lab:
    """An artifact folder, suites beside it, and the command line."""

    root: Path
    command_line: Callable

    def write(self, name, text):
        file = self.root / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
        return file

    def suite(
        self, models, *, name="suite", seeds="[0]", metrics='["nll"]', dataset="digits-binary", audit=False, more=""
    ):
        """Writes a suite; ``models`` are names, or bodies of ``[[models]]`` tables. Audits take their time."""
        tables = [text if "=" in text else f'name = "{text}"' for text in models]
        head = f'title = "T"\ndatasets = ["{dataset}"]\nseeds = {seeds}\nmetrics = {metrics}\n'
        head += f"audit = {str(audit).lower()}\n{more}\n"
        return self.write(f"{name}.toml", head + "".join(f"[[models]]\n{table}\n" for table in tables))

    @property
    def artifacts(self):
        return self.root / "artifacts"

    def harness(self, *arguments):
        """Runs ``harness --artifacts FOLDER ARGUMENTS`` in this process."""
        return self.command_line("--artifacts", self.artifacts, *arguments)

    def done(self, *arguments):
        """Runs a command that has to succeed."""
        answer = self.harness(*arguments)
        assert answer.code == 0, answer
        return answer

    def states(self, suite, *arguments):
        """The plan: the state of every run, by run."""
        return {item["run"]: item["state"] for item in self.done("run", suite, "--dry-run", "--json", *arguments).json}

    def records(self):
        """All records of the store."""
        return Artifacts(self.artifacts).store.records()

    def record(self, model, seed=0):
        """The record of the one run of a model and seed."""
        [found] = [item for item in self.records() if (item.spec.model, item.spec.seed) == (model, seed)]
        return found

    def folder(self, record):
        return Artifacts(self.artifacts).folder(record.run)

    def figures(self):
        """What a run's results are, but for the time that they took: by model and seed."""
        return {
            (record.spec.model, record.spec.seed): (
                record.status,
                record.fit and (record.fit.steps, record.fit.valid_score, record.fit.weights_sha256),
                {name: (score.value, score.standard_error) for name, score in record.scores.items()},
            )
            for record in self.records()
        }

    def times(self, pattern="**/*"):
        """When each file of the runs was written last."""
        files = (self.artifacts / "runs").glob(pattern)
        return {file: file.stat().st_mtime_ns for file in files if file.is_file() and file.name != ".lock"}

    def progress(self, model):
        """Where the one run of a model stands."""
        for file in (self.artifacts / "runs").glob(f"{model}-*/progress.json"):
            return json.loads(file.read_text())
        return {}

    def stage(self, model):
        """The stage that the one run of a model is in."""
        return self.progress(model).get("stage")

    def training(self, model, *, step):
        """Whether the one run of a model trains, has saved itself, and is at ``step`` or later."""
        saved = any((self.artifacts / "runs").glob(f"{model}-*/training.safetensors"))
        return saved and self.stage(model) == "fit" and (self.progress(model).get("step") or 0) >= step

    @contextlib.contextmanager
    def interrupting(self, condition, times=1):
        """Presses Ctrl-C in this process as soon as a condition holds."""
        over = threading.Event()

        def press():
            while not over.is_set() and not condition():
                time.sleep(0.01)
            for _ in range(times):
                if not over.is_set():
                    os.kill(os.getpid(), signal.SIGINT)
                    time.sleep(0.3)

        thread = threading.Thread(target=press)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()


@pytest.fixture(autouse=True)
def ctrl_c_interrupts():
    """Makes Ctrl-C what it is in a terminal: what a shell starts in the background, tests among it, ignores it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture(scope="package")
def site(tmp_path_factory):
    """Installs the plugin, for this process and its children, and returns the folder that it is in."""
    folder = tmp_path_factory.mktemp("site")
    shutil.copytree(TINKER / "harness_tinker", folder / "harness_tinker", ignore=shutil.ignore_patterns("__pycache__"))
    info = folder / "harness_tinker-0.1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: harness-tinker\nVersion: 0.1\n")
    (info / "entry_points.txt").write_text("[harness]\ntinker = harness_tinker\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "path", [str(folder), *sys.path])
        patch.setenv("PYTHONPATH", str(folder))
        patch.setenv("OMP_NUM_THREADS", "1")
        patch.delenv(plugins.BLOCK_VARIABLE, raising=False)
        patch.delenv("HARNESS_DATA", raising=False)
        patch.setenv("TINKER_GLUE", str(folder / "glue"))
        patch.setenv("TINKER_WATCH", str(folder / "watch"))
        _forget_plugins()
        yield folder
    _forget_plugins()


def _forget_plugins():
    importlib.invalidate_caches()
    plugins.plugin_manager.cache_clear()
    distributions.modules_of.cache_clear()
    for name in [name for name in sys.modules if name.partition(".")[0] == "harness_tinker"]:
        del sys.modules[name]


@pytest.fixture(scope="package")
def make_lab(site, tmp_path_factory, command_line):
    """Makes empty labs."""
    return lambda: Lab(tmp_path_factory.mktemp("lab"), command_line)


@pytest.fixture
def lab(make_lab):
    """An empty lab."""
    return make_lab()


@pytest.fixture(scope="package")
def finished(make_lab):
    """A lab whose suite ``suite.toml`` has been run: three models, two seeds. Not to be changed."""
    lab = make_lab()
    lab.suite(
        ["uniform", "independent-pixels", "tilted"],
        seeds="[0, 1]",
        metrics='["nll", "parameters-training", "hardness"]',
    )
    lab.done("run", lab.root / "suite.toml", "--jobs", "1")
    return lab


@pytest.fixture
def no_children(monkeypatch):
    """Fails whatever starts a child process."""

    def start(self, job):
        pytest.fail(f"a child was started for {job.folder.name}")

    monkeypatch.setattr("harness.builtin.executors.local.LocalExecutor.start", start)
