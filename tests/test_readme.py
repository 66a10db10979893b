"""What README and guide teach works as printed: the plugin is listed, trained and ranked, the suite parses."""

from __future__ import annotations

import itertools
import re
import tomllib
from pathlib import Path

import pytest
import torch

import harness
from harness.suites.suite import Suite

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
GUIDE = (ROOT / "docs" / "guide.md").read_text(encoding="utf-8")


def blocks(language, text=README):
    return re.findall(rf"```{language}\n(.*?)```", text, flags=re.DOTALL)


@pytest.fixture
def plugin(install_plugin):
    [code] = [block for block in blocks("python") if "register_models" in block]
    [project] = [tomllib.loads(block) for block in blocks("toml") if "[project.entry-points.harness]" in block]
    name = project["project"]["name"]
    points = project["project"]["entry-points"]["harness"]
    requires = project["project"]["dependencies"]
    install_plugin(name, {f"{points['kde']}.py": code}, entry_points=points, requires=requires)


def test_the_plugin_is_listed_trained_and_ranked(plugin, tmp_path, monkeypatch, command_line):
    monkeypatch.chdir(tmp_path)
    assert "kde" in [entry["name"] for entry in command_line("list", "models", "--json").json]

    suite = tmp_path / "mine.toml"
    suite.write_text(
        'title = "Mine"\ndatasets = ["digits-binary"]\nmetrics = ["nll"]\n'
        '[[models]]\nname = "kde"\n[[models]]\nname = "uniform"\n'
    )
    done = command_line("run", "mine.toml")
    assert done.code == 0, done
    board = command_line("leaderboard", "mine.toml")
    assert board.code == 0, board
    ranks = dict(re.findall(r"\| (\S+) +\| (kde|uniform) ", board.out))
    assert ranks == {"1": "kde", "2": "uniform"}


def test_the_plugin_s_likelihood_sums_to_one(plugin):
    import harness_kde

    spec = harness.ImageSpec(1, 2, 3, 2)
    everything = torch.tensor(list(itertools.product((0, 1), repeat=6)), dtype=torch.uint8).view(-1, 1, 2, 3)
    model = harness_kde.KDE(spec).double()
    split = harness.Split(everything[[3, 9, 33]])
    model.fit(harness.Dataset("three", spec, split, split, split), None)

    assert model.log_prob(everything).exp().sum().item() == pytest.approx(1, abs=1e-12)


def test_the_suite_of_the_guide_parses():
    [text] = [block for block in blocks("toml", GUIDE) if "[[models]]" in block]

    suite = Suite.parse(tomllib.loads(text), name="guide", source="guide.md")

    assert [len(row.configurations) for row in suite.rows()] == [2]


def test_the_notebook_block_runs(tmp_path, monkeypatch, capsys):
    [code] = [block for block in blocks("python") if "harness.run(" in block]
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("HARNESS_ARTIFACTS", raising=False)

    exec(compile(code.replace("10 epochs", "1 epochs"), "README.md", "exec"), {})

    assert "exact" in capsys.readouterr().out


def test_the_readme_is_short_and_shows_a_board_and_pictures_before_it_explains():
    lines = README.splitlines()
    first_heading = next(number for number, line in enumerate(lines) if line.startswith("## "))
    above = "\n".join(lines[:first_heading])

    assert len(lines) <= 150
    assert "\n| Rank" in above
    assert 'src="leaderboards/first/samples/' in above


def test_the_board_of_the_readme_is_the_committed_one():
    def cells(text):
        rows = [line.strip("|").split("|") for line in text.splitlines() if line.startswith("| ")]
        return [[cell.strip() for cell in row] for row in rows]

    committed = cells((ROOT / "leaderboards" / "first" / "likelihood.md").read_text(encoding="utf-8"))
    [heading, _, *rows] = cells(README[: README.index("\n## ")])
    chosen = [committed[0].index(name) for name in heading]

    assert rows == [[row[index] for index in chosen] for row in committed[2 : 2 + len(rows)]]
