"""What lists and discovers stays light: no torch before something is used."""

from __future__ import annotations

import subprocess
import sys

import pytest

import harness


def modules_after(code):
    """Names of the modules that a fresh interpreter has loaded after ``code``."""
    script = f"{code}\nimport sys\nprint('\\n'.join(sys.modules), file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return set(done.stderr.split())


def command(*arguments):
    """Code that runs the command line and goes on when it exits."""
    run = "from harness.cli import main\ntry: main()\nexcept SystemExit: pass"
    return f"import sys\nsys.argv = {['harness', *arguments]}\n{run}"


@pytest.mark.parametrize(
    "code",
    [
        "import harness; dir(harness)",
        "from harness.discovery.manager import PluginManager; PluginManager()",
        command("list"),
        command("plugins"),
        command("run", "--help"),
    ],
    ids=["import", "discovery", "list", "plugins", "help"],
)
def test_no_torch_is_imported_by(code):
    loaded = modules_after(code)
    assert "harness" in loaded
    assert loaded & {"torch", "numpy", "scipy", "sklearn", "pandas", "sqlalchemy", "altair", "PIL"} == set()


def test_every_public_name_resolves():
    assert [name for name in harness.__all__ if not hasattr(harness, name)] == []


def test_dir_lists_the_public_names_before_they_are_loaded():
    assert set(harness.__all__) <= set(dir(harness))


def test_an_unknown_public_name_is_an_attribute_error_by_its_name():
    with pytest.raises(AttributeError, match="module 'harness' has no attribute 'nothing'"):
        _ = harness.nothing
