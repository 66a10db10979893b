"""Figures of a suite: drawn from its trained runs or from its records, dataset by dataset, beside its boards.

A picture of a trained run says of which training it is, so that what is up to date is not drawn again, and what is of
another training than the row's does not stay.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
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
from harness.report.pages import REAL, folder_of, picture_names, sampled_record
from harness.running.keys import warn_of_changes
from harness.support.checkpoint import load_weights
from harness.support.environment import on_threads
from harness.support.guard import describe_error, guarded, shown
from harness.support.names import slug
from harness.support.randomness import isolated_rng

_Target = Callable[..., Any]
_VERSION, _RECORDS = "1", "records"


@dataclass(frozen=True)
class Drawn:
    """What became of a figure of a suite: files, pictures that are up to date, and why rows have none."""

    written: list[Path] = field(default_factory=list)
    kept: list[Path] = field(default_factory=list)  # without the ending of their files
    removed: list[Path] = field(default_factory=list)  # of another training than the row's, which cannot be drawn here
    left_out: dict[tuple[str, str], str] = field(default_factory=dict)  # by label and dataset


class FigureMaker:
    """Draws figures of one suite into ``samples`` and ``figures`` in the boards' folder; charts in some formats."""

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

    def draw(self, name: str, *, again: bool = False, replace: bool = False) -> Drawn:
        """Draws a figure; ``again`` also what is up to date. If it is made of records, its code must not fail.

        ``replace``: a picture of another training than the row's that cannot be drawn here is removed.
        """
        entry, required, target = _find(self.plugins, name)
        drawn = Drawn()
        if required is None:
            for stem, picture in self._of_records(name, target):
                drawn.written.extend(write_picture(picture, stem, _RECORDS, self.formats))
            return drawn
        rows = {(row.label, row.dataset): row for row in self.leaderboard.rows}
        for (label, dataset), file_name in picture_names(self.leaderboard.rows).items():
            row = None if label is None else rows[label, dataset]
            if row is None and not entry.data:
                continue
            stem, mark = self._stem(name, file_name), ""
            try:
                if row is not None and not issubclass(load_model_class(self.plugins, row.model), required):
                    continue
                content, make = self._of_data(dataset, target) if row is None else self._of_run(row, target)
                mark = f"{_VERSION} {content}"
                if not again and stated_mark(stem) == mark:
                    drawn.kept.append(stem)
                    continue
                with guarded(f"figure {name!r}"):
                    picture = make()
                if picture is None:
                    raise ValueError("there is nothing to draw")
                drawn.written.extend(write_picture(picture, stem, mark, self.formats))
            except Exception as error:  # somebody else's code: whatever it raises leaves out this picture alone
                reason = shown(error, str) if isinstance(error, ValueError | OSError) else describe_error(error)
                drawn.left_out[label or REAL, dataset] = " ".join(reason.split())
                drawn.removed.extend(remove_picture(stem) if replace and stated_mark(stem) != mark else [])
        return drawn

    def check(self, name: str) -> list[str]:
        """Returns the names of a figure's files that are not what the records give; nothing is written."""
        _, required, target = _find(self.plugins, name)
        if required is not None:
            raise ValueError(
                f"figure {name!r} is made of trained models: --check is for those that are made of records"
            )
        return [file for stem, picture in self._of_records(name, target) for file in differing(picture, stem, _RECORDS)]

    def _of_records(self, name: str, target: _Target) -> Iterator[tuple[Path, Any]]:
        for dataset in self.leaderboard.datasets:
            try:
                with guarded(f"figure {name!r}"):
                    picture = target(self.leaderboard, dataset)
            except Exception as error:  # somebody else's code
                raise ValueError(f"figure {name!r} on {dataset}: {describe_error(error)}") from error
            if picture is not None:
                yield self._stem(name, slug(dataset)), picture

    def _stem(self, name: str, file_name: str) -> Path:
        return self.folder / folder_of(name) / file_name.removesuffix(".png")

    def _of_data(self, dataset: str, target: _Target) -> tuple[str, Callable[[], Any]]:
        """Returns what a picture of a dataset's images shows, and what makes it."""
        records = [record for row in self.leaderboard.rows if row.dataset == dataset for record in row.records]
        digests = " ".join(sorted({record.dataset_digest for record in records}))
        places = (self.artifacts.folder(record.run).located(record.spec).dataset for record in records)
        noted = (place for place in places if place != dataset)
        return f"{dataset} {digests}", lambda: target(self.dataset(next(noted, dataset)))

    def _of_run(self, row: BoardRow, target: _Target) -> tuple[str, Callable[[], Any]]:
        """Returns what a picture of a row's training shows, and what makes it."""
        record = sampled_record(row)
        if record is None:
            raise ValueError("no seed has been trained")
        weights = "" if record.fit is None else record.fit.weights_sha256
        return f"{record.run} {weights}", partial(self._picture_of, row.label, record, target)

    def _picture_of(self, label: str, record: RunRecord, target: _Target) -> Any:
        """Calls the target under the run's seed and threads, on the CPU: the same weights give the same picture."""
        run, folder, device = record.run, self.artifacts.folder(record.run), torch.device("cpu")
        fit = folder.fit()
        if fit is None:
            raise ValueError(f"the weights of {run} are not in {self.artifacts.root}")
        if record.fit is not None and fit.weights_sha256 != record.fit.weights_sha256:
            raise ValueError(f"the weights of {run} in {self.artifacts.root} are of another training than its record")
        data = self.dataset(folder.located(record.spec).dataset)
        warn_of_changes(record, self.plugins, data)
        with isolated_rng(record.spec.seed, device), on_threads(record.spec.threads):
            model = build_model(self.plugins, record.spec, data, device)
            load_weights(folder.weights, model)
            return target(ShownModel(label, model.eval(), data, record.spec.seed, record))


def draw_model(
    plugins: PluginManager, name: str, shown: ShownModel, stem: Path, formats: Sequence[str] = FORMATS[:1]
) -> list[Path]:
    """Draws a figure of one model, which need not be trained, and returns its files; ``stem`` is without an ending."""
    entry, required, target = _find(plugins, name)
    if required is None:
        raise ValueError(f"figure {name!r} is made of a suite's records: name a suite, not {shown.label!r}")
    if not isinstance(shown.model, required):
        raise ValueError(f"figure {name!r} is not made of a {type(shown.model).__name__}: it requires {entry.requires}")
    with isolated_rng(shown.seed, shown.model.device):
        picture = target(shown)
    if picture is None:
        raise ValueError(f"figure {name!r} draws nothing of {shown.label}")
    return write_picture(picture, stem, f"{_VERSION} {shown.label}", formats)


def _find(plugins: PluginManager, name: str) -> tuple[FigureEntry, type | None, _Target]:
    """Returns a figure's entry, the models that it is made of, None if it is made of records, and what draws it."""
    entry, arguments = plugins.find("figure", name)
    assert isinstance(entry, FigureEntry)
    required: Any = entry.requires
    if isinstance(required, str):
        of_plugin = ":" in required
        required = replace(entry, target=required).load() if of_plugin else getattr(capabilities, required, "")
    if required is not None and not isinstance(required, type):
        raise ValueError(f"figure {name!r}: requires {entry.requires!r}, which is no class of models")
    return entry, required, partial(entry.load(), **arguments)
