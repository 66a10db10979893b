"""Sample grids of a suite's rows: PNG files that lie beside its boards, drawn from the trained weights.

A grid shows the first samples of those that the metrics of sample quality compare: the same seeds, drawn on the CPU.
The file says in a text chunk which training it is of, so that what is up to date is not drawn again.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache, partial
from pathlib import Path

import torch
from PIL import Image, PngImagePlugin
from torch import Tensor

from harness.boards.rows import BoardRow
from harness.discovery.loading import build_model, load_dataset
from harness.discovery.manager import PluginManager
from harness.interface.data_folder import DataFolder
from harness.interface.dataset import Dataset
from harness.interface.image_grid import image_grid
from harness.interface.metric import Evaluation
from harness.interface.model import ClassConditional
from harness.interface.spec import ImageSpec
from harness.records.record import RunRecord
from harness.report.pictures import FOLDER, REAL, picture_names, sampled_record
from harness.running.planning import Artifacts
from harness.support.checkpoint import load_weights
from harness.support.files import write_atomically
from harness.support.randomness import isolated_rng

NUM_IMAGES = 64
COLUMNS = 8
_SIDE = 56
_KEY, _VERSION = "genharness", "1"


@dataclass(frozen=True)
class Grids:
    """What became of the grids of a suite.

    Attributes:
        written, kept, removed: files; kept are those that are up to date, removed those of another training than the
            row's, where that cannot be drawn from here.
        left_out: why rows have none, by label and dataset.
    """

    written: list[Path] = field(default_factory=list)
    kept: list[Path] = field(default_factory=list)
    removed: list[Path] = field(default_factory=list)
    left_out: dict[tuple[str, str], str] = field(default_factory=dict)


def write_sample_grids(
    rows: Sequence[BoardRow], folder: Path, *, artifacts: Artifacts, plugins: PluginManager, data: DataFolder
) -> Grids:
    """Writes a grid of 8 x 8 samples for every row that has trained weights, and one of real test images a dataset.

    A class-conditional model's grid has a row of 8 samples for every class instead.

    Args:
        rows: of all datasets.
        folder: the boards' folder; grids go into ``samples`` in it.
        artifacts: where the runs lie.
        plugins: what is installed.
        data: where the data lie.
    """
    grids, names = Grids(), picture_names(rows)
    by_key = {(row.label, row.dataset): row for row in rows}
    digests: dict[str, set[str]] = {}
    for row in rows:
        digests.setdefault(row.dataset, set()).update(record.dataset_digest for record in row.records)
    dataset = cache(partial(load_dataset, plugins, folder=data))
    for (label, name), file_name in names.items():
        path = folder / FOLDER / file_name
        try:
            record = None if label is None else _record_of(by_key[label, name])
            mark = f"{_VERSION} {_content(record, name, digests[name])}"
            if _mark_of(path) == mark:
                grids.kept.append(path)
                continue
            if record is None:
                images = dataset(name).test.draw(0).images[:NUM_IMAGES]
            else:
                _check_weights(record, artifacts)
                images = _samples(record, dataset(name), artifacts, plugins)
            write_atomically(path, grid_png(images, dataset(name).spec, mark))
            grids.written.append(path)
        except (ValueError, OSError, RuntimeError) as error:
            grids.left_out[REAL if label is None else label, name] = " ".join(str(error).split())
            if _mark_of(path) is not None:
                path.unlink()
                grids.removed.append(path)
    return grids


def _content(record: RunRecord | None, dataset: str, digests: set[str]) -> str:
    """What a grid shows: a training, or a dataset's images."""
    if record is None:
        return f"{dataset} {' '.join(sorted(digests))}"
    return f"{record.run} {'' if record.fit is None else record.fit.weights_sha256}"


def grid_png(images: Tensor, spec: ImageSpec, mark: str) -> bytes:
    """Returns (N, C, H, W) uint8 images as a PNG file, eight a row, small ones magnified; ``mark`` goes into a chunk.

    The same images give the same bytes, with one version of Pillow.

    Raises:
        ValueError: neither one channel nor three.
    """
    scale = max(1, _SIDE // max(spec.height, spec.width))
    text = PngImagePlugin.PngInfo()
    text.add_text(_KEY, mark)
    out = io.BytesIO()
    image_grid(images, spec, columns=COLUMNS, gap=2, scale=scale).save(out, format="PNG", pnginfo=text, optimize=True)
    return out.getvalue()


def _mark_of(path: Path) -> str | None:
    """What ``grid_png`` was told; None for a file that is not there, or is not of its making."""
    try:
        with Image.open(path) as image:
            found = image.info.get(_KEY)
    except OSError:
        return None
    return found if isinstance(found, str) else None


def _record_of(row: BoardRow) -> RunRecord:
    record = sampled_record(row)
    if record is None:
        raise ValueError("no seed has been trained")
    return record


def _check_weights(record: RunRecord, artifacts: Artifacts) -> None:
    fit = artifacts.folder(record.run).fit()
    if fit is None:
        raise ValueError(f"the weights of {record.run} are not in {artifacts.root}")
    if record.fit is not None and fit.weights_sha256 != record.fit.weights_sha256:
        raise ValueError(f"the weights of {record.run} in {artifacts.root} are of another training than its record")


def _samples(record: RunRecord, data: Dataset, artifacts: Artifacts, plugins: PluginManager) -> Tensor:
    """(64, C, H, W) uint8, or (8 classes, C, H, W), class by class.

    Raises:
        ValueError: the samples are degenerate, or the weights do not fit the model.
    """
    device = torch.device("cpu")
    with isolated_rng(record.spec.seed, device), _threads(record.spec.threads):
        model = build_model(plugins, record.spec, data, device)
        load_weights(artifacts.folder(record.run).weights, model)
        if isinstance(model, ClassConditional) and data.spec.num_classes:
            labels = torch.arange(data.spec.num_classes).repeat_interleave(COLUMNS)
            return model.condition_on(labels).sample(len(labels))
        return Evaluation(model, data, seed=record.spec.seed).samples(NUM_IMAGES)


@contextmanager
def _threads(number: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)
