"""``images:PATH``: folders of image files and .npz archives, and the mistakes people make with them."""

import numpy as np
import pytest
import torch
from PIL import Image

from harness import DataFolder
from harness.builtin.datasets.images import images, list_images, read_images


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.fixture
def load(tmp_path):
    return lambda path: images(DataFolder(tmp_path / "data"), str(path))


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "pictures").mkdir()
    return tmp_path / "pictures"


def write_all(folder, array, suffix=".png"):
    for index, image in enumerate(array):
        Image.fromarray(image).save(folder / f"{index:03}{suffix}")


def contents(data):
    parts = (data.train, data.valid, data.test)
    return sorted(image.tobytes() for part in parts for image in part.images.numpy())


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".tif", ".gif"])
def test_grey_files_come_back_bit_for_bit(folder, load, rng, suffix):
    array = rng.integers(0, 256, (20, 5, 4), dtype=np.uint8)
    # A GIF has a palette: its pixels come back as three equal channels.
    expected = np.repeat(array[:, None], 3, axis=1) if suffix == ".gif" else array[:, None]
    write_all(folder, array, suffix)
    data = load(folder)
    assert contents(data) == sorted(image.tobytes() for image in np.ascontiguousarray(expected))
    assert data.spec.shape == expected.shape[1:]


def test_colour_files_come_back_channels_first(folder, rng):
    array = rng.integers(0, 256, (4, 5, 4, 3), dtype=np.uint8)
    write_all(folder, array)
    assert np.array_equal(read_images(folder), array.transpose(0, 3, 1, 2))


def test_lossless_webp_comes_back_bit_for_bit(folder, rng):
    array = rng.integers(0, 256, (5, 4, 3), dtype=np.uint8)
    Image.fromarray(array).save(folder / "a.webp", lossless=True)
    assert np.array_equal(read_images(folder)[0], array.transpose(2, 0, 1))


def test_jpeg_gives_what_pillow_decodes(folder, rng):
    Image.fromarray(rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)).save(folder / "a.JPG")
    with Image.open(folder / "a.JPG") as image:
        assert np.array_equal(read_images(folder)[0], np.asarray(image).transpose(2, 0, 1))


def test_one_bit_files_have_the_values_0_and_255(folder):
    bits = np.array([[True, False], [False, False]])
    Image.fromarray(bits).save(folder / "a.png")
    assert np.array_equal(read_images(folder)[0, 0], 255 * bits)


def test_a_grey_file_among_colour_ones_is_repeated_over_the_channels(folder, rng):
    grey, colour = rng.integers(0, 256, (4, 4), dtype=np.uint8), rng.integers(0, 256, (4, 4, 3), dtype=np.uint8)
    Image.fromarray(grey).save(folder / "a.png")
    Image.fromarray(colour).save(folder / "b.png")
    found = read_images(folder)
    assert np.array_equal(found[0], np.stack([grey] * 3))
    assert np.array_equal(found[1], colour.transpose(2, 0, 1))


def test_an_opaque_alpha_channel_is_dropped_and_a_transparent_one_refused(folder, rng):
    array = rng.integers(0, 256, (4, 4, 4), dtype=np.uint8)
    array[..., 3] = 255
    Image.fromarray(array).save(folder / "a.png")
    assert np.array_equal(read_images(folder)[0], array[..., :3].transpose(2, 0, 1))
    array[0, 0, 3] = 254
    Image.fromarray(array).save(folder / "a.png")
    with pytest.raises(ValueError, match=r"a\.png has transparent pixels: flatten it"):
        read_images(folder)


def test_files_are_taken_by_name_subfolders_included_other_files_passed_over(folder):
    (folder / "b").mkdir()
    pixel = Image.fromarray(np.zeros((2, 2), np.uint8))
    for name in ("c.png", "b/z.bmp", "a.PNG", ".hidden.png"):
        pixel.save(folder / name)
    (folder / "notes.txt").write_text("")
    assert [path.relative_to(folder).as_posix() for path in list_images(folder)] == ["a.PNG", "b/z.bmp", "c.png"]


def test_the_name_is_the_path_as_given(folder, load, rng, monkeypatch):
    write_all(folder, rng.integers(0, 256, (10, 2, 2), dtype=np.uint8))
    monkeypatch.chdir(folder.parent)
    assert load("./pictures").name == "images:./pictures"


@pytest.mark.parametrize("num_images", [10, 11, 25, 100])
def test_a_tenth_each_is_for_validation_and_test(tmp_path, load, rng, num_images):
    path = tmp_path / "a.npz"
    np.savez(path, images=rng.integers(0, 256, (num_images, 4, 5), dtype=np.uint8))
    data, tenth = load(path), round(num_images / 10)
    assert (len(data.train), len(data.valid), len(data.test)) == (num_images - 2 * tenth, tenth, tenth)


def test_the_same_images_are_the_same_data_in_a_folder_and_in_any_layout_of_an_archive(tmp_path, folder, load, rng):
    array = rng.integers(0, 256, (20, 6, 5, 3), dtype=np.uint8)
    write_all(folder, array)
    np.savez(tmp_path / "last.npz", images=array)
    np.savez(tmp_path / "first.npz", array[::-1].transpose(0, 3, 1, 2))
    digests = {load(path).digest() for path in (folder, tmp_path / "last.npz", tmp_path / "first.npz")}
    assert len(digests) == 1


def test_an_archive_of_grey_images_keeps_labels_with_their_images_and_its_levels(tmp_path, load, rng):
    array = rng.integers(0, 4, (20, 6, 5), dtype=np.uint8)
    path = tmp_path / "a.npz"
    np.savez_compressed(path, images=array, labels=np.arange(20, dtype=np.uint8), levels=4)
    data = load(path)
    assert (data.spec.levels, data.spec.num_classes, data.spec.shape) == (4, 20, (1, 6, 5))
    for part in (data.train, data.valid, data.test):
        assert np.array_equal(part.images[:, 0].numpy(), array[part.labels.numpy()])


@pytest.mark.parametrize("layout", ["NHWC", "NCHW"])
def test_a_layout_decides_where_channels_could_come_first_or_last(tmp_path, load, rng, layout):
    array = rng.integers(0, 256, (20, 3, 5, 3), dtype=np.uint8)
    path = tmp_path / "a.npz"
    np.savez(path, images=array, layout=layout)
    expected = array if layout == "NCHW" else array.transpose(0, 3, 1, 2)
    assert contents(load(path)) == sorted(image.tobytes() for image in expected)


def test_images_of_an_archive_are_contiguous_bytes(tmp_path, load, rng):
    np.savez(tmp_path / "a.npz", rng.integers(0, 256, (20, 6, 5, 3), dtype=np.uint8))
    train = load(tmp_path / "a.npz").train.images
    assert train.is_contiguous()
    assert train.dtype == torch.uint8
    assert tuple(train.shape) == (16, 3, 6, 5)


IMAGES = np.arange(20 * 4 * 5, dtype=np.uint8).reshape(20, 4, 5)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"images": IMAGES / 255}, r"'images' is float64, expected uint8: save integers from 0 to 255"),
        ({"a": IMAGES, "b": IMAGES}, "holds a, b: name the array of images 'images'"),
        ({"labels": np.zeros(20, int)}, "holds labels: name the array of images 'images'"),
        ({"images": IMAGES[0]}, r"shape \(4, 5\), expected \(N, H, W\)"),
        ({"images": IMAGES.reshape(20, 2, 5, 2)}, "neither 1 nor 3 channels, first or last: save a string 'layout'"),
        ({"images": IMAGES.reshape(20, 1, 20, 1)}, "channels may come first or last: save a string 'layout'"),
        ({"images": IMAGES.reshape(20, 1, 20, 1), "layout": "HWCN"}, "'layout' is 'HWCN', expected 'NHWC' or 'NCHW'"),
        ({"images": IMAGES, "levels": 300}, "'levels' is 300, expected one integer from 2 to 256"),
        ({"images": IMAGES, "levels": [2]}, r"'levels' is \[2\], expected one integer"),
        ({"images": IMAGES, "levels": 16}, "holds the value 255, but 'levels' is 16"),
        ({"images": IMAGES, "labels": np.zeros(3, int)}, r"'labels' is \(3,\) int64, expected \(20,\) integers"),
        ({"images": IMAGES, "labels": np.zeros(20)}, r"'labels' is \(20,\) float64, expected \(20,\) integers"),
        ({"images": IMAGES, "labels": np.full(20, -1)}, "'labels' holds -1, expected classes numbered from 0"),
        ({"images": IMAGES[:9]}, "holds 9 images: at least 10 are needed"),
        ({"images": np.zeros_like(IMAGES)}, "20 images, 1 of them different, cannot be split"),
    ],
)
def test_an_archive_that_cannot_be_used_is_an_error_that_names_it_and_the_remedy(tmp_path, load, arrays, message):
    path = tmp_path / "mine.npz"
    np.savez(path, **arrays)
    with pytest.raises(ValueError, match=f"mine.npz.*{message}"):
        load(path)


def test_an_archive_with_pickled_objects_is_refused(tmp_path, load):
    np.savez(tmp_path / "mine.npz", images=np.array([{}, {}], dtype=object))
    with pytest.raises(ValueError, match=r"mine\.npz is not a readable \.npz archive of plain arrays"):
        load(tmp_path / "mine.npz")


@pytest.mark.parametrize("content", [b"", b"no archive", b"PK\x03\x04 cut off"])
def test_a_damaged_archive_is_an_error_that_names_it(tmp_path, load, content):
    (tmp_path / "mine.npz").write_bytes(content)
    with pytest.raises(ValueError, match=r"mine\.npz is not a readable \.npz archive"):
        load(tmp_path / "mine.npz")


def test_a_missing_path_is_an_error_that_names_it(tmp_path, load):
    with pytest.raises(ValueError, match=r"nowhere does not exist: give a folder of images or an \.npz file"):
        load(tmp_path / "nowhere")


def test_a_file_that_is_no_archive_is_an_error_that_names_it(tmp_path, load):
    (tmp_path / "a.png").write_bytes(b"")
    with pytest.raises(ValueError, match=r"a\.png is neither a folder of images nor an \.npz file"):
        load(tmp_path / "a.png")


def test_a_folder_without_images_is_an_error_that_names_it(folder, load):
    (folder / "notes.txt").write_text("")
    with pytest.raises(ValueError, match=r"pictures holds no image files: expected files ending in \.bmp"):
        load(folder)


def test_the_first_image_of_another_size_is_named_with_both_sizes(folder, load, rng):
    write_all(folder, rng.integers(0, 256, (12, 4, 5), dtype=np.uint8))
    for name in ("005.png", "007.png"):
        Image.fromarray(np.zeros((6, 7), np.uint8)).save(folder / name)
    with pytest.raises(ValueError, match=r"005\.png is 7x6, but 000\.png is 5x4 \(width x height\)"):
        load(folder)


def test_a_file_that_is_no_image_is_named(folder, load, rng):
    write_all(folder, rng.integers(0, 256, (12, 4, 5), dtype=np.uint8))
    (folder / "003.png").write_bytes(b"<html>")
    with pytest.raises(ValueError, match=r"003\.png is not an image: remove it or replace it"):
        load(folder)


def test_an_image_that_breaks_off_is_named(folder, load, rng):
    write_all(folder, rng.integers(0, 256, (12, 40, 50), dtype=np.uint8))
    whole = (folder / "003.png").read_bytes()
    (folder / "003.png").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match=r"003\.png cannot be read \(.+\): remove it or replace it"):
        load(folder)


def test_an_image_of_sixteen_bits_is_refused(folder, load, rng):
    Image.fromarray(rng.integers(0, 2**16, (4, 5), dtype=np.uint16)).save(folder / "a.png")
    with pytest.raises(ValueError, match=r"a\.png has more than 8 bits a channel \(mode I;16\)"):
        load(folder)


def test_an_animated_image_is_refused(folder, load, rng):
    first, second = (Image.fromarray(image) for image in rng.integers(0, 256, (2, 4, 5), dtype=np.uint8))
    first.save(folder / "a.gif", save_all=True, append_images=[second])
    with pytest.raises(ValueError, match=r"a\.gif holds 2 frames"):
        load(folder)
