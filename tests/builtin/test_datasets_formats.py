"""The file formats of the datasets, on tiny files written by other means than the parsers'."""

import gzip
import hashlib
import io
import os
import struct
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.io import savemat

from harness import DataCorrupt, DataFolder, DataUnavailable, RemoteFile
from harness.builtin.datasets.cifar import CIFAR10, CifarFiles, cifar_dataset, read_members
from harness.builtin.datasets.mnist import (
    FILES,
    dynamic_dataset,
    idx_dataset,
    parse_amat,
    parse_idx,
    sorted_lines_sha256,
)
from harness.builtin.datasets.seeded import parse_frey, split_by_content


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def sha256(content):
    return hashlib.sha256(content).hexdigest()


def idx_bytes(array):
    return bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


def amat_bytes(rows, newline="\n"):
    return "".join(" ".join(map(str, row)) + newline for row in rows.tolist()).encode()


@pytest.mark.parametrize("shape", [(5,), (3, 4, 2)])
def test_idx_gives_back_the_array_that_was_written(rng, shape):
    array = rng.integers(0, 256, shape, dtype=np.uint8)
    assert np.array_equal(parse_idx(idx_bytes(array), num_axes=len(shape), name="f"), array)


@pytest.mark.parametrize("damage", [lambda c: c[:-1], lambda c: c + b"x"])
def test_an_idx_file_of_another_length_than_its_header_says_is_an_error(damage):
    content = idx_bytes(np.zeros((3, 2, 2), np.uint8))
    with pytest.raises(ValueError, match=r"file holds 1[13] bytes of data, its header says 12"):
        parse_idx(damage(content), num_axes=3, name="file")


@pytest.mark.parametrize("content", [b"", b"<html>", idx_bytes(np.zeros(99, np.uint8)), b"\0\0\x0d\x03" + b"\0" * 12])
def test_anything_but_an_idx_file_of_images_is_an_error(content):
    with pytest.raises(ValueError, match="file is not an IDX file of unsigned bytes with 3 axes"):
        parse_idx(content, num_axes=3, name="file")


@pytest.mark.parametrize("ending", [b"\n", b""])
def test_amat_gives_back_the_rows_that_were_written(rng, ending):
    rows = rng.integers(0, 2, (7, 5), dtype=np.uint8)
    found = parse_amat(amat_bytes(rows).removesuffix(b"\n") + ending, num_values=5, name="f")
    assert np.array_equal(found, rows)


@pytest.mark.parametrize(
    ("content", "line"),
    [
        (b"0 1 0\n0 2 0\n", 2),
        (b"0 1 0\n0 1 /\n", 2),
        (b"0 1 0\n010 0\n", 2),
        (b"0 1 0\n0 1\n", 2),
        (b"0 1 0 1\n", 1),
        (b"0 1 0\r\n", 1),
        (b"0 1\n0 1 0\n", 1),
        (b"<html>", 1),
    ],
)
def test_the_first_bad_line_of_an_amat_file_is_named(content, line):
    with pytest.raises(ValueError, match=f"file: line {line} is not 3 values of 0 or 1"):
        parse_amat(content, num_values=3, name="file")


def test_the_digest_of_sorted_lines_ignores_their_order_and_nothing_else(rng):
    rows = rng.integers(0, 2, (20, 6), dtype=np.uint8)
    digest = sorted_lines_sha256(amat_bytes(rows))
    assert sorted_lines_sha256(amat_bytes(rng.permutation(rows))) == digest
    assert sorted_lines_sha256(amat_bytes(rows).removesuffix(b"\n")) == digest
    assert sorted_lines_sha256(amat_bytes(1 - rows)) != digest
    assert sorted_lines_sha256(amat_bytes(rows[:-1])) != digest
    assert digest == sha256(b"".join(sorted(amat_bytes(rows).splitlines(keepends=True))))


@pytest.mark.parametrize("split", ["valid", "test"])
def test_a_static_file_with_shuffled_rows_is_accepted_and_one_with_a_changed_pixel_is_not(tmp_path, rng, split):
    root = os.environ.get("HARNESS_DATA")
    if not root or not (Path(root) / "binarized-mnist").is_dir():
        pytest.skip("needs the folder binarized-mnist in HARNESS_DATA")
    file = FILES[split]
    lines = DataFolder(Path(root), offline=True).read(file).splitlines(keepends=True)
    shuffled = b"".join(lines[index] for index in rng.permutation(len(lines)))
    folder = DataFolder(tmp_path, offline=True, fallback=tmp_path)
    path = tmp_path / file.path
    path.parent.mkdir()
    path.write_bytes(shuffled)
    assert folder.read(file) == shuffled
    path.write_bytes((b"1" if shuffled[:1] == b"0" else b"0") + shuffled[1:])
    with pytest.raises(DataCorrupt, match="over its sorted lines"):
        folder.read(file)


def idx_files(root, rng, *, train=40, test=10):
    """Writes a tiny set in MNIST's layout; returns its description and its arrays."""
    arrays = {
        "train-images-idx3-ubyte": rng.integers(0, 256, (train, 3, 2), dtype=np.uint8),
        "train-labels-idx1-ubyte": rng.integers(0, 10, train, dtype=np.uint8),
        "t10k-images-idx3-ubyte": rng.integers(0, 256, (test, 3, 2), dtype=np.uint8),
        "t10k-labels-idx1-ubyte": rng.integers(0, 10, test, dtype=np.uint8),
    }
    (root / "tiny").mkdir()
    for name, array in arrays.items():
        (root / "tiny" / f"{name}.gz").write_bytes(gzip.compress(idx_bytes(array)))
    files = tuple(RemoteFile(f"tiny/{name}", (), sha256(idx_bytes(array))) for name, array in arrays.items())
    return files, list(arrays.values())


def test_the_last_training_images_are_the_validation_split(tmp_path, rng):
    files, (images, labels, test, test_labels) = idx_files(tmp_path, rng)
    data = idx_dataset("tiny", DataFolder(tmp_path), files, num_valid=10)
    for split, pixels, names in (
        (data.train, images[:30], labels[:30]),
        (data.valid, images[30:], labels[30:]),
        (data.test, test, test_labels),
    ):
        assert np.array_equal(split.images[:, 0].numpy(), pixels)
        assert np.array_equal(split.labels.numpy(), names)


def test_more_images_than_labels_are_an_error_that_names_the_file(tmp_path, rng):
    files, _ = idx_files(tmp_path, rng)
    short = idx_bytes(np.zeros(39, np.uint8))
    (tmp_path / "tiny/train-labels-idx1-ubyte.gz").write_bytes(gzip.compress(short))
    images, _, test, test_labels = files
    wrong = (images, RemoteFile("tiny/train-labels-idx1-ubyte", (), sha256(short)), test, test_labels)
    with pytest.raises(ValueError, match="tiny/train-labels-idx1-ubyte holds 39 labels for 40 images"):
        idx_dataset("tiny", DataFolder(tmp_path), wrong)


def test_the_mean_of_many_draws_is_the_intensity(tmp_path, rng):
    files, _ = idx_files(tmp_path, rng)
    test = dynamic_dataset("tiny", idx_dataset("grey", DataFolder(tmp_path), files, num_valid=10)).test
    intensity = test.images.double() / 255
    num_draws = 2000
    mean = torch.stack([test.draw(index).images.double() for index in range(num_draws)]).mean(0)
    deviation = (intensity * (1 - intensity) / num_draws).sqrt()
    assert bool(((mean - intensity).abs() <= 5 * deviation).all())


def cifar_batches(rng, rows):
    names = list(CIFAR10.members)
    return {name: rng.integers(0, 10, (rows, 3073), dtype=np.uint8).tobytes() for name in names}


def cifar_archive(batches, prefix="cifar-10-batches-bin/"):
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as tar:
        for name, data in {"batches.meta.txt": b"airplane\n", **batches}.items():
            member = tarfile.TarInfo(prefix + name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return packed.getvalue()


def cifar_files(batches, rows, archive=b""):
    return CifarFiles({name: sha256(data) for name, data in batches.items()}, sha256(archive), (), rows, num_valid=3)


def cifar_folder(root, batches, *, unpacked):
    if unpacked:
        target = root / "cifar10/cifar-10-batches-bin"
        target.mkdir(parents=True)
        for name, data in batches.items():
            (target / name).write_bytes(data)
    else:
        (root / "cifar10").mkdir()
        (root / "cifar10/cifar-10-binary.tar.gz").write_bytes(cifar_archive(batches))
    return DataFolder(root, offline=True, fallback=root)


@pytest.mark.parametrize("unpacked", [False, True])
def test_cifar_rows_are_a_label_and_three_planes_row_by_row(tmp_path, rng, unpacked):
    batches = cifar_batches(rng, rows=4)
    data = cifar_dataset("tiny", cifar_folder(tmp_path, batches, unpacked=unpacked), cifar_files(batches, 4))
    *train, test = (np.frombuffer(content, np.uint8).reshape(4, 3073) for content in batches.values())
    rows = np.concatenate(train)
    assert (len(data.train), len(data.valid), len(data.test)) == (17, 3, 4)
    assert data.valid.labels.tolist() == rows[17:, 0].tolist()
    for channel, row, column in [(0, 0, 0), (0, 0, 1), (0, 1, 0), (1, 0, 0), (2, 31, 31)]:
        expected = test[:, 1 + 1024 * channel + 32 * row + column]
        assert np.array_equal(data.test.images[:, channel, row, column].numpy(), expected)


@pytest.mark.parametrize("unpacked", [False, True])
def test_a_changed_cifar_batch_is_refused_packed_or_unpacked(tmp_path, rng, unpacked):
    batches = cifar_batches(rng, rows=2)
    files = cifar_files(batches, 2)
    batches["data_batch_3.bin"] = bytes(len(batches["data_batch_3.bin"]))
    with pytest.raises(DataCorrupt, match="is corrupt or another file"):
        cifar_dataset("tiny", cifar_folder(tmp_path, batches, unpacked=unpacked), files)


def test_cifar_without_its_files_names_the_archive_and_its_address(tmp_path):
    folder = DataFolder(tmp_path, offline=True, fallback=tmp_path)
    with pytest.raises(DataUnavailable, match=r"put cifar10/cifar-10-binary.tar.gz .* https://www.cs.toronto.edu/"):
        cifar_dataset("cifar10", folder, CIFAR10)


def test_an_archive_member_outside_any_folder_is_read_and_nothing_is_written(tmp_path, rng, monkeypatch):
    monkeypatch.chdir(tmp_path)
    batches = cifar_batches(rng, rows=1)
    found = read_members(cifar_archive(batches, prefix="../../"), tuple(batches), num_bytes=3073)
    assert found == batches
    assert list(tmp_path.iterdir()) == []


def test_an_archive_member_of_another_size_is_refused(rng):
    batches = cifar_batches(rng, rows=2)
    with pytest.raises(ValueError, match="has 6146 bytes, expected 3073"):
        read_members(cifar_archive(batches), tuple(batches), num_bytes=3073)


def test_links_in_an_archive_do_not_count_as_its_members():
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as tar:
        link = tarfile.TarInfo("test_batch.bin")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(link)
    with pytest.raises(ValueError, match=r"lacks test_batch\.bin"):
        read_members(packed.getvalue(), ("test_batch.bin",), num_bytes=3073)


@pytest.mark.parametrize("damage", [lambda packed: packed[: len(packed) // 2], lambda packed: b"<html>"])
def test_a_damaged_archive_is_an_error(rng, damage):
    batches = cifar_batches(rng, rows=1)
    with pytest.raises(ValueError, match="not a complete gzipped tar archive"):
        read_members(damage(cifar_archive(batches)), tuple(batches), num_bytes=3073)


def mat_bytes(**variables):
    file = io.BytesIO()
    savemat(file, variables)
    return file.getvalue()


def test_frey_frames_are_columns_in_row_major_order(rng):
    frames = rng.integers(0, 256, (6, 28, 20), dtype=np.uint8)
    assert np.array_equal(parse_frey(mat_bytes(ff=frames.reshape(6, 560).T), name="f")[:, 0], frames)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"<html>", "is not a readable MATLAB file"),
        (mat_bytes(other=np.zeros((560, 3), np.uint8)), "holds no variable 'ff' of 560 rows"),
        (mat_bytes(ff=np.zeros((3, 560), np.uint8)), "holds no variable 'ff' of 560 rows"),
        (mat_bytes(ff=np.zeros((560, 3))), "'ff' is float64, expected uint8"),
    ],
)
def test_anything_but_a_file_of_frey_faces_is_an_error_that_names_it(content, message):
    with pytest.raises(ValueError, match=f"file.*{message}"):
        parse_frey(content, name="file")


def test_the_split_by_content_ignores_the_order_of_the_images(rng):
    images = rng.integers(0, 256, (50, 1, 2, 3), dtype=np.uint8)
    labels = np.arange(50)
    order = rng.permutation(50)
    for one, other in zip(
        split_by_content(images, labels, num_valid=5, num_test=7, seed=3),
        split_by_content(images[order], labels[order], num_valid=5, num_test=7, seed=3),
        strict=True,
    ):
        assert torch.equal(one.images, other.images)
        assert torch.equal(one.labels, other.labels)


def test_the_split_by_content_keeps_every_image_with_its_label_once(rng):
    images = rng.integers(0, 256, (50, 1, 2, 3), dtype=np.uint8)
    parts = split_by_content(images, np.arange(50), num_valid=5, num_test=7, seed=3)
    assert [len(part) for part in parts] == [38, 5, 7]
    assert sorted(torch.cat([part.labels for part in parts]).tolist()) == list(range(50))
    for part in parts:
        assert np.array_equal(part.images.numpy(), images[part.labels.numpy()])


def test_another_seed_gives_another_split(rng):
    images = rng.integers(0, 256, (50, 1, 2, 3), dtype=np.uint8)
    first, second = (split_by_content(images, num_valid=5, num_test=7, seed=seed)[2] for seed in (0, 1))
    assert set(first.image_digests().tolist()) != set(second.image_digests().tolist())


@pytest.mark.parametrize("seed", range(20))
def test_equal_images_are_never_apart(rng, seed):
    images = rng.integers(0, 256, (12, 1, 2, 3), dtype=np.uint8)[rng.integers(0, 12, 60)]
    parts = split_by_content(images, num_valid=8, num_test=8, seed=seed)
    contents = [{image.tobytes() for image in part.images.numpy()} for part in parts]
    assert contents[0].isdisjoint(contents[1] | contents[2])
    assert contents[1].isdisjoint(contents[2])
    assert sum(len(part) for part in parts) == 60


def test_too_few_different_images_cannot_be_split():
    images = np.zeros((50, 1, 2, 3), np.uint8)
    with pytest.raises(ValueError, match="50 images, 1 of them different, cannot be split"):
        split_by_content(images, num_valid=5, num_test=7, seed=0)
