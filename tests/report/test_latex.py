"""LaTeX: a paper's tables, which a TeX takes as they are."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from harness.boards.leaderboard import Leaderboard
from harness.boards.published import load_published
from harness.report.files import render_board
from harness.report.latex import escape
from harness.suites.suite import Suite

BOARDS = Path(__file__).parents[2] / "leaderboards"
NAMES = ("likelihood", "bounds", "sample-quality", "cost", "throughput")
TEX = next(filter(None, map(shutil.which, ("pdflatex", "lualatex", "xelatex", "tectonic"))), None)
PREAMBLE = r"""\documentclass{article}
\usepackage[T1]{fontenc}\usepackage{textcomp}\usepackage{booktabs}\usepackage[margin=1cm,a3paper,landscape]{geometry}
\begin{document}
"""


@pytest.fixture(scope="module")
def leaderboard():
    published = load_published(BOARDS / "published.toml")
    return Leaderboard.read(BOARDS / "mnist-static", Suite.read(BOARDS / "mnist-static.toml"), published=published)


@pytest.mark.parametrize("name", NAMES)
def test_every_row_has_as_many_cells_as_the_table_has_columns(leaderboard, name):
    text = render_board(leaderboard, name, "latex")
    for table in text.split(r"\begin{tabular}{")[1:]:
        width = len(table.partition("}")[0])
        rows = [line for line in table.splitlines() if line.endswith(r" \\")]
        assert len(rows) > 1
        assert {row.replace(r"\&", "").count("&") + 1 for row in rows} == {width}


def test_the_rules_are_those_of_booktabs_and_references_stand_below_one(leaderboard):
    lines = render_board(leaderboard, "sample-quality", "latex").splitlines()
    assert [line for line in lines if line.endswith("rule")] == [r"\toprule", r"\midrule", r"\midrule", r"\bottomrule"]
    last = len(lines) - 1 - lines[::-1].index(r"\midrule")
    assert {line.split(" & ")[1] for line in lines[last + 1 : last + 3]} == {"real training images", "real test images"}


def test_figures_keep_their_signs_and_those_that_nothing_beats_are_bold(leaderboard):
    lines = render_board(leaderboard, "likelihood", "latex").splitlines()
    [line] = [line for line in lines if "PixelVAE" in line]
    assert line.startswith(r"1--2 & PixelVAE, 1 + 4 layers of 16 maps & \textbf{$\leq$ 82.39 (0.20)} & ")
    [line] = [line for line in lines if "PixelCNN, 10 blocks" in line]
    assert "textbf" not in line


@pytest.mark.parametrize(
    ("text", "escaped"),
    [
        ("50 % of $x_1$ & #2 {a}", r"50 \% of \$x\_1\$ \& \#2 \{a\}"),
        (r"C:\x ~ y^2", r"C:\textbackslash{}x \textasciitilde{} y\textasciicircum{}2"),
        ("a < b", r"a $<$ b"),
        ("1 ± 2\n– é", r"1 $\pm$ 2 -- é"),
    ],
)
def test_nothing_in_a_text_is_a_command(text, escaped):
    assert escape(text) == escaped


@pytest.mark.skipif(TEX is None, reason="no TeX here: neither pdflatex nor lualatex, xelatex or tectonic")
@pytest.mark.parametrize("name", NAMES)
def test_a_tex_takes_it(leaderboard, name, tmp_path):
    body = render_board(leaderboard, name, "latex")
    (tmp_path / "board.tex").write_text(PREAMBLE + body + r"\end{document}", encoding="utf-8")
    assert TEX is not None
    options = [] if TEX.endswith("tectonic") else ["-interaction=nonstopmode", "-halt-on-error"]
    command = [TEX, *options, "board.tex"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout[-3000:]
