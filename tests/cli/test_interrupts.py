"""Ctrl-C is one line and exit status 130, from the first moment on."""

from __future__ import annotations

import subprocess
import sys

import pytest

from harness.cli import main

# Presses Ctrl-C as soon as a module is asked for: while the command, or what it needs, is being imported.
PRESS = """
import os, signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)
class Presses:
    def find_spec(self, name, path=None, target=None):
        if name == MODULE:
            os.kill(os.getpid(), signal.SIGINT)
sys.meta_path.insert(0, Presses())
from harness.cli import main
sys.argv = ["harness", *ARGUMENTS]
main()
"""


@pytest.mark.parametrize(
    ("module", "arguments"),
    [
        ("typer", ["list"]),
        ("harness.cli.commands", ["list"]),
        ("harness.discovery.manager", ["list"]),
        ("torch", ["doctor"]),
        ("sqlalchemy", ["status"]),
    ],
)
def test_ctrl_c_while_something_is_imported_is_one_line(module, arguments, tmp_path):
    press = f"MODULE, ARGUMENTS = {module!r}, {arguments!r}\n{PRESS}"
    done = subprocess.run([sys.executable, "-c", press], capture_output=True, text=True, cwd=tmp_path, timeout=100)
    assert (done.returncode, done.stderr) == (130, "interrupted\n")


def test_what_precedes_the_first_moment_imports_nothing():
    code = "import sys; before = set(sys.modules); import harness.cli; print(sorted(set(sys.modules) - before))"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert loaded == "['__future__', 'harness', 'harness.cli']\n"


def test_ctrl_c_while_another_error_is_dealt_with_is_one_line(monkeypatch, capsys):
    def pressed(**_):
        try:
            raise ValueError("one") from KeyError("another")
        except ValueError:
            raise KeyboardInterrupt  # noqa: B904 - as it comes: with what was being handled as its context

    monkeypatch.setattr("harness.cli.commands.app", pressed)
    with pytest.raises(SystemExit) as end:
        main()
    assert (end.value.code, capsys.readouterr().err) == (130, "interrupted\n")
