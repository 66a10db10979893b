"""``harness new-plugin``: what it writes installs, is audited, trains and is ranked as printed, from any folder."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
import zipfile
from importlib import resources
from pathlib import Path

import pytest

from harness.cli.scaffold import KINDS, NewPluginError, class_of, package_of, write_plugin
from harness.discovery.manager import plugin_manager


@pytest.fixture
def harness(command_line, monkeypatch):
    """Returns a function that runs a command in a folder."""

    def run(folder, *arguments):
        monkeypatch.chdir(folder)
        return command_line(*arguments)

    return run


def install(install_plugin, folder):
    """Installs a written package as ``pip install`` does, without the network that its build would need."""
    project = tomllib.loads((folder / "pyproject.toml").read_text())["project"]
    sources = {str(path.relative_to(folder)): path.read_text() for path in folder.glob("harness_*/*.py")}
    points = project["entry-points"]["harness"]
    return install_plugin(project["name"], sources, entry_points=points, requires=project["dependencies"])


@pytest.mark.parametrize("kind", ["exact", "implicit", pytest.param("latent", marks=pytest.mark.thorough)])
def test_what_is_written_is_installed_audited_trained_and_ranked(kind, tmp_path, harness, install_plugin):
    elsewhere = tmp_path / "else where"
    elsewhere.mkdir()
    written = harness(elsewhere, "new-plugin", "demo", "--kind", kind)
    assert written.code == 0, written.err
    install(install_plugin, elsewhere / "demo")

    checks = "contract,unchanged,reproducible,checkpoint" + (",normalisation" if kind != "implicit" else "")
    audited = harness(elsewhere, "audit", "demo", "--checks", checks)
    assert audited.code == 0, audited.out + audited.err
    [step] = [line.split()[1:] for line in written.out.splitlines() if line.startswith("  harness run ")]
    suite = elsewhere / "demo" / "demo.toml"
    suite.write_text(suite.read_text().replace("seeds = [0, 1]", 'seeds = [0]\nbudget = "3 epochs"'))
    metrics = {"exact": '"nll"', "latent": '"nll", "negative-elbo"', "implicit": '"fid-pixels-n100"'}[kind]
    done = harness(elsewhere, *step, "--set", f"metrics=[{metrics}]")
    assert done.code == 0, done.err
    assert "2 done" in done.err
    board = harness(elsewhere, "leaderboard", "demo/demo.toml", "--json")
    assert board.code == 0, board.err
    assert board.json["written"]
    if kind == "exact":
        assert re.search(r"^\| \d(–\d)? +\| demo ", suite.with_suffix("").joinpath("likelihood.md").read_text(), re.M)


def test_the_next_steps_are_those_of_the_folder_that_was_asked_for(tmp_path, harness):
    answer = harness(tmp_path, "new-plugin", "two-words", "--directory", "some folder", "--json")
    content = answer.json
    assert content["next"] == [
        "pip install -e './some folder/two-words[test]'",
        "harness audit two-words",
        "harness run 'some folder/two-words/two-words.toml'",
        "harness leaderboard 'some folder/two-words/two-words.toml'",
        "pytest 'some folder/two-words'",
    ]
    assert all((tmp_path / file).is_file() for file in content["files"])
    names = {Path(file).name for file in content["files"]}
    assert names == {"pyproject.toml", "README.md", "two-words.toml", "__init__.py", "model.py", "test_two_words.py"}


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_written_is_python_without_a_placeholder(kind, tmp_path):
    written = write_plugin("two-words", plugin_manager(), kind=kind, directory=tmp_path)
    for file in written.files:
        text = (written.folder / file).read_text()
        assert re.search(r"\$\w|\$\{", text) is None
        assert text.endswith("\n")
        if file.suffix == ".py":
            compile(text, str(file), "exec")
    project = tomllib.loads((written.folder / "pyproject.toml").read_text())["project"]
    assert project["entry-points"] == {"harness": {"two-words": "harness_two_words"}}
    assert (package_of("two-words"), class_of("two-words")) == ("harness_two_words", "TwoWords")


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("MyModel", "'MyModel' is no name of a model"),
        ("MyModel", "'my-model' would do"),
        ("my_model", "'my-model' would do"),
        ("2d", "a letter first"),
        ("a--b", "'a-b' would do"),
        ("../up", "'up' would do"),
        ("", "'' is no name of a model"),
        ("x" * 200, "at most 60"),
        ("none", "'none' means something in Python; 'none-model' would do"),
        ("class", "'class' means something in Python"),
        ("uniform", "there is a model 'uniform' already, of harness-baselines"),
        ("baselines", "there is a plugin 'baselines' already, of harness-baselines"),
    ],
)
def test_a_name_that_cannot_be_used_is_refused_in_a_line_that_says_why(name, says, tmp_path):
    with pytest.raises(NewPluginError) as caught:
        write_plugin(name, plugin_manager(), directory=tmp_path)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_a_python_package_of_that_name_is_not_hidden(tmp_path, monkeypatch):
    (tmp_path / "harness_taken.py").write_text("")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(NewPluginError, match="there is a Python package 'harness_taken' already, at "):
        write_plugin("taken", plugin_manager(), directory=tmp_path)


def test_nothing_is_overwritten(tmp_path):
    (tmp_path / "demo").mkdir()
    write_plugin("demo", plugin_manager(), directory=tmp_path)  # an empty folder is no obstacle
    before = (tmp_path / "demo" / "README.md").read_bytes()
    with pytest.raises(NewPluginError, match="is not empty: choose another name or --directory"):
        write_plugin("demo", plugin_manager(), kind="latent", directory=tmp_path)
    assert (tmp_path / "demo" / "README.md").read_bytes() == before
    (tmp_path / "other").write_text("")
    with pytest.raises(NewPluginError, match="exists, and is no folder"):
        write_plugin("other", plugin_manager(), directory=tmp_path)


def test_a_package_is_written_where_pytest_is_not_installed(tmp_path):
    code = "import sys; sys.modules['pytest'] = None; from harness.cli import main; main()"
    subprocess.run([sys.executable, "-c", code, "new-plugin", "demo"], cwd=tmp_path, check=True, capture_output=True)
    assert (tmp_path / "demo" / "tests" / "test_demo.py").is_file()


def test_an_unknown_kind_is_one_line_on_the_command_line(tmp_path, harness):
    answer = harness(tmp_path, "new-plugin", "demo", "--kind", "exat")
    assert answer.code == 2
    assert answer.err == "error: kind 'exat' is none of exact, latent, implicit (did you mean 'exact'?)\n"
    assert answer.out == ""


def test_the_templates_are_in_the_wheel(tmp_path):
    pytest.importorskip("hatchling", reason="hatchling, which builds wheels, is not installed")
    root = Path(__file__).parents[2]
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    subprocess.run(command, cwd=root, check=True, capture_output=True)
    [wheel] = tmp_path.glob("*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    templates = resources.files("harness.cli") / "templates" / "plugin"
    with resources.as_file(templates) as folder:
        files = [file.relative_to(folder).as_posix() for file in folder.rglob("*.template")]
    expected = {f"harness/cli/templates/plugin/{file}" for file in files}
    assert len(expected) == 8
    assert expected <= names
