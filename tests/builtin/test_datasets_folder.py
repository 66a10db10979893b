"""The data folder: where it is, what it accepts, and what downloads leave behind."""

import gzip
import hashlib
import http.server
import threading
import time
from pathlib import Path

import pytest

from harness import CanonicalDigest, DataCorrupt, DataFolder, DataUnavailable, RemoteFile
from harness.support.files import write_atomically

CONTENT = b"the content of a file\n" * 1000
SHA256 = hashlib.sha256(CONTENT).hexdigest()


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.server.requests.append(self.path)
        if self.path.startswith("/missing"):
            self.send_error(404)
            return
        body = gzip.compress(CONTENT) if self.path.endswith(".gz") else CONTENT
        if self.path.startswith("/wrong"):
            body = b"a login page"
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.path.startswith("/truncated"):
            body = body[: len(body) // 2]
        if self.path.startswith("/stalled"):
            self.wfile.write(body[:100])
            self.wfile.flush()
            self.server.released.wait(10)
            return
        self.wfile.write(body)

    def log_message(self, *arguments):
        pass


@pytest.fixture
def server():
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.requests, server.released = [], threading.Event()
    server.address = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=lambda: server.serve_forever(poll_interval=0.02))
    thread.start()
    yield server
    server.released.set()
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def folder(tmp_path):
    return DataFolder(tmp_path / "data", fallback=tmp_path / "cache")


def remote(*urls, sha256=SHA256):
    return RemoteFile("set/file", tuple(urls), sha256)


def files_under(root: Path):
    return sorted(path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file())


def test_an_argument_goes_before_the_environment_and_that_before_the_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("HARNESS_DATA", str(tmp_path / "environment"))
    assert DataFolder.resolve(tmp_path / "argument").path == tmp_path / "argument"
    assert DataFolder.resolve().path == tmp_path / "environment"
    monkeypatch.setenv("HARNESS_DATA", "")
    assert DataFolder.resolve().path == DataFolder.resolve().fallback
    assert DataFolder.resolve().path.parts[-2:] == ("genharness", "data")


def test_a_data_folder_that_is_a_file_is_an_error_that_names_it(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(ValueError, match=r"data folder .*file is not a folder: name a folder with --data"):
        DataFolder(tmp_path / "file")


@pytest.mark.parametrize("packed", [False, True])
def test_a_local_file_is_read_gzipped_or_not(folder, packed):
    name = "set/file.gz" if packed else "set/file"
    write_atomically(folder.path / name, gzip.compress(CONTENT) if packed else CONTENT)
    assert folder.read(remote()) == CONTENT


def test_the_data_folder_goes_before_the_cache_folder(folder):
    for root in (folder.path, folder.fallback):
        write_atomically(root / "set/file", CONTENT)
    assert folder.find("set/other", "set/file") == folder.path / "set/file"


def test_a_missing_file_is_not_found(folder):
    assert folder.find("set/file") is None


def test_a_download_with_the_right_digest_is_kept_as_it_was_served(folder, server):
    assert folder.read(remote(f"{server.address}/file.gz")) == CONTENT
    assert gzip.decompress((folder.path / "set/file.gz").read_bytes()) == CONTENT
    assert files_under(folder.path) == ["set/file.gz"]


def test_a_file_that_is_there_is_not_downloaded_again(folder, server):
    for _ in range(2):
        assert folder.read(remote(f"{server.address}/file")) == CONTENT
    assert server.requests == ["/file"]


def test_a_file_address_is_downloaded_too(folder, tmp_path):
    source = tmp_path / "source"
    source.write_bytes(CONTENT)
    assert folder.read(remote(source.as_uri())) == CONTENT


def test_progress_ends_with_all_bytes_of_the_announced_total(tmp_path, server):
    seen = []
    folder = DataFolder(tmp_path / "data", progress=lambda done, total: seen.append((done, total)))
    folder.read(remote(f"{server.address}/file"))
    assert seen[-1] == (len(CONTENT), len(CONTENT))
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)


@pytest.mark.parametrize("kind", ["wrong", "wrong.gz", "truncated", "truncated.gz", "missing"])
def test_a_failed_download_leaves_nothing_behind_and_says_what_to_do(folder, server, kind):
    url = f"{server.address}/{kind}"
    with pytest.raises(DataUnavailable) as caught:
        folder.read(remote(url))
    assert files_under(folder.path.parent) == []
    message = str(caught.value)
    assert "\n" not in message
    assert f"put set/file (or set/file.gz) into {folder.path}, from {url}" in message


def test_a_download_with_another_digest_reports_both_digests(folder, server):
    found = hashlib.sha256(b"a login page").hexdigest()
    with pytest.raises(DataUnavailable, match=rf"is {found}, expected {SHA256}"):
        folder.read(remote(f"{server.address}/wrong"))


def test_a_broken_off_download_says_how_far_it_came(folder, server):
    with pytest.raises(DataUnavailable, match=f"after {len(CONTENT) // 2} of {len(CONTENT)} bytes"):
        folder.read(remote(f"{server.address}/truncated"))


def test_the_next_mirror_is_tried_after_any_failure(folder, server):
    urls = [f"{server.address}/{name}" for name in ("missing", "wrong", "truncated", "file")]
    assert folder.read(remote(*urls)) == CONTENT
    assert server.requests == ["/missing", "/wrong", "/truncated", "/file"]


def test_a_silent_server_is_given_up_after_the_timeout(tmp_path, server):
    folder = DataFolder(tmp_path / "data", fallback=tmp_path / "cache", timeout_seconds=0.2)
    start = time.perf_counter()
    with pytest.raises(DataUnavailable, match="timed out"):
        folder.read(remote(f"{server.address}/stalled"))
    assert time.perf_counter() - start < 5
    assert files_under(tmp_path) == []


def test_an_interrupted_download_leaves_nothing_behind(tmp_path, server):
    def interrupt(done, total):
        raise KeyboardInterrupt

    folder = DataFolder(tmp_path / "data", progress=interrupt, fallback=tmp_path / "cache")
    with pytest.raises(KeyboardInterrupt):
        folder.read(remote(f"{server.address}/file"))
    assert files_under(tmp_path) == []


def test_a_write_that_fails_leaves_neither_the_file_nor_a_part_of_it(tmp_path, monkeypatch):
    def fail(self, target):
        raise OSError("no space left on device")

    monkeypatch.setattr(Path, "replace", fail)
    with pytest.raises(OSError, match="no space"):
        write_atomically(tmp_path / "set/file", CONTENT)
    assert files_under(tmp_path) == []


def test_an_unwritable_data_folder_sends_downloads_to_the_cache(folder, server):
    # A file where the subfolder should be is as unwritable as a read-only disk, even for root.
    write_atomically(folder.path / "set", b"")
    assert folder.read(remote(f"{server.address}/file")) == CONTENT
    assert folder.find("set/file") == folder.fallback / "set/file"


def test_two_unwritable_folders_are_an_error_that_names_both(folder, server):
    for root in (folder.path, folder.fallback):
        write_atomically(root / "set", b"")
    with pytest.raises(DataUnavailable, match=rf"neither {folder.path} nor {folder.fallback} can be written to"):
        folder.read(remote(f"{server.address}/file"))


def test_offline_downloads_nothing_and_says_which_file_to_put_where(tmp_path, server):
    folder = DataFolder(tmp_path / "data", offline=True, fallback=tmp_path / "cache")
    url = f"{server.address}/file.gz"
    with pytest.raises(DataUnavailable) as caught:
        folder.read(remote(url))
    assert server.requests == []
    assert str(caught.value) == (
        f"set/file is not in {folder.path}; working offline: "
        f"put set/file (or set/file.gz) into {folder.path}, from {url}"
    )


def test_an_unavailable_file_is_both_a_value_error_and_a_missing_file(folder):
    for kind in (ValueError, FileNotFoundError):
        with pytest.raises(kind):
            folder.read(remote())


def test_a_corrupt_local_file_is_neither_used_nor_replaced(folder, server):
    path = folder.path / "set/file"
    write_atomically(path, CONTENT[:-1])
    found = hashlib.sha256(CONTENT[:-1]).hexdigest()
    with pytest.raises(DataCorrupt, match=rf"{path} .* is {found}, expected {SHA256}: delete it, .* or replace it"):
        folder.read(remote(f"{server.address}/file"))
    assert server.requests == []
    assert path.read_bytes() == CONTENT[:-1]


@pytest.mark.parametrize("damage", [lambda packed: packed[:-20], lambda packed: b"no gzip", lambda packed: b""])
def test_a_damaged_gzip_file_is_an_error_that_names_it(folder, damage):
    path = folder.path / "set/file.gz"
    write_atomically(path, damage(gzip.compress(CONTENT)))
    with pytest.raises(DataCorrupt, match=f"{path} "):
        folder.read(remote())


def test_a_canonical_digest_accepts_what_it_cannot_tell_apart_and_nothing_else(folder):
    def compute(content):
        return hashlib.sha256(bytes(sorted(content))).hexdigest()

    file = RemoteFile("letters", (), canonical=CanonicalDigest("its sorted bytes", compute, compute(b"abc")))
    write_atomically(folder.path / "letters", b"cab")
    assert folder.read(file) == b"cab"
    write_atomically(folder.path / "letters", b"caa")
    with pytest.raises(DataCorrupt, match=f"expected {compute(b'abc')} over its sorted bytes"):
        folder.read(file)


def test_a_file_without_any_digest_is_refused():
    with pytest.raises(ValueError, match="needs a digest"):
        RemoteFile("file", ())
