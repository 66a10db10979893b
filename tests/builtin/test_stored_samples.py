"""Images that somebody else made, as a model: known by their content, scored in the levels of a dataset."""

import os

import numpy as np
import pytest
import torch
from PIL import Image

from harness import ImageSpec, Split, StoredSamples
from harness.builtin.datasets import images as images_module
from harness.builtin.datasets.images import samples_at
from harness.interface.figure import save_images

SPEC = ImageSpec(1, 4, 4, 17)


@pytest.fixture
def images():
    return torch.from_numpy(np.random.default_rng(0).integers(0, 17, (30, 1, 4, 4), dtype=np.uint8))


def content(path):
    return samples_at(path).stored()[2]


def same(found, images):
    return sorted(Split(found).image_digests()) == sorted(Split(images).image_digests())


@pytest.mark.parametrize("name", ["folder", "file.npz"])
@pytest.mark.parametrize("levels", [2, 17, 255, 256])
def test_what_is_written_is_read_back_in_its_levels(tmp_path, name, levels):
    spec = ImageSpec(3, 2, 5, levels)
    images = torch.from_numpy(np.random.default_rng(1).integers(0, levels, (40, 3, 2, 5), dtype=np.uint8))
    save_images(tmp_path / name, images, spec)
    assert same(samples_at(tmp_path / name).as_of(spec), images)


def test_an_npz_is_what_other_tools_take(tmp_path, images):
    save_images(tmp_path / "x.npz", images, SPEC)
    written = np.load(tmp_path / "x.npz")["arr_0"]
    assert (written.shape, written.dtype, written.max()) == ((30, 4, 4, 1), np.uint8, 255)


def test_neither_order_nor_names_nor_format_change_the_content(tmp_path, images):
    save_images(tmp_path / "folder", images, SPEC)
    save_images(tmp_path / "other.npz", images.flip(0), SPEC)
    (tmp_path / "folder" / "000000.png").rename(tmp_path / "folder" / "z.png")
    assert content(tmp_path / "folder") == content(tmp_path / "other.npz")


def test_a_changed_file_changes_the_content_in_the_same_process(tmp_path, images):
    save_images(tmp_path / "folder", images, SPEC)
    before = content(tmp_path / "folder")
    Image.new("L", (4, 4), 255).save(tmp_path / "folder" / "000000.png", compress_level=0)
    assert content(tmp_path / "folder") != before


def test_the_first_of_them_are_of_no_folder_and_of_every_image_that_is_there_often(tmp_path):
    for level in (3, 16):
        save_images(tmp_path / "all" / str(level), torch.full((60, 1, 4, 4), level, dtype=torch.uint8), SPEC)
    first = samples_at(tmp_path / "all").as_of(SPEC)[:60]
    assert 15 < int((first == 16).flatten(1).any(1).sum()) < 45


def test_binary_files_are_the_ends_of_any_scale(tmp_path):
    (tmp_path / "x").mkdir()
    Image.fromarray(np.eye(4, dtype=bool)).save(tmp_path / "x" / "0.png")
    assert samples_at(tmp_path / "x").as_of(SPEC).unique().tolist() == [0, 16]


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        (ImageSpec(1, 4, 5, 17), r"images of x are \(1, 4, 4\), expected \(1, 4, 5\)"),
        (ImageSpec(3, 4, 4, 17), r"expected \(3, 4, 4\): channels, height, width"),
        (ImageSpec(1, 4, 4, 2), "x holds .* of 0 to 255, none of 2 levels: save 0 to 1 in an .npz, and 'levels' 2"),
    ],
)
def test_images_of_another_kind_are_refused(tmp_path, images, spec, says):
    save_images(tmp_path / "x", images, SPEC)
    with pytest.raises(ValueError, match=says):
        samples_at(tmp_path / "x").as_of(spec)


def test_there_are_no_more_of_them(tmp_path, images):
    save_images(tmp_path / "x", images, SPEC)
    model = samples_at(tmp_path / "x")(SPEC)
    model.fit(None, None)
    assert isinstance(model, StoredSamples)
    assert same(model.sample(30), images)
    with pytest.raises(ValueError, match="31 samples are asked for, x has 30"):
        model.sample(31)


def test_images_in_a_linked_folder_count_and_a_link_that_leads_back_does_not(tmp_path, images):
    save_images(tmp_path / "real", images, SPEC)
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "theirs").symlink_to(tmp_path / "real")
    (tmp_path / "real" / "back").symlink_to(tmp_path / "folder")
    assert content(tmp_path / "folder") == content(tmp_path / "real")
    assert len(samples_at(tmp_path / "folder").stored()[0]) == 30


@pytest.mark.parametrize("name", ["a.npz", "folder/a.png"])
def test_a_pipe_is_refused_and_not_waited_for(tmp_path, name):
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / name)
    with pytest.raises(ValueError, match=r"samples:.*a\.npz does not exist|a\.png is no file that is there"):
        content(tmp_path / name.partition("/")[0])


def test_of_numbered_arrays_no_more_are_read_than_can_be_used(tmp_path, monkeypatch):
    np.savez(tmp_path / "x.npz", *(np.zeros((20, 4, 4), np.uint8) for _ in range(30)))
    read, array = [], images_module._array
    monkeypatch.setattr(images_module, "_array", lambda *args: read.append(args[1].filename) or array(*args))
    with pytest.raises(ValueError, match=r"holds arr_0 .*arr_3 \(20, 4, 4\), \.\.\.: without names, expected images"):
        content(tmp_path / "x.npz")
    assert len(read) == 4


@pytest.mark.parametrize(("own", "asked", "fits"), [(16, 17, False), (5, 17, True), (2, 17, True), (17, 256, True)])
def test_levels_of_a_file_are_taken_where_they_are_levels_of_the_dataset(tmp_path, own, asked, fits):
    np.savez(tmp_path / "x.npz", images=np.arange(own, dtype=np.uint8).reshape(own, 1, 1), levels=own)
    read = samples_at(tmp_path / "x.npz").as_of
    if fits:
        expected = [round(level * (asked - 1) / (own - 1)) for level in range(own)]
        assert sorted(read(ImageSpec(1, 1, 1, asked)).flatten().tolist()) == expected
    else:
        with pytest.raises(ValueError, match=r"x\.npz holds \d+ of 0 to 15, none of 17 levels"):
            read(ImageSpec(1, 1, 1, asked))
