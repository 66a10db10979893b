"""Figures: pictures of a suite's trained runs and records, the same bytes each time, never of another training."""

from __future__ import annotations

import math
import os
import re
import subprocess
import sys
from pathlib import Path

import altair as alt
import numpy as np
import pytest
import torch
from PIL import Image

from harness import (
    Autoregressive,
    DataFolder,
    Dataset,
    Evaluation,
    FigureEntry,
    ImageSpec,
    Inference,
    Leaderboard,
    RunRecord,
    image_grid,
)
from harness.boards.published import load_published
from harness.builtin.figures.receptive_field import paint, receptive_field
from harness.builtin.figures.samples import NUM_SAMPLES
from harness.cli import main
from harness.discovery.loading import build_model, load_dataset
from harness.discovery.manager import plugin_manager
from harness.records.record import FitRecord, identity_of
from harness.records.store import Artifacts
from harness.report.files import check_boards, write_boards
from harness.running.figures import Drawn, FigureMaker
from harness.suites.suite import Suite
from harness.support.checkpoint import save_weights

CPU = torch.device("cpu")
BOARDS = Path(__file__).parents[2] / "leaderboards"


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

    def maker(self) -> FigureMaker:
        return FigureMaker(
            Leaderboard([self.record], self.suite), self.folder, artifacts=self.artifacts, plugins=self.plugins,
            data=self.data_folder,
        )  # fmt: skip

    def draw(self, name: str = "samples", **options) -> Drawn:
        return self.maker().draw(name, **options)

    @property
    def grid(self) -> Path:
        return self.folder / "samples" / "a-b-digits.png"

    def drawn(self) -> torch.Tensor:
        return Evaluation(self.model, self.data, seed=0).samples(NUM_SAMPLES)


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    return Lab(tmp_path)


@pytest.fixture
def figure(monkeypatch: pytest.MonkeyPatch, lab: Lab):
    """Returns a function that registers a figure called ``mine``."""

    def register(target, **options):
        entry = FigureEntry("mine", target, **options)
        monkeypatch.setattr(lab.plugins, "find", lambda kind, name, find=lab.plugins.find: (
            (entry, {}) if (kind, name) == ("figure", "mine") else find(kind, name)
        ))  # fmt: skip

    return register


def pixels(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image)


def test_a_grid_shows_the_first_samples_of_those_that_are_scored(lab: Lab) -> None:
    drawn = lab.draw()
    assert {path.name for path in drawn.written} == {"a-b-digits.png", "real-test-images-digits.png"}
    expected = image_grid(lab.drawn(), lab.data.spec, columns=8, gap=2, scale=7)
    assert np.array_equal(pixels(lab.grid), np.asarray(expected))
    real = image_grid(lab.data.test.images[:64], lab.data.spec, columns=8, gap=2, scale=7)
    assert np.array_equal(pixels(lab.folder / "samples" / "real-test-images-digits.png"), np.asarray(real))


@pytest.mark.parametrize("name", ["samples", "nearest"])
def test_the_same_weights_give_the_same_bytes(lab: Lab, name: str) -> None:
    files = lab.draw(name).written
    before = [file.read_bytes() for file in files]
    torch.rand(7)  # the caller's generator has no part in it
    assert lab.draw(name, again=True).written == files
    assert [file.read_bytes() for file in files] == before


def test_what_is_up_to_date_is_not_drawn_again_and_another_training_is(lab: Lab) -> None:
    lab.draw()
    before = lab.grid.read_bytes()
    assert lab.draw().written == []
    assert lab.grid in lab.draw(again=True).written
    lab.record = lab.train(1)
    assert lab.grid in lab.draw().written
    assert lab.grid.read_bytes() != before


def test_a_row_without_weights_is_left_out_with_the_reason(lab: Lab) -> None:
    assert lab.draw().left_out == {("untrained", "digits"): "no seed has been trained"}


def test_a_picture_of_another_training_is_removed_where_the_row_cannot_be_drawn_if_that_is_asked_for(lab: Lab) -> None:
    lab.draw()
    lab.record = lab.train(1)
    lab.artifacts.folder(lab.record.run).remove()
    assert lab.draw().removed == []
    assert lab.grid.exists()
    drawn = lab.draw(replace=True)
    assert drawn.removed == [lab.grid]
    assert not lab.grid.exists()
    assert "are not in" in drawn.left_out["a/b", "digits"]


def test_a_picture_that_is_none_of_ours_is_not_removed(lab: Lab) -> None:
    other = lab.folder / "samples" / "untrained-digits.png"
    other.parent.mkdir(parents=True)
    Image.new("L", (3, 3)).save(other)
    assert lab.draw().removed == []
    assert other.exists()


def test_weights_that_are_not_those_of_the_record_are_refused(lab: Lab) -> None:
    record = lab.record
    lab.train(1)
    lab.record = record
    assert "of another training than its record" in lab.draw().left_out["a/b", "digits"]
    assert not lab.grid.exists()


def test_images_that_are_neither_grey_nor_coloured_are_refused() -> None:
    with pytest.raises(ValueError, match="not 1 images of 2 channels"):
        image_grid(torch.zeros(1, 2, 3, 3, dtype=torch.uint8), ImageSpec(2, 3, 3, 4))


def test_a_figure_is_given_the_trained_model_with_its_data_its_seed_and_its_record(lab: Lab, figure) -> None:
    given = []
    figure(lambda shown: given.append(shown) or Image.new("L", (2, 2)), requires="Model")
    assert [path.name for path in lab.draw("mine").written] == ["a-b-digits.png"]
    [shown] = given
    assert (shown.label, shown.seed, shown.record) == ("a/b", 0, lab.record)
    assert shown.data.name == "digits"
    assert not shown.model.training
    for name, value in lab.model.state_dict().items():
        assert torch.equal(shown.model.state_dict()[name], value)


def test_a_figure_is_drawn_of_the_models_that_it_requires_alone(lab: Lab, figure) -> None:
    figure(lambda shown: Image.new("L", (2, 2)), requires=Inference)
    assert lab.draw("mine") == Drawn()


def test_a_figure_may_require_a_class_of_a_plugin_by_its_place(lab: Lab, figure) -> None:
    figure(lambda shown: Image.new("L", (2, 2)), requires="harness_baselines.uniform:Uniform")
    assert lab.draw("mine").left_out == {("untrained", "digits"): "no seed has been trained"}


def test_what_a_figure_raises_leaves_out_its_picture_and_no_other(lab: Lab, figure) -> None:
    def draw(shown):
        if isinstance(shown, Dataset):
            return Image.new("L", (2, 2))
        raise KeyError("colour")

    figure(draw, requires="Model", data=True)
    drawn = lab.draw("mine")
    assert [path.name for path in drawn.written] == ["real-test-images-digits.png"]
    assert drawn.left_out["a/b", "digits"] == "KeyError: 'colour'"


def test_a_chart_of_a_run_is_vega_lite_and_svg_and_is_not_drawn_twice(lab: Lab, figure) -> None:
    calls = []
    chart = alt.Chart({"values": [{"x": 1}]}).mark_point().encode(x="x:Q")
    figure(lambda shown: calls.append(shown) or chart, requires="Model")
    folder = lab.folder / "figures" / "mine"
    assert lab.draw("mine").written == [folder / "a-b-digits.vl.json", folder / "a-b-digits.svg"]
    assert lab.draw("mine").kept == [folder / "a-b-digits"]
    assert len(calls) == 1


def test_what_is_neither_a_chart_nor_an_image_is_refused_by_its_name(lab: Lab, figure) -> None:
    figure(lambda shown: "picture", requires="Model")
    assert "a figure draws an Altair chart or a Pillow image, not 'picture'" in str(lab.draw("mine").left_out)


def test_a_figure_that_requires_what_there_is_not_is_refused(lab: Lab, figure) -> None:
    figure(lambda shown: None, requires="Latents")
    with pytest.raises(ValueError, match="figure 'mine': requires 'Latents', which is no class of models"):
        lab.draw("mine")


def test_what_a_figure_of_records_raises_is_one_line(lab: Lab, figure) -> None:
    figure(lambda board, dataset: board.table("colours", dataset))
    with pytest.raises(ValueError, match="figure 'mine' on digits: ValueError: no board 'colours'"):
        lab.draw("mine")


def test_a_picture_that_is_up_to_date_stays_where_drawing_it_again_fails(lab: Lab, figure) -> None:
    images = [Image.new("L", (2, 2))]
    figure(lambda shown: images.pop(), requires="Model")
    [file] = lab.draw("mine").written
    assert "IndexError" in lab.draw("mine", again=True).left_out["a/b", "digits"]
    assert file.exists()


def test_a_picture_of_one_format_does_not_stay_beside_that_of_another(lab: Lab, figure) -> None:
    pictures = [Image.new("L", (2, 2)), alt.Chart({"values": [{"x": 1}]}).mark_point().encode(x="x:Q")]
    figure(lambda shown: pictures.pop(), requires="Model")
    assert {path.suffix for path in lab.draw("mine").written} == {".json", ".svg"}
    assert [path.suffix for path in lab.draw("mine", again=True).written] == [".png"]
    assert [path.name for path in (lab.folder / "figures/mine").iterdir()] == ["a-b-digits.png"]


def test_a_chart_of_records_is_checked_against_them(lab: Lab, figure) -> None:
    title = "one"
    figure(lambda board, dataset: alt.Chart({"values": [{"x": 1}]}, title=title).mark_point().encode(x="x:Q"))
    lab.draw("mine")
    assert lab.maker().check("mine") == []
    title = "two"
    assert lab.maker().check("mine") == ["digits.vl.json"]
    lab.draw("mine")
    (lab.folder / "figures/mine/digits.svg").write_text("<svg/>")
    assert lab.maker().check("mine") == ["digits.svg"]
    with pytest.raises(ValueError, match="'samples' is made of trained models"):
        lab.maker().check("samples")


@pytest.mark.parametrize("folder", sorted(BOARDS.glob("*/figures")), ids=lambda folder: folder.parent.name)
def test_the_committed_charts_are_what_the_records_give(folder: Path, tmp_path: Path) -> None:
    suite = Suite.read(folder.parent.with_suffix(".toml"))
    board = Leaderboard.read(folder.parent, suite, published=load_published(BOARDS / "published.toml"))
    maker = FigureMaker(
        board, folder.parent, artifacts=Artifacts(tmp_path), plugins=plugin_manager(), data=DataFolder(tmp_path)
    )
    assert maker.check("likelihood") == []


def test_the_pictures_of_a_suite_have_a_page_by_dataset_and_figure(lab: Lab, figure) -> None:
    figure(lambda shown: Image.new("L", (2, 2)), requires="Model", data=True)
    lab.draw("mine")
    board = Leaderboard([lab.record], lab.suite)
    write_boards(board, lab.folder)
    page = (lab.folder / "figures.md").read_text(encoding="utf-8")
    titles = [line for line in page.splitlines() if line.startswith("#")]
    assert titles == ["# T: figures", "## digits", "### mine"]
    assert "| real test images | a/b |" in page
    assert "![a/b](figures/mine/a-b-digits.png)" in page
    assert check_boards(board, lab.folder) == []
    (lab.folder / "figures/mine/a-b-digits.png").unlink()
    assert check_boards(board, lab.folder) == ["figures.md"]


class Looking(Autoregressive):
    """Every entry looks at the one above it alone, a little at the one to its left, and never at the others."""

    def fit(self, data, trainer): ...

    def conditional_logits(self, images, ordering=0):
        values = images.double()
        above, left = torch.zeros_like(values), torch.zeros_like(values)
        above[:, :, 1:], left[:, :, :, 1:] = values[:, :, :-1], values[:, :, :, :-1]
        score = above + 1e-3 * left
        return torch.stack([torch.zeros_like(score), score], dim=1)


def test_a_receptive_field_is_what_the_conditional_depends_on_and_how_much() -> None:
    model = Looking(ImageSpec(1, 3, 3, 2))
    images = torch.zeros(2, 1, 3, 3, dtype=torch.uint8)
    field = receptive_field(model, 1, 1, images)[0]
    sigmoid = [1 / (1 + math.exp(-score)) for score in (0.0, 1.0, 1e-3)]
    expected = torch.zeros(3, 3, dtype=torch.float64)
    expected[0, 1], expected[1, 0] = sigmoid[1] - sigmoid[0], sigmoid[2] - sigmoid[0]
    torch.testing.assert_close(field, expected)


def test_a_painted_field_tells_the_pixel_what_it_sees_what_it_does_not_and_the_future_apart() -> None:
    field, past = np.zeros((3, 3)), np.zeros((3, 3), dtype=bool)
    field[0, 1], past[0], past[1, 0] = 1, True, True
    image = paint(field, past, 1, 1)
    colours = {place: image.getpixel(place) for place in [(1, 1), (1, 0), (0, 0), (2, 2)]}  # (x, y)
    assert colours == {(1, 1): (255, 255, 255), (1, 0): (255, 166, 0), (0, 0): (35, 55, 120), (2, 2): (0, 0, 0)}


def test_a_model_that_is_not_trained_is_drawn_by_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    words = ["harness", "figure", "receptive-field", "made:hidden=[8]", "--size", "4", "-o", str(tmp_path / "made.png")]
    monkeypatch.setattr(sys, "argv", words)
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 0
    assert pixels(tmp_path / "made.png").shape == (224, 224, 3)


def test_a_figure_of_records_takes_a_suite_and_no_model(monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    monkeypatch.setattr(sys, "argv", ["harness", "figure", "likelihood", "made"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    assert (
        capsys.readouterr().err == "error: figure 'likelihood' is made of a suite's records: name a suite, not 'made'\n"
    )


def test_a_figure_of_a_package_that_pip_installed_is_drawn_beside_the_boards(tmp_path: Path) -> None:
    page = (BOARDS.parent / "docs" / "add-a-figure.md").read_text(encoding="utf-8")
    module, project = (re.search(rf"^```{kind}\n(.*?)^```$", page, re.DOTALL | re.M)[1] for kind in ("python", "toml"))
    (tmp_path / "package").mkdir()
    (tmp_path / "package" / "harness_portraits.py").write_text(module)
    (tmp_path / "package" / "pyproject.toml").write_text(
        f'[build-system]\nrequires = ["hatchling"]\nbuild-backend = "hatchling.build"\n{project}\n'
        '[tool.hatch.build.targets.wheel]\ninclude = ["harness_portraits.py"]\n'
    )
    site, boards = tmp_path / "site", tmp_path / "boards"
    subprocess.run(
        [sys.executable, "-m", "pip", "install", "-q", "--no-index", "--no-deps", "--no-build-isolation",
         "--target", str(site), str(tmp_path / "package")],
        check=True,
    )  # fmt: skip
    suite = str(BOARDS / "known-entropy.toml")
    words = [sys.executable, "-m", "harness", "figure", "seconds-and-nats", suite, "-o", str(boards)]
    subprocess.run(words, check=True, env=os.environ | {"PYTHONPATH": str(site)})
    drawn = {path.name for path in (boards / "figures" / "seconds-and-nats").iterdir()}
    assert {"ising-8x8.vl.json", "ising-8x8.svg"} <= drawn
    assert b"seconds of training" in (boards / "figures" / "seconds-and-nats" / "ising-8x8.svg").read_bytes()
