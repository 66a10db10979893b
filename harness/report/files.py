"""The boards' files: rendered, written, and checked against what is on disk.

A board is made of records, and of the names of the sample grids that lie beside it: pictures that are there are linked.
"""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from harness.boards.leaderboard import Leaderboard
from harness.report.board_page import board_page
from harness.report.csv import to_csv
from harness.report.latex import to_latex
from harness.report.markdown import GENERATED, to_markdown
from harness.report.pictures import FIGURES, FOLDER, figures_page
from harness.support.files import write_atomically

FORMATS = {"markdown": "md", "csv": "csv", "latex": "tex"}
"""The endings of files by format."""

COMMITTED = ("markdown", "csv")


def render_board(leaderboard: Leaderboard, board: str, format_name: str, pictures: Collection[str] = ()) -> str:
    """Returns a board in a format of ``FORMATS``.

    Args:
        leaderboard: the boards.
        board: which.
        format_name: which format.
        pictures: the names of the files in the folder ``samples`` beside the boards.
    """
    if format_name == "csv":
        return to_csv([leaderboard.table(board, dataset) for dataset in leaderboard.datasets])
    if format_name == "latex":
        return to_latex(leaderboard, board)
    return to_markdown(board_page(leaderboard, board, pictures))


def render_boards(
    leaderboard: Leaderboard, pictures: Collection[str] = (), figures: Collection[str] = ()
) -> dict[str, bytes]:
    """Returns the files of all boards that the suite's metrics have something to say on, by name.

    Args:
        leaderboard: the boards.
        pictures: the names of the files in the folder ``samples`` beside the boards.
        figures: the paths of those in the folder ``figures``; they have a page of their own.
    """
    files = {
        f"{board}.{FORMATS[name]}": render_board(leaderboard, board, name, pictures).encode()
        for board in leaderboard.boards
        for name in COMMITTED
    }
    if figures:
        files["figures.md"] = to_markdown(figures_page(leaderboard.title, leaderboard.rows, figures)).encode()
    return files


def write_boards(leaderboard: Leaderboard, folder: Path) -> list[Path]:
    """Writes the files into a suite's folder and returns them; those of boards that it no longer has are removed."""
    files = render_boards(leaderboard, _pictures(folder), _figures(folder))
    for name, content in files.items():
        write_atomically(folder / name, content)
    for name in _unwanted(files, folder):
        (folder / name).unlink()
    return [folder / name for name in files]


def check_boards(leaderboard: Leaderboard, folder: Path) -> list[str]:
    """Returns the names of files that are missing, not what the records say, or not theirs; nothing is written."""
    files = render_boards(leaderboard, _pictures(folder), _figures(folder))
    differ = [
        name
        for name, content in files.items()
        if not (folder / name).is_file() or (folder / name).read_bytes() != content
    ]
    return differ + _unwanted(files, folder)


def _pictures(folder: Path) -> frozenset[str]:
    return frozenset(file.name for file in (folder / FOLDER).glob("*.png"))


def _figures(folder: Path) -> frozenset[str]:
    found = (folder / FIGURES).glob("*/*")
    return frozenset(f"{file.parent.name}/{file.name}" for file in found if file.suffix in (".svg", ".png"))


def _unwanted(files: dict[str, bytes], folder: Path) -> list[str]:
    """Files of boards that are no longer there: pages that say that they are generated, and the tables beside them."""
    found = []
    for page in sorted(folder.glob("*.md")):
        if page.name not in files and page.read_text(encoding="utf-8").startswith(GENERATED):
            table = page.with_suffix(".csv")
            found += [page.name, *([table.name] if table.exists() else [])]
    return found
