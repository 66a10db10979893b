"""The boards' files: rendered, written, and checked against what is on disk. Pictures beside a board are linked."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from harness.boards.leaderboard import BrokenBoard, Leaderboard
from harness.report.charts import description_of
from harness.report.latex import to_latex
from harness.report.markdown import GENERATED
from harness.report.pages import FIGURES, FOLDER, board_page, figures_page
from harness.support.files import write_atomically
from harness.support.names import printable

_COMMITTED = {"md": "markdown", "csv": "csv"}
# The wide forms are read as the others where texts are Chinese or Japanese.
_FORMULA = ("=", "+", "-", "@", "\uff1d", "\uff0b", "\uff0d", "\uff20")


def to_csv(frames: Iterable[pd.DataFrame]) -> str:
    """Writes tables of equal columns one under the other, under one header; what is missing is an empty cell.

    Numbers read as the same float64. What a spreadsheet would run as a formula is preceded by an apostrophe.
    """
    parts: list[str] = []
    for frame in frames:
        shown = frame.copy()
        for name in frame.select_dtypes(["string", "object"]):
            shown[name] = pd.Series([_csv_text(value) for value in frame[name]], frame.index, "object")
        parts.append(shown.to_csv(index=False, header=not parts, lineterminator="\n"))
    return "".join(parts)


def _csv_text(value: Any) -> Any:
    text = printable(" ".join(value.split())) if isinstance(value, str) else value
    return f"'{text}" if isinstance(text, str) and text.startswith(_FORMULA) else text


def differing_files(files: Mapping[str, bytes], folder: Path) -> list[str]:
    """Returns the names of files that are missing in a folder, or have another content there."""
    there = {name: (folder / name).read_bytes() for name in files if (folder / name).is_file()}
    return [name for name, content in files.items() if there.get(name) != content]


def render_board(
    leaderboard: Leaderboard, board: str, format_name: str, pictures: Mapping[str, str] | None = None
) -> str:
    """Returns a board as ``markdown``, ``csv`` or ``latex``; ``pictures`` are as in ``board_page``."""
    with leaderboard.blaming(board):
        if format_name == "csv":
            return to_csv(leaderboard.table(board, dataset) for dataset in leaderboard.datasets)
        if format_name == "latex":
            return to_latex(leaderboard, board)
        return board_page(leaderboard, board, pictures or {})


def render_boards(
    leaderboard: Leaderboard, folder: Path | None = None, broken: dict[str, BrokenBoard] | None = None
) -> dict[str, bytes]:
    """Returns the files of all boards by name, with links to the pictures in their ``folder``.

    ``broken`` takes what is wrong with the boards of broken plugins; without it, the first one raises.
    """
    files: dict[str, bytes] = {}
    pictures = {path.name: description_of(path) for path in folder.glob(f"{FOLDER}/*.png")} if folder else {}
    drawn = folder.glob(f"{FIGURES}/*/*") if folder else ()
    for board in leaderboard.boards:
        try:
            texts = {end: render_board(leaderboard, board, name, pictures) for end, name in _COMMITTED.items()}
        except BrokenBoard as error:
            if broken is None:
                raise
            broken[board] = error
        else:
            files |= {f"{board}.{ending}": text.encode() for ending, text in texts.items()}
    if figures := {f"{path.parent.name}/{path.name}" for path in drawn if path.suffix in (".svg", ".png")}:
        files["figures.md"] = figures_page(leaderboard.title, leaderboard.rows, figures).encode()
    return files


def write_boards(leaderboard: Leaderboard, folder: Path) -> list[Path]:
    """Writes the files into a suite's folder and returns them; removes those of other boards, but for broken ones."""
    broken: dict[str, BrokenBoard] = {}
    files = render_boards(leaderboard, folder, broken)
    for name, content in files.items():
        write_atomically(folder / name, content)
    for name in _unwanted(files, folder):
        if Path(name).stem not in broken:
            (folder / name).unlink()
    if broken:  # said once all others are written
        raise BrokenBoard("; ".join(map(str, broken.values())))
    return [folder / name for name in files]


def check_boards(leaderboard: Leaderboard, folder: Path) -> list[str]:
    """Returns the names of files that are missing, not what the records say, or not theirs; nothing is written."""
    files = render_boards(leaderboard, folder)
    return differing_files(files, folder) + _unwanted(files, folder)


def _unwanted(files: dict[str, bytes], folder: Path) -> list[str]:
    """Files of boards that are no longer there: pages that say that they are generated, and the tables beside them."""
    pages = [page for page in sorted(folder.glob("*.md")) if page.name not in files]
    ours = [page for page in pages if page.read_text(encoding="utf-8").startswith(GENERATED)]
    return [file.name for page in ours for file in (page, page.with_suffix(".csv")) if file.exists()]
