"""Sample grids: the samples that are scored, the same bytes each time, and never those of another training."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from harness import DataFolder
from harness.boards.rows import rows_of
from harness.discovery.loading import build_model, load_dataset
from harness.discovery.manager import plugin_manager
from harness.interface.image_grid import image_grid
from harness.interface.metric import Evaluation
from harness.interface.spec import ImageSpec
from harness.records.record import FitRecord, RunRecord, identity_of
from harness.running.planning import Artifacts
from harness.running.sample_grids import NUM_IMAGES, grid_png, write_sample_grids
from harness.suites.suite import Suite
from harness.support.checkpoint import save_weights

CPU = torch.device("cpu")


class Lab:
    """Two rows on digits, one of them trained, with its weights on disk."""

    def __init__(self, root: Path) -> None:
        self.artifacts, self.folder = Artifacts(root / "artifacts"), root / "suite"
        self.plugins, self.data_folder = plugin_manager(), DataFolder.resolve(root / "data")
        content = {
            "title": "T", "datasets": ["digits"], "metrics": ["fid-pixels"],
            "models": [{"name": "independent-pixels", "label": "a/b"}, {"name": "uniform", "label": "untrained"}],
        }  # fmt: skip
        self.suite = Suite.parse(content, name="t", source="t")
        self.data = load_dataset(self.plugins, "digits", self.data_folder)
        self.record = self.train(0)

    def train(self, seed: int) -> RunRecord:
        """Gives the first row weights that follow from ``seed``."""
        spec = self.suite.rows()[0].configurations[0][0]
        self.model = build_model(self.plugins, spec, self.data, CPU)
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            self.model.load_state_dict(
                {
                    name: torch.randn_like(value).log_softmax(0) if value.is_floating_point() else value
                    for name, value in self.model.state_dict().items()
                }
            )
        fit = FitRecord(steps=1, epochs=1.0, seconds=1.0, checkpoint="last", weights_sha256=f"weights {seed}")
        record = RunRecord(
            run="pixels-digits-s0", key="k", identity=identity_of(spec), spec=spec, hyperparameters={}, provider="p 1",
            code="c", dataset_digest="d", status="done", fit=fit,
        )  # fmt: skip
        folder = self.artifacts.folder(record.run)
        folder.begin(record)
        save_weights(folder.weights, self.model)
        folder.write_fit(fit, {})
        return record

    def write(self):
        return write_sample_grids(
            rows_of([self.record], self.suite), self.folder, artifacts=self.artifacts, plugins=self.plugins,
            data=self.data_folder,
        )  # fmt: skip

    @property
    def grid(self) -> Path:
        return self.folder / "samples" / "a-b-digits.png"

    def drawn(self) -> torch.Tensor:
        return Evaluation(self.model, self.data, seed=0).samples(NUM_IMAGES)


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    return Lab(tmp_path)


def pixels(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image)


def test_a_grid_shows_the_first_samples_of_those_that_are_scored(lab: Lab) -> None:
    grids = lab.write()
    assert {path.name for path in grids.written} == {"a-b-digits.png", "real-test-images-digits.png"}
    expected = image_grid(lab.drawn(), lab.data.spec, columns=8, gap=2, scale=7)
    assert np.array_equal(pixels(lab.grid), np.asarray(expected))
    real = image_grid(lab.data.test.images[:64], lab.data.spec, columns=8, gap=2, scale=7)
    assert np.array_equal(pixels(lab.folder / "samples" / "real-test-images-digits.png"), np.asarray(real))


def test_the_same_weights_give_the_same_bytes(lab: Lab) -> None:
    lab.write()
    before = lab.grid.read_bytes()
    lab.grid.unlink()
    torch.rand(7)  # the caller's generator has no part in it
    lab.write()
    assert lab.grid.read_bytes() == before


def test_what_is_up_to_date_is_not_drawn_again_and_another_training_is(lab: Lab) -> None:
    lab.write()
    before = lab.grid.read_bytes()
    assert lab.grid in lab.write().kept
    lab.record = lab.train(1)
    assert lab.grid in lab.write().written
    assert lab.grid.read_bytes() != before


def test_a_row_without_weights_is_left_out_with_the_reason(lab: Lab) -> None:
    assert lab.write().left_out == {("untrained", "digits"): "no seed has been trained"}


def test_a_grid_of_another_training_is_removed_where_the_row_cannot_be_drawn(lab: Lab) -> None:
    lab.write()
    lab.record = lab.train(1)
    lab.artifacts.folder(lab.record.run).remove()
    grids = lab.write()
    assert grids.removed == [lab.grid]
    assert not lab.grid.exists()
    assert "are not in" in grids.left_out["a/b", "digits"]


def test_a_picture_that_is_none_of_ours_is_not_removed(lab: Lab) -> None:
    other = lab.folder / "samples" / "untrained-digits.png"
    other.parent.mkdir(parents=True)
    Image.new("L", (3, 3)).save(other)
    assert lab.write().removed == []
    assert other.exists()


def test_weights_that_are_not_those_of_the_record_are_refused(lab: Lab) -> None:
    record = lab.record
    lab.train(1)
    lab.record = record
    assert "of another training than its record" in lab.write().left_out["a/b", "digits"]
    assert not lab.grid.exists()


def test_images_that_are_neither_grey_nor_coloured_are_refused() -> None:
    with pytest.raises(ValueError, match="not 1 images of 2 channels"):
        grid_png(torch.zeros(1, 2, 3, 3, dtype=torch.uint8), ImageSpec(2, 3, 3, 4), "mark")
