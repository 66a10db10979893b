"""``harness figure``: pictures of a suite's trained runs, or charts of its records."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from harness.cli import completion
from harness.cli.boards import read_leaderboard
from harness.cli.context import fail, suite_path
from harness.support.names import printable

if TYPE_CHECKING:
    from harness.boards.leaderboard import Leaderboard
    from harness.cli.context import Context
    from harness.running.figures import Drawn, FigureMaker


def figure(
    context: typer.Context,
    name: str = typer.Argument(help="Which; 'harness list figures' names them.", autocompletion=completion.figures),
    target: str = typer.Argument(
        metavar="SUITE|MODEL", help="A suite; or a model as it is initialised, such as pixelcnn:layers=5.",
        autocompletion=completion.figured,
    ),
    output: str = typer.Option(
        None, "-o", "--output", help="Of a suite, the folder to write into, else the boards'; of a model, the file."
    ),
    formats: str = typer.Option("svg", "--format", help="Of charts: svg, png, html, or several with commas."),
    again: bool = typer.Option(False, "--again", help="Draw what is up to date as well."),
    check: bool = typer.Option(False, "--check", help="Write nothing; fail if a chart is not what its records give."),
    from_store: bool = typer.Option(False, "--from-store", help="Use the store even where there is a records.jsonl."),
    size: int = typer.Option(28, "--size", min=1, help="Of a model: height of square images."),
    channels: int = typer.Option(1, "--channels", min=1, help="Of a model: channels of the images."),
    levels: int = typer.Option(2, "--levels", min=2, max=256, help="Of a model: levels of an entry."),
) -> None:  # fmt: skip
    """Draw a figure of a suite, beside its boards, or of a model: PNG for images, SVG and Vega-Lite for charts."""
    from harness.report.charts import FORMATS

    wanted = [part.strip() for part in formats.split(",")]
    if unknown := [part for part in wanted if part not in FORMATS]:
        raise ValueError(f"--format {unknown[0]!r}: it is one of {', '.join(FORMATS)}")
    options: Context = context.obj
    path = suite_path(target)
    if not path.exists() and any(options.plugins.has("model", name) for name in (target, target.partition(":")[0])):
        for file in _figure_of_model(options, name, target, (channels, size, size, levels), output, wanted):
            typer.echo(str(file))
        return
    leaderboard, _ = read_leaderboard(options, path, from_store=from_store)
    maker = maker_of(options, leaderboard, Path(output) if output else path.with_suffix(""), path.parent, wanted)
    if not check:
        say(maker.draw(name, again=again), name, maker.folder)
        return
    if differing := maker.check(name):
        fail(f"{', '.join(differing)} in {maker.folder}: not what the records give; without --check they are drawn")
    typer.echo(f"{maker.folder}: the figure {name} is what the records give")


def _figure_of_model(
    options: Context, name: str, text: str, shape: tuple[int, int, int, int], output: str | None, formats: list[str]
) -> list[Path]:
    import torch

    from harness.cli.profiled import profiled, row_of
    from harness.interface.figure import ShownModel
    from harness.interface.spec import ImageSpec
    from harness.profiling.generation import NUM_CLASSES
    from harness.profiling.resources import random_data
    from harness.running.figures import draw_model
    from harness.support.names import slug
    from harness.support.randomness import isolated_rng

    row = row_of(options, text)
    with isolated_rng(0, torch.device("cpu")):
        model = profiled(options, row, "cpu", Path()).make(ImageSpec(*shape, NUM_CLASSES)).eval()
    stem = Path(output).with_suffix("") if output else Path(f"{name}-{slug(text)}")
    return draw_model(options.plugins, name, ShownModel(row.row_label, model, random_data(model)), stem, formats)


def maker_of(
    options: Context, leaderboard: Leaderboard, folder: Path, code_folder: Path, formats: Sequence[str] = ("svg",)
) -> FigureMaker:
    """Returns what draws a suite's figures into a folder; ``code_folder`` holds the files that the suite names."""
    from harness.interface.data_folder import DataFolder
    from harness.running.figures import FigureMaker

    plugins, data = options.plugins.at(code_folder), DataFolder.resolve(options.data)
    return FigureMaker(leaderboard, folder, artifacts=options.artifacts, plugins=plugins, data=data, formats=formats)


def say(drawn: Drawn, name: str, folder: Path) -> None:
    """Says what became of a figure."""
    removed = f", {len(drawn.removed)} files of other trainings removed" if drawn.removed else ""
    typer.echo(
        f"{folder}: {name}: {len(drawn.written)} files written, {len(drawn.kept)} pictures up to date, "
        f"{len(drawn.left_out)} left out{removed}"
    )
    for (label, dataset), reason in drawn.left_out.items():
        typer.echo(printable(f"no picture of {label!r} on {dataset}: {reason}"), err=True)
