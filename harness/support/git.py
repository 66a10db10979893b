"""What git knows of a repository: commits, files as they were, and folders with the code of a commit."""

import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple


class Commit(NamedTuple):
    """A commit by its digest, with the first line of its message."""

    digest: str
    subject: str = ""

    def __str__(self) -> str:
        return f"{self.digest[:10]}  {self.subject}"


class Repository:
    """The repository that a file is in; what git refuses is a ValueError."""

    def __init__(self, file: Path) -> None:
        self.root = file.resolve().parent
        self.root = Path(self._git("rev-parse", "--show-toplevel").decode().rstrip("\n")).resolve()

    def place(self, file: Path) -> str:
        """Returns where a file is in the repository, as git writes it."""
        return file.resolve().relative_to(self.root).as_posix()

    def commit(self, revision: str) -> Commit:
        """Returns what a revision, such as ``main`` or ``HEAD~2``, stands for."""
        with suppress(ValueError, IndexError):  # there is none in what a revision such as ^main excludes
            found = self._git("rev-parse", "--verify", "--end-of-options", f"{revision}^{{commit}}").decode().split()
            return self.log("-1", found[-1], "--")[0]
        raise ValueError(f"{self.root}: git knows no revision {revision!r}")

    def log(self, *arguments: str) -> list[Commit]:
        """Returns commits as ``git log`` lists them, oldest first."""
        listed = self._git("log", "--reverse", "--no-show-signature", "--format=%H %s", *arguments)
        lines = listed.decode(errors="replace").split("\n")  # a subject may hold what else ends a line
        return [Commit(*line.split(" ", 1)) for line in lines if line]

    def between(self, good: Commit, bad: Commit) -> list[Commit]:
        """Returns the commits after ``good`` up to ``bad`` along first parents; none if ``good`` is not on that way."""
        found = self.log("--first-parent", f"{good.digest}..{bad.digest}")
        return found if found and self.commit(f"{found[0].digest}^") == good else []

    def read(self, commit: Commit, file: Path) -> bytes:
        """Returns a file as it was in a commit."""
        return self._git("cat-file", "blob", f"{commit.digest}:{self.place(file)}")

    @contextmanager
    def checked_out(self, commit: Commit) -> Iterator[Path]:
        """Yields a folder with the files of a commit, which is gone afterwards, whatever happens."""
        with tempfile.TemporaryDirectory(prefix="harness-", ignore_cleanup_errors=True) as temporary:
            folder = Path(temporary, "tree").resolve()
            try:
                self._git("worktree", "add", "--quiet", "--detach", str(folder), commit.digest)
                yield folder
            finally:
                with suppress(ValueError):  # it was interrupted before it was there
                    self._git("worktree", "remove", "--force", str(folder))

    def _git(self, *arguments: str) -> bytes:
        try:
            done = subprocess.run(["git", "-C", self.root, *arguments], capture_output=True, check=False)
        except FileNotFoundError as error:
            raise ValueError("git is not installed, which knows what was there before") from error
        if done.returncode:
            raise ValueError(f"{self.root}: git: {' '.join(done.stderr.decode(errors='replace').split())}")
        return done.stdout
