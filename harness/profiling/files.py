"""The files of a profile: rendered from its measurements, written, and checked against what is on disk."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from harness.profiling.canvas import to_png, to_svg
from harness.profiling.chart import draw_chart
from harness.profiling.documents import to_profile_csv, to_profile_json
from harness.profiling.page import to_profile_markdown
from harness.profiling.tables import MachineTables
from harness.support.files import write_atomically


def render_profile(title: str, machines: Sequence[MachineTables], *, stem: str, command: str) -> dict[str, bytes]:
    """Returns the files of a profile by name: tables as Markdown, CSV and JSON, the plot as SVG and PNG.

    Args:
        title: of the page and the plot.
        machines: the tables.
        stem: of the files' names.
        command: what makes them again, for the page's first line.
    """
    drawing = draw_chart(title, machines)
    pictures = [f"{stem}.svg"] if drawing is not None else []
    files = {
        f"{stem}.md": to_profile_markdown(title, machines, pictures=pictures, command=command).encode(),
        f"{stem}.csv": to_profile_csv(machines).encode(),
        f"{stem}.json": to_profile_json(title, machines).encode(),
    }
    if drawing is not None:
        files |= {f"{stem}.svg": to_svg(drawing).encode(), f"{stem}.png": to_png(drawing)}
    return files


def write_profile(files: dict[str, bytes], folder: Path) -> list[Path]:
    """Writes the files into a folder, and returns them."""
    for name, content in files.items():
        write_atomically(folder / name, content)
    return [folder / name for name in files]


def check_profile(files: dict[str, bytes], folder: Path) -> list[str]:
    """Returns the names of files that are missing or not what the measurements give; nothing is written.

    Of a PNG it is only asked that it is there: its bytes vary with the version of the library that writes it.
    """
    return [
        name
        for name, content in files.items()
        if not (folder / name).is_file() or (not name.endswith(".png") and (folder / name).read_bytes() != content)
    ]
