"""The boards' files: rendered, written, and checked against what is on disk.

A board is made of records, and of the names of the sample grids that lie beside it: pictures that are there are linked.
"""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING

from harness.report.csv import to_csv
from harness.report.documents import board_document
from harness.report.markdown import to_markdown
from harness.report.pictures import FOLDER
from harness.support.files import write_atomically

if TYPE_CHECKING:
    from harness.boards.leaderboard import Leaderboard

_ALL = ("likelihood", "bounds", "throughput", "sample-quality")


def render_boards(leaderboard: Leaderboard, pictures: Collection[str] = ()) -> dict[str, bytes]:
    """Returns the files of all boards that the suite's metrics have something to say on, by name.

    Args:
        leaderboard: the boards.
        pictures: the names of the files in the folder ``samples`` beside the boards.
    """
    files = {}
    for board in leaderboard.boards:
        frames = [leaderboard.table(board, dataset) for dataset in leaderboard.datasets]
        files[f"{board}.md"] = to_markdown(board_document(leaderboard, board, pictures)).encode()
        files[f"{board}.csv"] = to_csv(frames).encode()
    return files


def write_boards(leaderboard: Leaderboard, folder: Path) -> list[Path]:
    """Writes the files into a suite's folder and returns them; those of boards that it no longer has are removed."""
    files = render_boards(leaderboard, _pictures(folder))
    for name, content in files.items():
        write_atomically(folder / name, content)
    for name in _unwanted(files, folder):
        (folder / name).unlink()
    return [folder / name for name in files]


def check_boards(leaderboard: Leaderboard, folder: Path) -> list[str]:
    """Returns the names of files that are missing, not what the records say, or not theirs; nothing is written."""
    files = render_boards(leaderboard, _pictures(folder))
    differ = [
        name
        for name, content in files.items()
        if not (folder / name).is_file() or (folder / name).read_bytes() != content
    ]
    return differ + _unwanted(files, folder)


def _pictures(folder: Path) -> frozenset[str]:
    return frozenset(file.name for file in (folder / FOLDER).glob("*.png"))


def _unwanted(files: dict[str, bytes], folder: Path) -> list[str]:
    names = [f"{board}.{ending}" for board in _ALL for ending in ("md", "csv")]
    return [name for name in names if name not in files and (folder / name).exists()]
