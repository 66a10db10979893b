"""``images:PATH`` as folders and archives arrange it: splits, classes, and images of several sizes."""

import numpy as np
import pytest
from PIL import Image

from harness import DataFolder
from harness.builtin.datasets.images import images


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.fixture
def load(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return lambda path: images(DataFolder(tmp_path / "data"), path)


@pytest.fixture
def write(tmp_path, rng):
    """Writes files of random grey pixels, 4 wide and 5 high: ``write({"photos/train/cat": 3})`` writes three."""

    def write(counts, size=(4, 5)):
        for folder, count in counts.items():
            (tmp_path / folder).mkdir(parents=True, exist_ok=True)
            for index in range(count):
                pixels = rng.integers(0, 256, size[::-1], dtype=np.uint8)
                Image.fromarray(pixels).save(tmp_path / folder / f"{index}.png")

    return write


@pytest.fixture
def save(tmp_path):
    def save(*arrays, **named):
        np.savez(tmp_path / "mine.npz", *arrays, **named)

    return save


def splits_of(data):
    return data.train, data.valid, data.test


def sizes(data):
    return [len(split) for split in splits_of(data)]


def pixels_of(folder):
    return sorted(np.asarray(Image.open(path)).tobytes() for path in folder.rglob("*.png"))


def contents(*splits):
    return sorted(image.tobytes() for split in splits for image in split.images.numpy())


# --- splits and classes of folders ---


@pytest.mark.parametrize("valid", ["valid", "validation", "val", "Val"])
def test_folders_named_as_splits_are_the_splits(tmp_path, load, write, valid):
    write({"photos/train": 12, f"photos/{valid}": 3, "photos/test": 4})
    data = load("photos")
    assert contents(data.train) == pixels_of(tmp_path / "photos/train")
    assert contents(data.valid) == pixels_of(tmp_path / f"photos/{valid}")
    assert contents(data.test) == pixels_of(tmp_path / "photos/test")
    assert data.split_protocol == "the data's own splits: 12 train, 3 valid, 4 test"


def test_without_a_folder_for_validation_a_tenth_of_the_training_images_is_taken(tmp_path, load, write):
    write({"photos/train": 20, "photos/test": 4})
    data = load("photos")
    assert sizes(data) == [18, 2, 4]
    assert contents(data.test) == pixels_of(tmp_path / "photos/test")
    assert "valid being the last of its training images ordered by SHA-256" in data.split_protocol


def test_a_folder_for_training_alone_is_split_as_if_it_were_the_folder(load, write):
    write({"photos/train/cat": 10, "photos/train/dog": 10})
    first, second = load("photos"), load("photos/train")
    assert first.digest() == second.digest()
    assert sizes(first) == [16, 2, 2]


def test_folders_of_classes_are_labels_in_the_order_of_their_names(tmp_path, load, write):
    write({"photos/dog": 8, "photos/cat": 7, "photos/.hidden": 3, "photos/empty": 0})
    data = load("photos")
    for number, name in enumerate(["cat", "dog"]):
        found = [image.tobytes() for part in splits_of(data)
                 for image in part.images[part.labels == number].numpy()]  # fmt: skip
        assert sorted(found) == pixels_of(tmp_path / "photos" / name)
    assert data.spec.num_classes == 2
    assert data.split_protocol.endswith("; labels are folders: 0 cat, 1 dog")


def test_folders_of_classes_inside_those_of_splits_are_numbered_alike(tmp_path, load, write):
    write({"photos/train/b": 9, "photos/train/a": 6, "photos/valid/a": 1, "photos/test/b": 2})
    data = load("photos")
    assert data.test.labels.tolist() == [1, 1]
    assert data.valid.labels.tolist() == [0]
    assert data.train.labels.tolist() == [0] * 6 + [1] * 9


@pytest.mark.parametrize("folders", [["a/b", "a/c"], ["a"], [".", "a", "b"]])
def test_folders_that_do_not_hold_all_images_directly_are_no_classes(load, write, folders):
    write({f"photos/{folder}": 10 for folder in folders})
    assert load("photos").spec.num_classes is None


def test_a_class_may_be_called_train(load, write):
    write({"photos/car": 6, "photos/train": 6})
    assert load("photos").split_protocol.endswith("labels are folders: 0 car, 1 train")


@pytest.mark.parametrize(
    ("counts", "message"),
    [
        ({"train": 12, "val": 3}, "photos has images in train, val: expected train and test, perhaps valid, and no"),
        ({"test": 12}, "photos has images in test: expected train and test"),
        ({"train": 12, "test": 2, "more": 1}, "photos has images in more, test, train: expected train and test"),
        ({"train": 12, "test": 2, ".": 1}, "photos has images in no folder, test, train: expected"),
        ({"train": 12, "test": 2, "val": 1, "valid": 1}, "photos has images in test, train, val, valid: expected"),
        ({"train/a": 6, "train/b": 6, "test": 2}, "photos: test is not sorted into folders of classes as the others"),
        ({"train/a": 6, "train/b": 6, "test/c": 2}, "photos: test has the class c, of which train has no image"),
        ({"train": 9, "test": 2}, "photos holds 9 images: at least 10 are needed for three splits"),
    ],
)
def test_folders_that_cannot_be_splits_or_classes_are_named(load, write, counts, message):
    write({f"photos/{folder}": count for folder, count in counts.items()})
    with pytest.raises(ValueError, match=f"^{message}"):
        load("photos")


# --- splits and labels of archives ---

IMAGES = np.arange(24 * 4 * 5, dtype=np.uint16).reshape(24, 4, 5).astype(np.uint8)
LABELS = np.arange(24) % 3


@pytest.mark.parametrize(
    "names",
    [
        ("train_images", "train_labels", "test_images", "test_labels"),
        ("x_train", "y_train", "x_test", "y_test"),
        ("X_train", "Y_train", "X_test", "Y_test"),
        ("training_data", "training_targets", "testing_data", "testing_targets"),
        ("arr_0", "arr_1", "arr_2", "arr_3"),
    ],
)
def test_arrays_named_by_split_and_kind_are_splits_with_labels(load, save, names):
    save(**dict(zip(names, (IMAGES[:20], LABELS[:20], IMAGES[20:], LABELS[20:]), strict=True)))
    data = load("mine.npz")
    assert sizes(data) == [18, 2, 4]
    assert np.array_equal(data.test.images[:, 0], IMAGES[20:])
    assert np.array_equal(data.test.labels, LABELS[20:])
    assert contents(data.train, data.valid) == sorted(image.tobytes() for image in IMAGES[:20])


def test_arrays_for_validation_and_labels_of_one_column_are_taken(load, save):
    parts = {"train": slice(16), "val": slice(16, 20), "test": slice(20, 24)}
    arrays = {f"{split}_images": IMAGES[part] for split, part in parts.items()}
    save(**arrays, **{f"{split}_labels": LABELS[part, None].astype(np.uint8) for split, part in parts.items()})
    data = load("mine.npz")
    assert sizes(data) == [16, 4, 4]
    assert np.array_equal(data.valid.labels, LABELS[16:20])


@pytest.mark.parametrize("names", [("x", "y"), ("data", "target"), ("x_train", "y_train"), ("arr_0", "arr_1")])
def test_images_and_labels_without_a_test_split_are_split_by_content(load, save, names):
    save(images=IMAGES, labels=LABELS)
    expected = load("mine.npz").digest()
    save(**dict(zip(names, (IMAGES, LABELS), strict=True)))
    assert load("mine.npz").digest() == expected


def test_samples_as_diffusion_code_saves_them_are_read(load, save, rng):
    samples = rng.integers(0, 256, (20, 8, 8, 3), dtype=np.uint8)
    expected = sorted(image.tobytes() for image in samples.transpose(0, 3, 1, 2))
    save(samples, rng.integers(0, 1000, 20))
    assert contents(*splits_of(load("mine.npz"))) == expected
    save(samples, mu=np.zeros(2048), sigma=np.zeros((4, 4)))  # statistics of features stand beside them
    assert contents(*splits_of(load("mine.npz"))) == expected


def test_images_beside_arrays_of_other_names_are_the_images(load, save):
    save(images=IMAGES, y=np.zeros(3), mask=IMAGES)
    assert load("mine.npz").spec.num_classes is None


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"a": IMAGES, "b": IMAGES}, "holds a, b: name the array of images 'images'.*'train_images'.*'x_train'.*'y'"),
        ({"x_train": IMAGES, "x_val": IMAGES}, "holds x_train, x_val: name the array"),
        ({"images": IMAGES, "test_images": IMAGES}, "holds images, test_images: name the array"),
        ({"x_train": IMAGES, "x_test": IMAGES, "labels": LABELS}, "holds x_train, x_test, labels: name the array"),
        ({"x_train": IMAGES, "x_test": IMAGES, "y_train": LABELS}, "of train and test only one has labels: give both"),
        ({"x": IMAGES, "data": IMAGES}, "holds x, data: name the array"),
        ({"arr_0": IMAGES, "arr_1": IMAGES}, r"holds arr_0 \(24, 4, 5\), arr_1 \(24, 4, 5\): without names, expected"),
        ({f"arr_{i}": IMAGES for i in range(3)}, r"arr_2 \(24, 4, 5\): without names, expected images and labels, or"),
        ({"arr_0": IMAGES, "arr_1": IMAGES, "arr_2": LABELS, "arr_3": LABELS}, r"arr_3 \(24,\): without names"),
        ({"arr_0": IMAGES, "arr_1": LABELS[:7]}, r"'arr_1' is \(7,\) int64, expected \(24,\) integers"),
        ({"x": IMAGES, "y": LABELS / 2}, r"'y' is \(24,\) float64, expected \(24,\) integers"),
        ({"x": IMAGES, "y": LABELS - 1}, "'y' holds -1, expected classes numbered from 0"),
        (
            {"x_train": IMAGES, "y_train": LABELS, "x_test": IMAGES, "y_test": LABELS + 1},
            "test has the class 3, of which train has no image",
        ),
        ({"x_train": IMAGES, "x_test": IMAGES[:, :, :4]}, r"test images are \(1, 4, 4\), the spec says \(1, 4, 5\)"),
        ({"x_train": IMAGES, "x_test": IMAGES[:0]}, "the test split is empty"),
        ({"x_train": IMAGES, "x_test": IMAGES / 255}, "'x_test' is float64, expected uint8"),
    ],
)
def test_arrays_that_cannot_be_splits_or_labels_are_named(load, save, arrays, message):
    save(**arrays)
    with pytest.raises(ValueError, match=f"mine.npz.*{message}"):
        load("mine.npz")


# --- images of several sizes ---


@pytest.fixture
def mixed(write):
    write({"photos": 6}, size=(9, 12))
    write({"photos/more": 6}, size=(16, 8))
    return "photos"


def cropped(path):
    image = Image.open(path)
    left, top = ((length - min(image.size)) // 2 for length in image.size)
    return image.crop((left, top, left + min(image.size), top + min(image.size)))


def test_mixed_sizes_are_cut_about_the_centre_and_reduced_by_pillows_lanczos_filter(tmp_path, load, mixed):
    data = load("photos crop=square resize=6")
    expected = [cropped(path).resize((6, 6), Image.Resampling.LANCZOS) for path in (tmp_path / mixed).rglob("*.png")]
    assert contents(*splits_of(data)) == sorted(np.asarray(image).tobytes() for image in expected)
    assert data.name == "images:photos crop=square resize=6"
    assert data.split_protocol.endswith(
        "; crop=square about the centre; resize=6 by Pillow's Lanczos filter, to 256 levels"
    )


def test_colours_are_reduced_as_pillow_reduces_them(tmp_path, load, rng):
    for index in range(12):
        Image.fromarray(rng.integers(0, 256, (10, 10, 3), dtype=np.uint8)).save(tmp_path / f"{index}.png")
    expected = [Image.open(path).resize((4, 4), Image.Resampling.LANCZOS) for path in tmp_path.glob("*.png")]
    expected = sorted(np.asarray(image).transpose(2, 0, 1).tobytes() for image in expected)
    data = load(f"{tmp_path} resize=4")
    assert contents(*splits_of(data)) == expected


def test_crop_alone_keeps_pixels_and_levels(tmp_path, load, rng):
    (tmp_path / "bits").mkdir()
    bits = rng.integers(0, 2, (12, 9, 8)).astype(bool)
    for index, image in enumerate(bits):
        Image.fromarray(image).save(tmp_path / "bits" / f"{index}.png")
    data = load("bits crop=5")
    assert data.spec.levels == 2
    expected = sorted(image.tobytes() for image in bits[:, 2:7, 1:6].astype(np.uint8))
    assert contents(*splits_of(data)) == expected


@pytest.mark.parametrize("kind", ["folder", "archive"])
def test_reduced_images_of_few_levels_have_256(tmp_path, load, save, rng, kind):
    (tmp_path / "folder").mkdir()
    bits = rng.integers(0, 2, (12, 8, 8), dtype=np.uint8)
    for index, image in enumerate(bits.astype(bool)):
        Image.fromarray(image).save(tmp_path / "folder" / f"{index}.png")
    save(images=bits, levels=2)
    data = load("folder resize=4" if kind == "folder" else "mine.npz resize=4")
    expected = [Image.fromarray(255 * image).resize((4, 4), Image.Resampling.LANCZOS) for image in bits]
    assert data.spec.levels == 256
    assert contents(*splits_of(data)) == sorted(np.asarray(image).tobytes() for image in expected)


def test_images_that_have_the_size_asked_for_stay_as_they_are(load, write):
    write({"photos": 12}, size=(6, 6))
    assert load("photos resize=6").digest() == load("photos crop=6").digest() == load("photos").digest()


def test_a_folder_that_is_called_so_is_that_folder(load, write):
    write({"photos crop=2": 12})
    assert load("photos crop=2").spec.shape == (1, 5, 4)


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ("", r"more/0\.png is 16x8, but 0\.png is 9x12 \(width x height\): write 'images:photos crop=square resize=8'"),
        (" crop=square", r"more/0\.png is 8x8, but 0\.png is 9x9 .*: write 'images:photos crop=square resize=8'"),
        (" resize=4", r"photos/0\.png is 9x12 \(width x height\), not square: write crop=square resize=4"),
        (" crop=10", r"photos/0\.png is 9x12 .*, too small for crop=10: write crop=square, or at most crop=9"),
        (" crop=square resize=9", r"more/0\.png is 16x8 .*, which resize=9 would enlarge: write at most resize=8"),
        (" crop=8 resize=9", r"photos/0\.png is 9x12 .*, which resize=9 would enlarge: write at most resize=8"),
        (" resize=4 crop=square", "does not exist: give a folder .*, then crop=square or crop=N, then resize=N"),
        (" resize=0", "photos resize=0 does not exist: give .*, then crop=square or crop=N, then resize=N"),
        (" resize=4.5", "does not exist: give .*, then crop=square or crop=N, then resize=N"),
        (" size=4", "does not exist: give .*, then crop=square or crop=N, then resize=N"),
    ],
)
def test_what_cannot_be_cut_or_reduced_is_named_with_what_to_write(load, mixed, asked, message):
    with pytest.raises(ValueError, match=message):
        load(f"{mixed}{asked}")


# --- orientation ---


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp"])
def test_a_tag_of_orientation_is_not_applied_and_it_is_said(tmp_path, load, write, suffix):
    write({"photos": 12})
    tag = Image.Exif()
    tag[274] = 6
    Image.new("L", (4, 5)).save(tmp_path / f"photos/turned{suffix}", exif=tag)
    data = load("photos")
    assert data.spec.shape[1:] == (5, 4)
    assert "; pixels as stored (files with a tag that turns or mirrors them: 1)" in data.split_protocol


@pytest.mark.parametrize("compression", [None, "tiff_lzw"])
def test_a_tiff_with_a_tag_of_orientation_is_refused(tmp_path, load, write, compression):
    write({"photos": 12})
    tag = Image.Exif()
    tag[274] = 6
    Image.new("L", (4, 5)).save(tmp_path / "photos/turned.tif", exif=tag, compression=compression)
    with pytest.raises(
        ValueError, match=r"turned\.tif has a tag of orientation, which decoders of TIFF do not agree on"
    ):
        load("photos")


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
def test_a_damaged_tag_does_not_matter(tmp_path, load, write):
    write({"photos": 12})
    Image.new("L", (4, 5)).save(tmp_path / "photos/damaged.jpg", exif=b"Exif\0\0MM\0*\0\0\0\x08\0\x09garbage")
    assert sum(sizes(load("photos"))) == 13
