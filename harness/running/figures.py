"""Figures of a suite: drawn from its trained runs or from its records, dataset by dataset, beside its boards.

A picture of a trained run says of which training it is, so that what is up to date is not drawn again, and what is of
another training than the row's does not stay.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache, partial
from pathlib import Path
from typing import Any

import torch

from harness.boards.leaderboard import Leaderboard
from harness.boards.row import BoardRow
from harness.discovery.loading import build_model, load_dataset, load_model_class
from harness.discovery.manager import PluginManager
from harness.interface import model as capabilities
from harness.interface.data_folder import DataFolder
from harness.interface.dataset import Dataset
from harness.interface.entries import FigureEntry
from harness.interface.figure import ShownModel
from harness.records.record import RunRecord
from harness.records.store import Artifacts
from harness.report.charts import FORMATS, differing, remove_picture, stated_mark, write_picture
from harness.report.pictures import REAL, folder_of, picture_names, sampled_record
from harness.support.checkpoint import load_weights
from harness.support.environment import on_threads
from harness.support.names import slug
from harness.support.randomness import isolated_rng

_VERSION, _RECORDS = "1", "records"


@dataclass(frozen=True)
class Drawn:
    """What became of a figure of a suite.

    Attributes:
        written, removed: files; removed are those of another training than the row's, where that cannot be drawn here.
        kept: pictures that are up to date, without the ending of their files.
        left_out: why rows have none, by label and dataset.
    """

    written: list[Path] = field(default_factory=list)
    kept: list[Path] = field(default_factory=list)
    removed: list[Path] = field(default_factory=list)
    left_out: dict[tuple[str, str], str] = field(default_factory=dict)


class FigureMaker:
    """Draws figures of one suite.

    Args:
        leaderboard: its rows and boards.
        folder: the boards' folder; pictures go into ``samples`` and ``figures`` in it.
        artifacts: where the runs lie.
        plugins: what is installed.
        data: where the data lie.
        formats: of charts: any of ``svg``, ``png`` and ``html``.
    """

    def __init__(
        self,
        leaderboard: Leaderboard,
        folder: Path,
        *,
        artifacts: Artifacts,
        plugins: PluginManager,
        data: DataFolder,
        formats: Sequence[str] = FORMATS[:1],
    ) -> None:
        self.leaderboard, self.folder, self.formats = leaderboard, folder, formats
        self.artifacts, self.plugins = artifacts, plugins
        self.dataset: Callable[[str], Dataset] = cache(partial(load_dataset, plugins, folder=data))

    def draw(self, name: str, *, again: bool = False) -> Drawn:
        """Draws a figure; ``again`` also what is up to date.

        Raises:
            ValueError: no such figure; or it is made of records, and its code fails.
        """
        entry, target = find_figure(self.plugins, name)
        drawn = Drawn()
        if entry.requires is None:
            for stem, picture in self._of_records(name, target):
                drawn.written.extend(write_picture(picture, stem, _RECORDS, self.formats))
            return drawn
        required = _required(entry)
        names = picture_names(self.leaderboard.rows)
        rows = {(row.label, row.dataset): row for row in self.leaderboard.rows}
        for (label, dataset), file_name in names.items():
            row = None if label is None else rows[label, dataset]
            if row is None and not entry.data:
                continue
            stem, mark = self._stem(name, file_name), ""
            try:
                if row is not None and not issubclass(load_model_class(self.plugins, row.model), required):
                    continue
                record = None if row is None else _record_of(row)
                mark = f"{_VERSION} {self._content(record, dataset)}"
                if not again and stated_mark(stem) == mark:
                    drawn.kept.append(stem)
                    continue
                if row is None or record is None:
                    picture = target(self.dataset(dataset))
                else:
                    picture = self._picture_of(row, record, target)
                if picture is None:
                    raise ValueError("there is nothing to draw")
                drawn.written.extend(write_picture(picture, stem, mark, self.formats))
            except Exception as error:  # somebody else's code: whatever it raises leaves out this picture alone
                reason = str(error) if isinstance(error, ValueError | OSError) else f"{type(error).__name__}: {error}"
                drawn.left_out[REAL if label is None else label, dataset] = " ".join(reason.split())
                drawn.removed.extend(remove_picture(stem) if stated_mark(stem) != mark else [])
        return drawn

    def check(self, name: str) -> list[str]:
        """Returns the names of a figure's files that are not what the records give; nothing is written.

        Raises:
            ValueError: no such figure, or it is made of trained runs, which do not lie beside the boards.
        """
        entry, target = find_figure(self.plugins, name)
        if entry.requires is not None:
            raise ValueError(
                f"figure {name!r} is made of trained models: --check is for those that are made of records"
            )
        return [file for stem, picture in self._of_records(name, target) for file in differing(picture, stem, _RECORDS)]

    def _of_records(self, name: str, target: Callable[..., Any]) -> Iterator[tuple[Path, Any]]:
        for dataset in self.leaderboard.datasets:
            try:
                picture = target(self.leaderboard, dataset)
            except Exception as error:  # somebody else's code
                raise ValueError(f"figure {name!r} on {dataset}: {type(error).__name__}: {error}") from error
            if picture is not None:
                yield self._stem(name, slug(dataset)), picture

    def _stem(self, name: str, file_name: str) -> Path:
        return self.folder / folder_of(name) / file_name.removesuffix(".png")

    def _content(self, record: RunRecord | None, dataset: str) -> str:
        """What a picture shows: a training, or a dataset's images."""
        if record is not None:
            return f"{record.run} {'' if record.fit is None else record.fit.weights_sha256}"
        rows = [row for row in self.leaderboard.rows if row.dataset == dataset]
        return f"{dataset} {' '.join(sorted({record.dataset_digest for row in rows for record in row.records}))}"

    def _picture_of(self, row: BoardRow, record: RunRecord, target: Callable[..., Any]) -> Any:
        """Calls the target under the run's seed and threads, on the CPU: the same weights give the same picture.

        Raises:
            ValueError: the weights are not here, are of another training, or do not fit the model.
        """
        run, folder, device = record.run, self.artifacts.folder(record.run), torch.device("cpu")
        fit = folder.fit()
        if fit is None:
            raise ValueError(f"the weights of {run} are not in {self.artifacts.root}")
        if record.fit is not None and fit.weights_sha256 != record.fit.weights_sha256:
            raise ValueError(f"the weights of {run} in {self.artifacts.root} are of another training than its record")
        data = self.dataset(record.spec.dataset)
        with isolated_rng(record.spec.seed, device), on_threads(record.spec.threads):
            model = build_model(self.plugins, record.spec, data, device)
            load_weights(folder.weights, model)
            return target(ShownModel(row.label, model.eval(), data, record.spec.seed, record))


def draw_model(
    plugins: PluginManager, name: str, shown: ShownModel, stem: Path, formats: Sequence[str] = FORMATS[:1]
) -> list[Path]:
    """Draws a figure of one model, which need not be trained, and returns its files.

    Args:
        plugins: what is installed.
        name: of the figure.
        shown: the model.
        stem: the path of the picture without its ending.
        formats: of a chart, see ``FigureMaker``.

    Raises:
        ValueError: no such figure, or none of this model.
    """
    entry, target = find_figure(plugins, name)
    if entry.requires is None:
        raise ValueError(f"figure {name!r} is made of a suite's records: name a suite, not {shown.label!r}")
    if not isinstance(shown.model, _required(entry)):
        raise ValueError(f"figure {name!r} is not made of a {type(shown.model).__name__}: it requires {entry.requires}")
    with isolated_rng(shown.seed, shown.model.device):
        picture = target(shown)
    if picture is None:
        raise ValueError(f"figure {name!r} draws nothing of {shown.label}")
    return write_picture(picture, stem, f"{_VERSION} {shown.label}", formats)


def find_figure(plugins: PluginManager, name: str) -> tuple[FigureEntry, Callable[..., Any]]:
    """Returns a figure's entry and what draws it.

    Raises:
        ValueError: no such figure.
    """
    entry, arguments = plugins.find("figure", name)
    assert isinstance(entry, FigureEntry)
    return entry, partial(entry.load(), **arguments)


def _required(entry: FigureEntry) -> type:
    wanted = getattr(capabilities, entry.requires, None) if isinstance(entry.requires, str) else entry.requires
    if not isinstance(wanted, type):
        raise ValueError(f"figure {entry.name!r}: requires {entry.requires!r}, which is no class of models")
    return wanted


def _record_of(row: BoardRow) -> RunRecord:
    record = sampled_record(row)
    if record is None:
        raise ValueError("no seed has been trained")
    return record
