"""What the tutorials show works as printed: their blocks run in order, and print what stands below them."""

from __future__ import annotations

import ast
import contextlib
import io
import re
import shlex
import tomllib
from pathlib import Path

import pytest

from harness.discovery import distributions
from harness.discovery import manager as plugins
from harness.report.files import render_board
from harness.testing import Lab

DOCS = Path(__file__).parent.parent / "docs"
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", flags=re.DOTALL | re.MULTILINE)


def blocks(name):
    return BLOCK.findall((DOCS / name).read_text(encoding="utf-8"))


def commands(text):
    """Yields each command of a console block with what stands below it."""
    for part in re.split(r"^\$ ", text, flags=re.MULTILINE)[1:]:
        command, _, output = part.partition("\n")
        yield shlex.split(command), output


class Reader:
    """Does what a document says, in a folder of its own."""

    def __init__(self, name, folder, install, command_line):
        self.name, self.folder, self.install, self.command_line = name, folder, install, command_line
        self.names, self.printed, self.suites = {}, "", set()

    def read(self):
        for language, text in blocks(self.name):
            getattr(self, language)(text)

    def python(self, text):
        found = re.match(r"# file: (\S+)\n", text)
        if found:
            (self.folder / found[1]).parent.mkdir(exist_ok=True)
            (self.folder / found[1]).write_text(text, encoding="utf-8")
            return
        out = io.StringIO()
        with contextlib.redirect_stdout(out):
            exec(compile(text, self.name, "exec"), self.names)
        self.printed = out.getvalue()

    def output(self, text):
        assert self.printed == text

    def toml(self, text):
        found = re.match(r"# file: (\S+)\n", text)
        (self.folder / found[1]).write_text(text, encoding="utf-8")
        self.suites.add(found[1])

    def console(self, text):
        for words, output in commands(text):
            if words[:2] == ["pip", "install"]:
                if words[-1] != "pytest":
                    self._pip(self.folder / words[-1].removesuffix("[test]"))
                continue
            if words == ["pytest"]:
                [test] = self.folder.glob("tests/test_*.py")
                exec(compile(test.read_text(encoding="utf-8"), test, "exec"), self.names)
                continue
            assert words[0] == "harness"
            long = words[1] == "run" and words[2] not in self.suites  # a suite of the page's own is short
            done = self.command_line(*words[1:], *(["--seeds", "0", "--set", "budget='2 epochs'"] * long))
            assert done.code == 0, done
            if output:
                assert done.out == output

    def _pip(self, folder):
        """As ``pip install`` does, without the network that its build would need."""
        content = tomllib.loads((folder / "pyproject.toml").read_text())
        modules = content.get("tool", {}).get("setuptools", {}).get("py-modules", [])
        files = [folder / f"{module}.py" for module in modules] or folder.glob("harness_*/*.py")
        project, sources = content["project"], {str(path.relative_to(folder)): path.read_text() for path in files}
        points = project["entry-points"]["harness"]
        self.install(project["name"], sources, entry_points=points, requires=project["dependencies"])


@pytest.mark.parametrize(
    "name",
    [
        "add-a-model.md",
        "add-a-gan.md",
        "add-a-dataset.md",
        "add-a-metric.md",
        "add-a-sampler.md",
        "add-a-board.md",
        "add-a-figure.md",
        "wrap-a-model.md",
    ],
)
def test_what_a_tutorial_shows_works_as_printed(name, tmp_path, install_plugin, monkeypatch, command_line):
    folder = tmp_path / "anywhere"
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.delenv("HARNESS_ARTIFACTS", raising=False)

    reader = Reader(name, folder, install_plugin, command_line)
    reader.read()

    for value in list(reader.names.values()):
        if isinstance(value, type) and getattr(value, "__test__", False) and value.__name__.startswith("Test"):
            promised = value()._names()["promise"]
            for promise in promised:
                with contextlib.suppress(pytest.skip.Exception, pytest.xfail.Exception):
                    value().test_conforms(promise)


@pytest.fixture
def ink(tmp_path, install_plugin, monkeypatch, command_line):
    """The metric's plugin, installed as its document prints it, and its suite run; and what installs the board's."""
    folder = tmp_path / "anywhere"
    folder.mkdir()
    monkeypatch.chdir(folder)

    def install(name):
        reader = Reader(name, folder, install_plugin, command_line)
        for language, text in blocks(name):
            if text.startswith(("# file:", "$ pip install -e")):
                getattr(reader, language)(text)

    install("add-a-metric.md")
    lab = Lab(folder / "lab")
    suite = (folder / "ink.toml").read_text().replace("[0, 1]", "[0]")
    lab.run(suite.replace('["ink-difference"]', '["ink-difference", "parameters-sampling"]'))
    yield lab, install
    lab.close()


def test_a_strangers_metric_has_its_column_in_every_format_ranked_with_an_interval(ink):
    lab, install = ink
    best, worst = "independent-pixels", "uniform"
    for own in (False, True):  # the board that nobody registers; and a stranger's own
        if own:
            install("add-a-board.md")
        board = lab.board()
        assert board.boards == ("ink", "cost")
        table = board.table("ink", "digits-binary").set_index("label")
        assert table.ink_difference[best] < table.ink_difference[worst]
        assert [table.loc[label, ["rank_best", "rank_worst"]].tolist() for label in (best, worst)] == [[1, 1], [2, 2]]
        assert ("learned" in table.columns) is own
        markdown, text, latex = (render_board(board, "ink", name) for name in ("markdown", "csv", "latex"))
        [head] = [line for line in markdown.splitlines() if line.startswith("| Rank")]
        assert "Ink difference, levels ↓" in head
        assert ("Learned numbers" in head) is own
        assert ("How far the mean value of samples" in markdown) is own
        assert "ink_difference,ink_difference_sd,ink_difference_se" in text.splitlines()[0]
        assert r"\textbf{" in next(line for line in latex.splitlines() if best in line)
        assert r"Ink difference, levels $\downarrow$" in latex


def test_a_wrapper_takes_under_thirty_lines():
    lines = {}
    for text in (text for language, text in blocks("wrap-a-model.md") if language == "python"):
        for node in ast.parse(text).body:
            if isinstance(node, ast.ClassDef) and node.name.startswith("Wrapped"):
                code = text.splitlines()[node.lineno - 1 : node.end_lineno]
                lines[node.name] = sum(bool(line.strip()) for line in code)
    assert set(lines) == {"Wrapped", "WrappedVAE", "WrappedFlow", "WrappedGenerator"}
    assert max(lines.values()) < 30, lines


def test_the_plugins_of_the_documents_are_gone_afterwards():
    plugins.plugin_manager.cache_clear()
    distributions.modules_of.cache_clear()
    names = {info.name for info in plugins.plugin_manager().plugins}
    assert not names & {"demo", "stripes", "ink", "ink-board"}
