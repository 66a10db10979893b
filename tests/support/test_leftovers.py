"""What a process that was killed while it wrote a file leaves, and who removes it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading

import pytest

from harness.support.files import alone_in, remove_leftovers, write_atomically

KILLED = """
import os, signal, sys
from pathlib import Path
from harness.support.files import write_atomically
os.fsync = lambda file: os.kill(os.getpid(), signal.SIGKILL)
write_atomically(Path(sys.argv[1]), b"half")
"""


@pytest.fixture
def left(tmp_path):
    """What a writer of ``a.json`` left that was killed."""
    done = subprocess.run([sys.executable, "-c", KILLED, tmp_path / "a.json"], check=False)
    assert done.returncode == -signal.SIGKILL
    [part] = tmp_path.iterdir()
    return part


def test_the_next_writer_of_a_file_removes_what_a_killed_one_left(left):
    write_atomically(left.parent / "b.json", b"other")
    assert left.exists()
    write_atomically(left.parent / "a.json", b"whole")
    assert sorted(file.name for file in left.parent.iterdir()) == ["a.json", "b.json"]


def test_what_is_left_anywhere_below_a_folder_goes_when_all_is_done(left):
    remove_leftovers(left.parent.parent, deep=True)
    assert not left.exists()


def test_a_file_that_is_being_written_is_no_leftover(tmp_path, monkeypatch):
    writing, may_end = threading.Event(), threading.Event()

    def wait(file):
        writing.set()
        assert may_end.wait(30)

    monkeypatch.setattr(os, "fsync", wait)
    writer = threading.Thread(target=write_atomically, args=(tmp_path / "a.json", b"slow"))
    writer.start()
    assert writing.wait(30)
    remove_leftovers(tmp_path)
    may_end.set()
    writer.join()
    assert (tmp_path / "a.json").read_bytes() == b"slow"


def test_two_writers_of_one_file_at_once_both_write_it_whole(tmp_path):
    texts = [bytes([letter]) * 100_000 for letter in b"abcd"]
    writers = [
        threading.Thread(target=lambda text=text: [write_atomically(tmp_path / "a", text) for _ in range(20)])
        for text in texts
    ]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert (tmp_path / "a").read_bytes() in texts
    assert [file.name for file in tmp_path.iterdir()] == ["a"]


def test_who_finds_another_at_work_in_a_folder_says_so_waits_and_gives_up(tmp_path, caplog):
    wrong = pytest.raises(ValueError, match="another process has written there for")
    with alone_in(tmp_path / "a"), wrong, alone_in(tmp_path / "a", seconds=0.3):
        pytest.fail("both are in")
    assert caplog.messages == [f"{tmp_path / 'a'}: another process writes there; waiting for it"]
    with alone_in(tmp_path / "a"):
        pass
