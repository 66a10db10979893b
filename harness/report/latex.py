"""LaTeX: a paper's tables, ruled by the package ``booktabs``."""

from harness.boards.leaderboard import Leaderboard
from harness.boards.table import Table
from harness.report.grid import grid_of
from harness.support.names import printable, slug

_LEFT_OUT = frozenset({"audit", "training", "kind", "verdict"})  # what a paper says in its text
_SPECIAL = str.maketrans({
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"$<$", ">": r"$>$", "±": r"$\pm$", "≤": r"$\leq$",
    "≥": r"$\geq$", "≈": r"$\approx$", "×": r"$\times$", "✗": r"$\times$", "↓": r"$\downarrow$", "↑": r"$\uparrow$",
    "–": "--", "µ": r"\textmu{}", "…": r"\ldots{}", '"': r"\textquotedbl{}",
})  # fmt: skip
_TABLE = r"""\begin{{table}}
\centering
\caption{{{caption}}}
\label{{{label}}}
\begin{{tabular}}{{{alignment}}}
\toprule
{header} \\
\midrule
{rows}
\bottomrule
\end{{tabular}}
\end{{table}}"""


def escape(text: str) -> str:
    """Returns a text on one line, in which nothing is a command."""
    return printable(" ".join(text.split())).translate(_SPECIAL)


def to_latex(leaderboard: Leaderboard, board: str) -> str:
    """Writes the tables of a board, one for each dataset (and machine); rows without a figure are left out."""
    needs = r"Needs \usepackage[T1]{fontenc} and \usepackage{booktabs}."
    parts = [f"% Generated from records by `harness leaderboard`. {needs}"]
    for dataset in leaderboard.datasets:
        for number, table in enumerate(leaderboard.tables(board, dataset)):
            if table.rows:
                title = ", ".join(filter(None, [leaderboard.title, dataset, board, table.title]))
                parts.append(
                    _table(table, title, f"tab:{board}-{slug(dataset)}" + (f"-{number + 1}" if number else ""))
                )
    return "\n\n".join(parts) + "\n"


def _table(table: Table, title: str, label: str) -> str:
    lines = [line for line in table.lines if line.place != "missing"]
    grid = grid_of(table, lines, without=_LEFT_OUT)
    rows: list[str] = []
    for line, cells in zip(lines, grid.rows, strict=True):
        printed = [escape(cell) for cell in cells]
        if table.by is not None and table.by.key in grid.keys and line.rank is not None and line.rank.best == 1:
            bold = grid.keys.index(table.by.key)
            printed[bold] = rf"\textbf{{{printed[bold]}}}"
        if line.place == "reference" and len(rows) == len(table.models) > 0:
            rows.append(r"\midrule")
        rows.append(" & ".join(printed) + r" \\")
    sentence = f" {table.ranks.sentence} Bold: no row is proven better." if table.ranks.intervals else ""
    return _TABLE.format(
        caption=escape(f"{title}.{sentence}"), label=label, rows="\n".join(rows),
        header=" & ".join(map(escape, grid.headers)), alignment="".join("r" if right else "l" for right in grid.right),
    )  # fmt: skip
