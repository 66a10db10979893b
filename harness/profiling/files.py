"""The files of a profile: rendered from its measurements, written, and checked against what is on disk."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from harness.profiling.documents import to_profile_csv, to_profile_json
from harness.profiling.page import to_profile_markdown
from harness.profiling.plot import draw_plot
from harness.profiling.tables import MachineTables
from harness.report.charts import SPEC_ENDING, check_drawings, draw_files, vega_lite
from harness.support.files import write_atomically


def render_profile(title: str, machines: Sequence[MachineTables], *, stem: str, command: str) -> dict[str, bytes]:
    """Returns the files of a profile by name: tables as Markdown, CSV and JSON, and the plot as Vega-Lite.

    Args:
        title: of the page and the plot.
        machines: the tables.
        stem: of the files' names.
        command: what makes them again, for the page's first line.
    """
    plot = draw_plot(title, machines)
    pictures = [f"{stem}.svg"] if plot is not None else []
    files = {
        f"{stem}.md": to_profile_markdown(title, machines, pictures=pictures, command=command).encode(),
        f"{stem}.csv": to_profile_csv(machines).encode(),
        f"{stem}.json": to_profile_json(title, machines).encode(),
    }
    if plot is not None:
        files[f"{stem}{SPEC_ENDING}"] = vega_lite(plot)
    return files


def write_profile(files: dict[str, bytes], folder: Path) -> list[Path]:
    """Writes the files into a folder, and the plot as SVG and PNG as well; returns all of them."""
    for name, content in files.items():
        write_atomically(folder / name, content)
    drawn = [path for name in files if name.endswith(SPEC_ENDING) for path in draw_files(folder / name)]
    return [*(folder / name for name in files), *drawn]


def check_profile(files: dict[str, bytes], folder: Path) -> list[str]:
    """Returns the names of files that are missing or not what the measurements give; nothing is written.

    Of an SVG and a PNG it is asked that they were drawn from the plot's Vega-Lite: their own bytes vary with the
    version of the library that draws them.
    """
    differ = [
        name
        for name, content in files.items()
        if not (folder / name).is_file() or (folder / name).read_bytes() != content
    ]
    return differ + [
        path.name
        for name, content in files.items()
        if name.endswith(SPEC_ENDING)
        for path in check_drawings(folder / name, content)
    ]
