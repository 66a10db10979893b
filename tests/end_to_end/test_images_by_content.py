"""Folders and archives of images are known by their content: where they lie is in no key and in no record."""

import json

import numpy as np
import pytest
from PIL import Image

from harness.api import load
from harness.interface.spec import known_as, place_of
from harness.suites.suite import Suite, SuiteError


@pytest.fixture(scope="module")
def photos():
    return np.random.default_rng(0).integers(0, 256, (30, 4, 4), dtype=np.uint8)


@pytest.fixture(scope="module")
def root(tmp_path_factory, photos):
    root = tmp_path_factory.mktemp("mine")
    for name, images in (("photos", photos), ("other/photos", 255 - photos)):
        (root / name).mkdir(parents=True)
        for index, image in enumerate(images):
            Image.fromarray(image).save(root / name / f"{index}.png")
    np.savez(root / "photos.npz", photos[::-1])
    return root


@pytest.fixture(scope="module")
def harness(root, command_line):
    """Runs a command on a suite of one dataset, in the folder that the images are in."""

    def run(command, dataset, *arguments):
        suite = root / f"{abs(hash(dataset))}.toml"
        table = (
            f'title = "T"\ndatasets = ["{dataset}"]\nmetrics = ["nll"]\naudit = false\n[[models]]\nname = "uniform"\n'
        )
        suite.write_text(table)
        with pytest.MonkeyPatch.context() as patch:
            patch.chdir(root)
            return command_line("--artifacts", root / "artifacts", command, suite, *arguments)

    return run


@pytest.fixture(scope="module")
def trained(root, harness):
    answer = harness("run", "images:photos", "--json")
    assert answer.code == 0, answer
    return answer.json[0]


@pytest.mark.parametrize("path", ["./photos", "photos/", "{root}/photos", "other/../photos", "photos.npz"])
def test_the_same_images_by_another_path_are_the_same_run(root, harness, trained, path):
    [planned] = harness("run", f"images:{path.format(root=root)}", "--dry-run", "--json").json
    assert (planned["run"], planned["state"]) == (trained["run"], "hit")


def test_other_images_in_a_folder_of_the_same_name_are_other_data(root, harness, trained):
    [planned] = harness("run", "images:other/photos", "--dry-run", "--json").json
    assert (planned["state"], planned["dataset"]) == ("missing", "images:photos")


def test_no_record_of_the_store_has_the_path(root, harness, trained):
    assert harness("run", f"images:{root}/photos").code == 0
    assert f"{root}/photos".encode() not in b"".join(
        file.read_bytes() for file in (root / "artifacts").glob("store.sqlite*")
    )


def test_each_suite_s_board_and_archive_have_its_own_name_for_the_images(root, harness, trained, tmp_path):
    for dataset, name in (
        (f"images:{root}/photos as faces", "images:faces"),
        ("images:photos.npz", "images:photos.npz"),
    ):
        board = harness("leaderboard", dataset, "--board", "likelihood").out
        assert f"## {name}\n" in board
        assert "| uniform" in board
        assert harness("export", dataset, "-o", tmp_path).code == 0
        [record] = (json.loads(line) for line in (tmp_path / "records.jsonl").read_text().splitlines())
        assert record["spec"]["dataset"] == name
        assert str(root) not in json.dumps(record)


def test_runs_on_the_same_images_by_two_names_are_compared(root, harness, trained, command_line, tmp_path):
    for name in ("a", "b"):
        assert harness("export", f"images:photos as {name}", "-o", tmp_path / name).code == 0
    answer = command_line("compare", f"{tmp_path}/a:uniform", f"{tmp_path}/b:uniform", "--json")
    assert answer.code == 0, answer
    assert [found["metric"] for found in answer.json[0]["differences"]] == ["nll"]


def test_a_trained_model_is_loaded_where_the_images_were_moved_to(root, harness, trained, tmp_path):
    moved = (root / "photos").rename(tmp_path / "moved")
    try:
        [again] = harness("run", f"images:{moved}", "--json").json
        assert again["run"] == trained["run"]
        assert load(trained["run"], artifacts=root / "artifacts").spec.shape == (1, 4, 4)
    finally:
        moved.rename(root / "photos")
        harness("run", "images:photos")


def test_images_of_two_levels_are_pointed_out_when_they_are_run(root, harness, photos):
    np.savez(root / "black.npz", photos // 128)
    np.savez(root / "binary.npz", images=photos // 128, levels=2)
    black, binary = (harness("run", f"images:{name}.npz", "--dry-run") for name in ("black", "binary"))
    assert "warning: images:black.npz: the images use 2 of 256 levels." in black.err
    assert "warning" not in binary.err


def test_one_suite_may_not_have_the_same_images_twice(root, harness, trained):
    suite = 'images:photos", "images:photos.npz'
    assert "'images:photos' and 'images:photos.npz' are the same images" in harness("run", suite, "--dry-run").complaint


def test_two_folders_of_one_name_in_a_suite_have_to_be_named_apart():
    content = {"title": "T", "datasets": ["images:a/x", "images:b/x"], "models": [{"name": "uniform"}]}
    with pytest.raises(SuiteError, match="two datasets are called 'images:x'; name one, such as 'images:a/x as NAME'"):
        Suite.parse(content, name="s", source="s.toml")
    content["datasets"][0] += " as y"
    assert [row.dataset for row in Suite.parse(content, name="s", source="s.toml").rows()] == ["images:y", "images:x"]


@pytest.mark.parametrize(
    ("dataset", "name"),
    [
        ("mnist", "mnist"),
        ("my_data.py:stripes", "my_data.py:stripes"),
        ("images:/data/mine.npz", "images:mine.npz"),
        ("images:a b/c:d", "images:c:d"),
        ("images:../photos/ as faces 64", "images:faces 64"),
        ("images:cat as dog/", "images:cat-as-dog"),
        ("images:../photos/ crop=square resize=8", "images:photos crop=square resize=8"),
        ("images:a.npz resize=8 as faces", "images:faces resize=8"),
        ("images:a.npz as faces resize=8", "images:faces resize=8"),
    ],
)
def test_what_records_call_a_dataset(dataset, name):
    assert known_as(dataset) == known_as(name) == name


def test_a_relative_path_is_of_the_working_folder(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert place_of("images:.") == ("images", str(tmp_path), "", tmp_path.name)
