"""What a shell completes: asked as the shells ask, by environment variables."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys

import pytest
import typer

from harness.cli import completion
from harness.interface.spec import RunSpec
from harness.records.record import RunRecord, identity_of
from harness.records.store import Store
from harness.support.names import digest_of

MAIN = "from harness.cli import main; import sys; sys.argv[0] = 'harness'; main()"


@pytest.fixture
def lab(tmp_path):
    """Two suites, a file of published figures, and a store with a run."""
    for name, dataset in (("digits", "digits"), ("my-suite", "mnist")):
        text = f'title = "T"\ndatasets = ["{dataset}"]\nmetrics = ["nll", "iwae-7"]\n[[models]]\nname = "made"\n'
        (tmp_path / "leaderboards").mkdir(exist_ok=True)
        (tmp_path / "leaderboards" / f"{name}.toml").write_text(text)
    (tmp_path / "leaderboards" / "published.toml").write_text("")
    spec = RunSpec(model="made", dataset="digits")
    store = Store.in_folder(tmp_path / ".harness")
    for run in ("made-digits-s0-0123456789", "$(touch bad)", "a b"):
        store.put(
            RunRecord(
                run=run, key=digest_of(run), identity=identity_of(spec), spec=spec, hyperparameters={}, provider="p",
                code="c", dataset_digest="d", status="done",
            )
        )  # fmt: skip
    store.close()
    return tmp_path


def environment(**variables):
    """Without what the user's own shell says of artifacts and suites."""
    return {name: value for name, value in os.environ.items() if not name.startswith("HARNESS_")} | variables


def ask(lab, **variables):
    return subprocess.run(
        [sys.executable, "-c", MAIN], cwd=lab, env=environment(**variables), capture_output=True, text=True, check=False
    )


# All lines in one process: starting one for each would take most of the time.
ASK_ALL = """
import contextlib, io, json, os, sys
from harness.cli import main
sys.argv[0] = "harness"
answers = {}
for line in json.loads(sys.argv.pop()):
    os.environ |= {"COMP_WORDS": line, "COMP_CWORD": str(len(line.split(" ")) - 1)}
    with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.suppress(SystemExit):
        main()
    answers[line] = out.getvalue().split()
print(json.dumps({"answers": answers, "heavy": sorted({"torch", "numpy", "scipy", "pandas"} & set(sys.modules))}))
"""


def ask_bash(lab, *lines):
    """What bash gets for the last word of each line, and which heavy modules that took."""
    command = [sys.executable, "-c", ASK_ALL, json.dumps(lines)]
    asked = environment(_HARNESS_COMPLETE="complete_bash")
    done = subprocess.run(command, cwd=lab, env=asked, capture_output=True, text=True, check=True)
    assert done.stderr == ""
    return json.loads(done.stdout)


def bash(lab, line):
    """What bash gets for the last word of a line."""
    return ask_bash(lab, line)["answers"][line]


OFFERED = {
    "harness run ": ["digits", "my-suite"],
    "harness run d": ["digits"],
    "harness merge my": ["my-suite"],
    "harness show m": ["made-digits-s0-0123456789"],
    "harness --artifacts elsewhere show m": [],
    "harness compare made": ["made", "made-digits-s0-0123456789"],
    "harness compare a b --metric iw": ["iwae-7"],
    "harness compare a b --metric nl": ["nll"],
    "harness compare a b --dataset digits-": ["digits-binary"],
    "harness compare a b --suite my": ["my-suite"],
    "harness merge digits x --prefer t": ["theirs"],
    "harness list mo": ["models"],
    "harness run digits --only ma": ["made"],
    "harness mer": ["merge"],
}


def test_bash_is_offered_names_and_no_torch_is_imported(lab):
    assert ask_bash(lab, *OFFERED) == {"answers": OFFERED, "heavy": []}


def test_zsh_is_offered_suites(lab):
    answer = ask(lab, _HARNESS_COMPLETE="complete_zsh", _TYPER_COMPLETE_ARGS="harness run ")
    assert answer.stdout.split() == ["_arguments", "'*:", ':(("digits"', '"my-suite"))\'']


def test_fish_is_offered_suites(lab):
    fish = {"_HARNESS_COMPLETE": "complete_fish", "_TYPER_COMPLETE_ARGS": "harness run "}
    assert ask(lab, **fish, _TYPER_COMPLETE_FISH_ACTION="get-args").stdout.split() == ["digits", "my-suite"]
    assert ask(lab, **fish, _TYPER_COMPLETE_FISH_ACTION="is-args").returncode == 0


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_script_of_each_shell_asks_this_command(lab, shell):
    script = ask(lab, _HARNESS_COMPLETE=f"source_{shell}").stdout
    assert f"_HARNESS_COMPLETE=complete_{shell}" in script


@pytest.mark.skipif(shutil.which("bash") is None, reason="bash is not installed")
def test_bash_takes_the_script_and_completes_with_it(lab):
    command = lab / "bin" / "harness"
    command.parent.mkdir()
    command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -c "{MAIN}" "$@"\n')
    command.chmod(0o755)
    script = ask(lab, _HARNESS_COMPLETE="source_bash").stdout
    use = 'COMP_WORDS=(harness run my); COMP_CWORD=2; _harness_completion harness; echo "${COMPREPLY[@]}"'
    done = subprocess.run(
        ["bash", "--norc", "-c", f"{script}\n{use}"], cwd=lab, capture_output=True, text=True, check=True,
        env=environment(PATH=f"{command.parent}:{os.environ['PATH']}"),
    )  # fmt: skip
    assert done.stdout.split() == ["my-suite"]


def test_a_name_that_a_shell_would_obey_is_not_offered(lab):
    assert bash(lab, "harness show ") == ["made-digits-s0-0123456789"]


def test_completing_makes_no_store(lab):
    bash(lab, "harness --artifacts new show ")
    assert not (lab / "new").exists()


def test_a_store_that_cannot_be_read_completes_nothing(lab):
    (lab / ".harness" / "store.sqlite").write_bytes(b"no database at all" * 100)
    assert bash(lab, "harness show ") == []


def test_whatever_goes_wrong_there_is_nothing_to_complete():
    def fail(_):
        raise RuntimeError("broken")

    assert (
        completion._quietly(fail)(typer.Context(typer.main.get_command(typer.Typer(callback=lambda: None))), "") == []
    )
