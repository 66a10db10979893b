"""``images:PATH``: folders of image files and .npz archives, and the mistakes people make with them."""

import io
import os
import struct
import tracemalloc
import zipfile
import zlib

import numpy as np
import pytest
import torch
from PIL import Image, TiffImagePlugin

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


def png(image, bits, *, colour=0, depth=None):
    """A PNG file whose rows are ``image`` (H, W) of ``bits`` bits each, packed, or bytes (H, W) as they are."""
    rows = (
        image
        if bits == 8
        else np.packbits(np.unpackbits(image[..., None], axis=2)[..., -bits:].reshape(len(image), -1), axis=1)
    )
    width = image.shape[1] if depth is None else image.shape[1] * 8 // depth // {0: 1, 2: 3, 4: 2, 6: 4}[colour]
    parts = (
        (b"IHDR", struct.pack(">IIBBBBB", width, len(image), depth or bits, colour, 0, 0, 0)),
        (b"IDAT", zlib.compress(b"".join(b"\0" + row.tobytes() for row in rows))),
        (b"IEND", b""),
    )
    chunks = [struct.pack(">I", len(d)) + t + d + struct.pack(">I", zlib.crc32(t + d)) for t, d in parts]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def contents(data):
    parts = (data.train, data.valid, data.test)
    return sorted(image.tobytes() for part in parts for image in part.images.numpy())


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".tif", ".gif"])
def test_grey_files_come_back_bit_for_bit(folder, load, rng, suffix):
    array = rng.integers(0, 256, (20, 5, 4), dtype=np.uint8)
    expected = array[:, None]  # also of a GIF, whose palette is all grey
    write_all(folder, array, suffix)
    data = load(folder)
    assert contents(data) == sorted(image.tobytes() for image in np.ascontiguousarray(expected))
    assert data.spec.shape == expected.shape[1:]


def test_colour_files_come_back_channels_first(folder, rng):
    array = rng.integers(0, 256, (4, 5, 4, 3), dtype=np.uint8)
    write_all(folder, array)
    assert np.array_equal(read_images(folder)[0], array.transpose(0, 3, 1, 2))


def test_lossless_webp_comes_back_bit_for_bit(folder, rng):
    array = rng.integers(0, 256, (5, 4, 3), dtype=np.uint8)
    Image.fromarray(array).save(folder / "a.webp", lossless=True)
    assert np.array_equal(read_images(folder)[0][0], array.transpose(2, 0, 1))


def test_jpeg_gives_what_pillow_decodes(folder, rng):
    Image.fromarray(rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)).save(folder / "a.JPG")
    with Image.open(folder / "a.JPG") as image:
        assert np.array_equal(read_images(folder)[0][0], np.asarray(image).transpose(2, 0, 1))


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".tif", ".pbm"])
def test_files_of_one_bit_have_two_levels(folder, load, rng, suffix):
    bits = rng.integers(0, 2, (20, 5, 9)).astype(bool)
    write_all(folder, bits, suffix)
    data = load(folder)
    assert (data.spec.levels, contents(data)) == (2, sorted(image.tobytes() for image in bits.astype(np.uint8)))


@pytest.mark.parametrize("bits", [2, 4])
def test_png_files_of_few_bits_have_as_many_levels(folder, load, rng, bits):
    array = rng.integers(0, 2**bits, (20, 5, 8), dtype=np.uint8)
    for index, image in enumerate(array):
        (folder / f"{index}.png").write_bytes(png(image, bits))
    data = load(folder)
    assert (data.spec.levels, contents(data)) == (2**bits, sorted(image.tobytes() for image in array))


@pytest.mark.parametrize("magic", [b"P5", b"P2"])
def test_a_portable_graymap_has_the_levels_that_it_says(folder, load, rng, magic):
    array = rng.integers(0, 11, (20, 5, 4), dtype=np.uint8)
    for index, image in enumerate(array):
        pixels = image.tobytes() if magic == b"P5" else b" ".join(b"%d" % value for value in image.flat)
        (folder / f"{index}.pgm").write_bytes(magic + b" 4 5 10\n" + pixels)
    data = load(folder)
    assert (data.spec.levels, contents(data)) == (11, sorted(image.tobytes() for image in array))


def test_files_of_one_bit_among_those_of_eight_have_the_values_0_and_255(folder):
    bits = np.array([[True, False], [False, False]])
    Image.fromarray(bits).save(folder / "a.png")
    Image.fromarray(np.full((2, 2), 7, np.uint8)).save(folder / "b.png")
    pixels, levels, _ = read_images(folder)
    assert levels == 256
    assert np.array_equal(pixels[:, 0], [255 * bits, np.full((2, 2), 7)])


@pytest.mark.parametrize("suffix", [".png", ".gif", ".bmp", ".tif"])
def test_a_palette_of_greys_gives_one_channel_and_its_colours_not_its_indices(folder, rng, suffix):
    indices = rng.integers(0, 100, (5, 4), dtype=np.uint8)
    image = Image.fromarray(indices, mode="P")
    image.putpalette([value for index in range(100) for value in 3 * [255 - index]] + [255, 0, 0])  # red is not used
    image.save(folder / f"a{suffix}")
    pixels, levels, _ = read_images(folder)
    assert (pixels.shape, levels) == ((1, 1, 5, 4), 256)
    assert np.array_equal(pixels[0, 0], 255 - indices)


def test_a_palette_of_black_and_white_has_two_levels(folder, rng):
    image = Image.fromarray(rng.integers(0, 2, (5, 4), dtype=np.uint8), mode="P")
    image.putpalette([255, 255, 255, 0, 0, 0])
    image.save(folder / "a.png", bits=1)
    pixels, levels, _ = read_images(folder)
    assert levels == 2
    assert np.array_equal(pixels[0, 0], 1 - np.asarray(image))


def test_a_palette_of_colours_gives_three_channels(folder, rng):
    image = Image.fromarray(rng.integers(0, 2, (5, 4), dtype=np.uint8), mode="P")
    image.putpalette([0, 0, 0, 255, 0, 0])
    image.save(folder / "a.png")
    assert read_images(folder)[0].shape == (1, 3, 5, 4)


def test_a_grey_file_among_colour_ones_is_repeated_over_the_channels(folder, rng):
    grey, colour = rng.integers(0, 256, (4, 4), dtype=np.uint8), rng.integers(0, 256, (4, 4, 3), dtype=np.uint8)
    Image.fromarray(grey).save(folder / "a.png")
    Image.fromarray(colour).save(folder / "b.png")
    found, *_ = read_images(folder)
    assert np.array_equal(found[0], np.stack([grey] * 3))
    assert np.array_equal(found[1], colour.transpose(2, 0, 1))


def test_an_opaque_alpha_channel_is_dropped_and_a_transparent_one_refused(folder, rng):
    array = rng.integers(0, 256, (4, 4, 4), dtype=np.uint8)
    array[..., 3] = 255
    Image.fromarray(array).save(folder / "a.png")
    assert np.array_equal(read_images(folder)[0][0], array[..., :3].transpose(2, 0, 1))
    array[0, 0, 3] = 254
    Image.fromarray(array).save(folder / "a.png")
    with pytest.raises(ValueError, match=r"a\.png has transparent pixels: flatten it"):
        read_images(folder)


def test_files_are_taken_by_name_subfolders_included_other_files_passed_over(folder):
    for name in ("b", ".ipynb_checkpoints/b"):
        (folder / name).mkdir(parents=True)
    pixel = Image.fromarray(np.zeros((2, 2), np.uint8))
    for name in ("c.png", "b/z.bmp", "a.PNG", ".hidden.png", ".ipynb_checkpoints/a.png", ".ipynb_checkpoints/b/a.png"):
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
        (
            {"images": IMAGES / 255},
            r"'images' is float64, expected uint8: they lie between 0 and 1: save \(255 \* images\).round",
        ),
        ({"images": IMAGES / 127.5 - 1}, r"between -1 and 1: save \(127.5 \* \(images \+ 1\)\).round"),
        ({"images": IMAGES.astype(float)}, r"expected uint8: save them with .round\(\).astype\(numpy.uint8\)"),
        ({"images": IMAGES.astype(np.uint16) * 257}, "between 0 and 65535: scale them to 0 to 255, then"),
        ({"images": IMAGES > 9}, r"is bool, expected uint8: save .astype\(numpy.uint8\), and 'levels' 2"),
        ({"images": IMAGES * 1j}, "is complex128, expected uint8: save integers from 0 to 255"),
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
        ({"images": IMAGES, "labels": np.full(20, 10**12)}, "'labels' holds 1000000000000, expected classes numbered"),
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
    with pytest.raises(ValueError, match=r"a\.png has more than 8 bits a channel"):
        load(folder)


def test_an_animated_image_is_refused(folder, load, rng):
    first, second = (Image.fromarray(image) for image in rng.integers(0, 256, (2, 4, 5), dtype=np.uint8))
    first.save(folder / "a.gif", save_all=True, append_images=[second])
    with pytest.raises(ValueError, match=r"a\.gif holds 2 frames"):
        load(folder)


@pytest.mark.parametrize("colour", [2, 4, 6])
def test_a_png_of_sixteen_bits_is_refused_in_colour_and_with_alpha_too(folder, rng, colour):
    rows = rng.integers(0, 256, (5, 48), dtype=np.uint8)
    (folder / "a.png").write_bytes(png(rows, 8, colour=colour, depth=16))
    with pytest.raises(ValueError, match=r"a\.png has more than 8 bits a channel.*: convert it to 8 bits"):
        read_images(folder)


def test_a_portable_pixmap_of_sixteen_bits_is_refused(folder):
    (folder / "a.ppm").write_bytes(b"P6 2 2 65535\n" + bytes(24))
    with pytest.raises(ValueError, match=r"a\.ppm has more than 8 bits a channel"):
        read_images(folder)


@pytest.mark.parametrize(("bits", "kind"), [((16, 16, 16), 1), ((8,), 2)])
def test_a_tiff_of_sixteen_bits_or_signed_ones_is_refused(folder, bits, kind):
    tags = TiffImagePlugin.ImageFileDirectory_v2()
    tags[258], tags[339] = bits, (kind,) * len(bits)
    pixels = bytes(4 * 4 * sum(bits) // 8)
    tags[256], tags[257], tags[259], tags[262] = 4, 4, 1, 1 if len(bits) == 1 else 2
    tags[277], tags[278], tags[279], tags[273] = len(bits), 4, len(pixels), 8
    file = io.BytesIO(b"II*\0" + struct.pack("<I", 8 + len(pixels)) + pixels)
    file.seek(8 + len(pixels))
    tags.save(file)
    (folder / "a.tif").write_bytes(file.getvalue())
    with pytest.raises(ValueError, match=r"a\.tif has more than 8 bits a channel, or signed"):
        read_images(folder)


@pytest.mark.parametrize("suffix", [".jpg", ".tif"])
def test_an_image_of_four_inks_is_refused(folder, rng, suffix):
    Image.fromarray(rng.integers(0, 256, (5, 4, 4), dtype=np.uint8), mode="CMYK").save(folder / f"a{suffix}")
    with pytest.raises(ValueError, match=rf"a\{suffix} is stored as CMYK: convert it to RGB or grey"):
        read_images(folder)


@pytest.mark.parametrize("header", [b"P5 4 x 255\n", b"P5 4 4 0\n", b"P5 30000 30000 255\n"])
def test_a_header_that_cannot_be_is_named_with_its_file(folder, header):
    (folder / "a.pgm").write_bytes(header + bytes(16))
    with pytest.raises(ValueError, match=r"a\.pgm cannot be read \(.+\): remove it or replace it"):
        read_images(folder)


def test_a_folder_that_cannot_be_listed_is_not_passed_over(folder, load, rng, monkeypatch):
    write_all(folder, rng.integers(0, 256, (12, 4, 5), dtype=np.uint8))
    (folder / "more").mkdir()
    scan = os.scandir

    def refuse(path):
        if str(path).endswith("more"):
            raise PermissionError(13, "Permission denied", str(path))
        return scan(path)

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(OSError, match=r"Permission denied: .*more"):
        load(folder)


def header_of(shape, descr="|u1"):
    buffer = io.BytesIO()
    np.lib.format.write_array_header_1_0(buffer, {"descr": descr, "fortran_order": False, "shape": shape})
    return buffer.getvalue()


def archive(path, **members):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name, parts in members.items():
            with file.open(f"{name}.npy", "w", force_zip64=True) as member:
                for part in parts:
                    member.write(part)


def test_an_array_that_nobody_asked_for_is_not_read(tmp_path, load):
    parts = [header_of((64, 2**20)), *[bytes(2**20)] * 64]
    archive(tmp_path / "a.npz", images=[header_of(IMAGES.shape), IMAGES.tobytes()], other=parts)
    tracemalloc.start()
    load(tmp_path / "a.npz")
    assert tracemalloc.get_traced_memory()[1] < 2**25
    tracemalloc.stop()


def test_images_that_unpack_to_far_more_than_their_file_are_refused_unread(tmp_path, load, monkeypatch):
    monkeypatch.setattr("harness.builtin.datasets.images._FREE_BYTES", 2**20)
    archive(tmp_path / "a.npz", images=[header_of((64, 256, 256)), *[bytes(2**20)] * 4])
    with pytest.raises(ValueError, match=r"'images' unpacks to 4,194,\d+ bytes, more than 200 times the file"):
        load(tmp_path / "a.npz")


@pytest.mark.parametrize("shape", [(10**6, 10**6, 10**6), (21, 4, 5), (19, 4, 5), (-20, -4, 5)])
def test_a_header_that_says_other_than_is_there_is_refused_before_anything_is_allocated(tmp_path, load, shape):
    archive(tmp_path / "a.npz", images=[header_of(shape), IMAGES.tobytes()])
    with pytest.raises(ValueError, match=r"a\.npz is not a readable .* and has 400"):
        load(tmp_path / "a.npz")


def test_what_a_mac_adds_to_an_archive_is_passed_over(tmp_path, load):
    archive(tmp_path / "a.npz", **{"x": [header_of(IMAGES.shape), IMAGES.tobytes()], "__MACOSX/._x": [b"?"]})
    assert len(load(tmp_path / "a.npz").train) == 16


def test_what_is_not_in_the_working_folder_is_looked_for_in_the_data_folder(tmp_path, monkeypatch, load, rng):
    (tmp_path / "data").mkdir()
    (tmp_path / "work").mkdir()
    array = rng.integers(0, 256, (20, 4, 4), dtype=np.uint8)
    np.savez(tmp_path / "data/mine.npz", images=array)
    monkeypatch.chdir(tmp_path / "work")
    assert load("mine.npz crop=2").spec.shape == (1, 2, 2)

    np.savez("mine.npz", images=array[:, :3])
    assert load("mine.npz").spec.shape == (1, 3, 4)
