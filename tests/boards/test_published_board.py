"""The board of a printed table: all of its rows, ours beside each, or why there is none."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from harness.boards.leaderboard import Leaderboard
from harness.boards.published import PublishedFigure, load_published, published_beside
from harness.discovery.loading import load_model_class, resolve
from harness.discovery.manager import plugin_manager
from harness.records.record import FitRecord, RunRecord, ScoreRecord, identity_of
from harness.records.store import Artifacts
from harness.report.files import render_boards
from harness.report.site.build import site_files
from harness.report.site.suite import SuitePages
from harness.running.coordinator import plan_suite
from harness.running.planning import Settings
from harness.suites.suite import Suite

LEADERBOARDS = Path(__file__).parents[2] / "leaderboards"
LECTURE = """Uniform, Multivariate Gaussian, NICE, Deep Diffusion, DRAW, Deep GMM, Conv DRAW, RealNVP, RIDE, PixelCNN,
Row LSTM, PixelRNN (Diagonal BiLSTM), Gated PixelCNN, ResNet VAE + IAF"""


def figure(slug: str, value: str, **changes: object) -> PublishedFigure:
    fields = {
        "slug": slug, "label": slug.upper(), "dataset": "cifar10", "metric": "bits-per-dim", "split": "test",
        "kind": "exact", "value": float(value), "printed": value, "unit": "bits/dim", "tags": ("L",), "verified": True,
        "table": "lecture",
    }  # fmt: skip
    return PublishedFigure(**(fields | changes))  # type: ignore[arg-type]


PUBLISHED = {
    item.slug: item
    for item in (
        figure("b", "4.7", kind="upper bound", notes="A bound by its nature."),
        figure("a", "3.14"),
        figure("c", "3.58", not_built="no plugin has it"),
        figure("d", "3.00"),
        figure("other", "2.00", table=None),
    )
}


def board_of(dataset: str = "cifar10", more: Sequence[PublishedFigure] = (), **changes: object) -> Leaderboard:
    models = [{"name": "ours-a", "published": "a"}, {"name": "ours-b", "published": "b"}, {"name": "alone"}]
    content = {"title": "T", "datasets": [dataset], "metrics": ["bits-per-dim"], "models": models, "table": "lecture"}
    suite = Suite.parse(content | changes, name="t", source="t")
    records = []
    for row, bits in zip(suite.rows(), (3.14, None, 8.0), strict=True):
        spec = row.configurations[0][0]
        scores = {"bits-per-dim": ScoreRecord(metric="bits-per-dim", key="k", value=bits, kind="exact", unit="bits/dim",
                                              num_images=400, protocol={"split": "test"})}  # fmt: skip
        fit = FitRecord(steps=9, epochs=2.0, seconds=3.0, checkpoint="last", weights_sha256="w")
        values = {
            "run": spec.model, "key": "k", "identity": identity_of(spec), "spec": spec, "hyperparameters": {},
            "provider": "p 1", "code": "c", "dataset_digest": "d", "num_images": {"test": 400},
            "image_shape": (3, 32, 32, 256), "status": "done", "fit": fit, "scores": scores if bits else {},
        }  # fmt: skip
        records.append(RunRecord(**values))  # type: ignore[arg-type]
    return Leaderboard(records, suite, published=PUBLISHED | {item.slug: item for item in more})


def test_all_rows_of_the_table_stand_in_its_order_and_no_other() -> None:
    table = board_of().table("published", "cifar10")
    assert list(table["published_slug"].dropna()) == ["b", "a", "c", "d"]
    assert list(table["label"]) == ["ours-b", "ours-a", "C", "D", "alone"]  # what is beside no row comes last


@pytest.mark.parametrize(
    ("label", "verdict", "reason"),
    [
        ("ours-a", "reproduced", "3.14 against 3.14"),
        ("ours-b", "no figure", "no likelihood"),
        ("C", "not built", "no plugin has it"),
        ("D", "not run", "no row of this suite stands for it"),
    ],
)
def test_a_row_has_a_verdict_or_the_reason_why_there_is_none(label: str, verdict: str, reason: str) -> None:
    row = board_of().table("published", "cifar10").set_index("label").loc[label]
    assert row.verdict == verdict
    assert reason in row.verdict_reason


def test_ours_of_other_data_is_not_comparable_and_says_of_which_data_it_is() -> None:
    row = board_of("digits").table("published", "digits").set_index("label").loc["ours-a"]
    assert (row.verdict, row.ours, row.ours_from) == ("not comparable", 3.14, "digits, 400 test images")


def test_the_page_prints_the_bound_as_one_and_both_figures_in_one_line() -> None:
    text = render_boards(board_of())["published.md"].decode()
    assert re.search(r"\| ours-b +\| +≤ 4.70 \\\[L\\\] \| upper bound \| not recorded +\|", text)
    assert re.search(r"\| ours-a +\| +3.14 \\\[L\\\] \| exact .*\| +3.140 \| cifar10, 400 test images \|", text)
    assert "B: A bound by its nature." in text


def test_the_site_shows_the_board_and_links_the_rows_that_have_a_page(tmp_path: Path) -> None:
    page = dict(site_files([SuitePages("t", board_of(), tmp_path)]))["t/index.html"].decode()
    assert re.search(r'<th scope="row"><a href="[^"]+">ours-a</a></th>', page)
    assert '<th scope="row">C</th>' in page
    assert "not built: no plugin has it" in page


def test_a_printed_row_of_two_figures_stands_beside_one_row_of_ours_twice_and_says_of_which_metrics() -> None:
    bound = figure("a-bound", "3.20", metric="negative-elbo", kind="upper bound", row_of="a")
    table = board_of(more=[bound]).table("published", "cifar10").set_index("published_slug").loc[["a", "a-bound"]]
    assert list(table["label"]) == ["ours-a", "ours-a"]
    assert list(table["verdict"]) == ["reproduced", "not comparable"]
    assert list(table["kind"]) == ["exact, bits-per-dim", "upper bound, negative-elbo"]


def test_a_figure_that_belongs_to_the_row_of_none_is_an_error(tmp_path: Path) -> None:
    text = (LEADERBOARDS / "published.toml").read_text(encoding="utf-8").replace('row_of = "vae-', 'row_of = "vea-', 1)
    (tmp_path / "published.toml").write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match="row_of 'vea-diagonal-covariance-dynamic' is no figure of this file"):
        load_published(tmp_path / "published.toml")


def test_a_suite_without_a_table_has_no_such_board() -> None:
    assert "published" in board_of().boards
    assert "published" not in board_of(table=None).boards


def test_a_table_that_there_is_not_is_an_error_that_names_those_there_are() -> None:
    with pytest.raises(ValueError, match=r"table = 'lectures': .* has no row of it \(did you mean 'lecture'\?\)"):
        board_of(table="lectures")


def test_the_lectures_table_is_whole_and_every_row_has_a_model_or_a_reason() -> None:
    rows = [row for row in load_published(LEADERBOARDS / "published.toml").values() if row.table == "lecture-cifar10"]
    assert [row.label for row in rows][:14] == LECTURE.replace("\n", " ").split(", ")
    assert [row.label for row in rows if (row.model is None) == (row.not_built is None)] == []
    assert {(row.dataset, row.metric, row.split) for row in rows} == {("cifar10", "bits-per-dim", "test")}
    assert np.isclose([row.value for row in rows][:3], [8.0, 4.7, 4.48], atol=0.005).all()


def test_published_figures_lie_beside_a_suite_or_in_the_folder_above() -> None:
    beside, below = LEADERBOARDS / "mnist.toml", LEADERBOARDS / "protocols/mnist-static-pixels.toml"
    assert published_beside(beside) == published_beside(below) != {}
    assert published_beside(LEADERBOARDS / "protocols/deeper/suite.toml") == {}


FOR_NO_RECORD = sorted(LEADERBOARDS.glob("protocols/*.toml"))
_MAY_HAVE_NONE = "component-collapse", "fashion-mnist", "frey-faces", "mnist-dynamic", "toys", "zoo-digits"
FOR_NO_RECORD += [LEADERBOARDS / f"{name}.toml" for name in _MAY_HAVE_NONE]


@pytest.mark.parametrize("file", FOR_NO_RECORD, ids=lambda file: file.stem)
def test_a_suite_without_records_names_hyperparameters_that_there_are(file: Path) -> None:
    suite = Suite.read(file)
    plugins = plugin_manager()
    for model in suite.models:
        for chosen in model.configurations():
            resolve(load_model_class(plugins, model.name), chosen)


def test_a_protocol_finds_the_figures_that_it_names(tmp_path: Path) -> None:
    suite = Suite.read(LEADERBOARDS / "protocols/mnist-static-pixels.toml")
    assert plan_suite(suite.select(["pixelcnn"]), Settings(Artifacts(tmp_path), only_looks=True)).rows


@pytest.mark.parametrize("file", ["cifar10-first-4000.toml", "protocols/cifar10-lecture.toml"])
def test_a_suite_beside_the_lectures_table_has_a_row_for_each_that_has_a_model(file: str) -> None:
    rows = Suite.read(LEADERBOARDS / file).models
    table = [row for row in load_published(LEADERBOARDS / "published.toml").values() if row.table == "lecture-cifar10"]
    ours = [(row.published, row.name, row.label) for row in rows if row.published]
    assert ours == [(row.slug, row.model, row.label) for row in table if row.model]
