"""What no file, name or server may do: run code, leave the folder, slip in other content, move the cursor.

Records, archives, suites, data and checkpoints may come from anyone. Plugins are code, and are trusted as code is.
"""

from __future__ import annotations

import ast
import contextlib
import hashlib
import http.server
import io
import threading
from pathlib import Path

import pytest
from PIL import Image
from typer.testing import CliRunner

from harness import DataFolder, DataUnavailable, RemoteFile
from harness.builtin.datasets.images import read_images
from harness.cli import app
from harness.interface.data_folder import DownloadFailed, download
from harness.interface.entries import DatasetEntry, EntryError, MetricEntry, ModelEntry
from harness.interface.spec import RunSpec
from harness.records.record import Failure, RunRecord, ScoreRecord, identity_of
from harness.records.run_folder import RunFolder
from harness.records.store import Artifacts
from harness.suites.suite import Suite, SuiteError
from harness.support.names import digest_of, is_plain_name, printable, slug

ROOT = Path(__file__).parents[1]
SOURCES = sorted([*(ROOT / "harness").rglob("*.py"), *(ROOT / "plugins").glob("*/harness_*/**/*.py")])

# Jobs go to a child process through multiprocessing, which pickles them: bytes between two processes of one program,
# over a pipe that only they hold, and not a file that anybody could put there. It is no part of this list.
UNPICKLING_MODULES = {
    "pickle", "_pickle", "cPickle", "dill", "cloudpickle", "marshal", "shelve", "joblib", "yaml", "jsonpickle",
}  # fmt: skip
CALLS = {"eval", "exec", "compile", "__import__", "execfile"}
LOADERS = {"torch.load", "torch.hub.load", "torch.jit.load", "np.load", "numpy.load", "os.system", "os.popen"}
ALLOWED = {
    ("harness/builtin/datasets/images.py", "np.load(file, allow_pickle=False)"): "numpy refuses objects",
    (
        "harness/builtin/features/inception.py",
        "torch.load(io.BytesIO(content), map_location='cpu', weights_only=True)",
    ): ("the official file is a .pth; its SHA-256 is verified first, and the unpickler knows tensors alone"),
    **{
        (
            f"plugins/metrics/harness_metrics/networks/{name}.py",
            "torch.load(io.BytesIO(content), map_location='cpu', weights_only=True)",
        ): "the published file is a .pth; its SHA-256 is verified first, and the unpickler knows tensors alone"
        for name in ("dinov2", "efficientnet_lite")
    },
}


def dangers_in(tree):
    """What could run code that a file brings: as source text, without line breaks."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else [node.module or ""]
            if any(name.partition(".")[0] in UNPICKLING_MODULES for name in names):
                yield ast.unparse(node)
        elif isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            forbidden = called in CALLS | LOADERS or called.rpartition(".")[2] in ("read_pickle", "extractall")
            words = [word for word in node.keywords if word.arg in ("allow_pickle", "shell")]
            if forbidden or any(ast.unparse(word.value) != "False" for word in words):
                yield ast.unparse(node)


def test_nothing_is_unpickled_or_evaluated_but_what_is_listed_with_its_reason():
    found = {
        (path.relative_to(ROOT).as_posix(), text)
        for path in SOURCES
        for text in dangers_in(ast.parse(path.read_text(encoding="utf-8")))
    }
    assert len(SOURCES) > 80
    assert found - ALLOWED.keys() == set()


@pytest.mark.parametrize(
    "code",
    [
        "import pickle", "from pickle import loads", "import torch; torch.load(f)", "np.load(f, allow_pickle=True)",
        "eval(text)", "import yaml", "tar.extractall()", "subprocess.run(x, shell=True)", "pd.read_pickle(f)",
    ],
)  # fmt: skip
def test_the_search_finds(code):
    assert list(dangers_in(ast.parse(code)))


HOSTILE = [
    "../x", "..", ".", "", "/etc/passwd", "a/b", "a\\b", "C:\\x", "a\0b", "a\nb", "a\x1b[2Jb", "x" * 300, "é", "ａ",
    "\u202etxt", "CON", "con.txt", "NUL", "lpt1", ".hidden", "-rf", "a.", "a ", " a", "~root", "$(x)", "a;b", "*",
]  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE, ids=repr)
def test_a_hostile_name_is_no_plain_name(name):
    assert not is_plain_name(name)


@pytest.mark.parametrize("name", ["made-digits-s0-0123456789", "iwae-50", "x@286d2ff1102b", "a", "0", "valid--nll"])
def test_names_in_use_are_plain(name):
    assert is_plain_name(name)


@pytest.mark.parametrize("name", HOSTILE, ids=repr)
def test_a_hostile_name_stays_in_its_folder_as_a_slug(name, tmp_path):
    assert (tmp_path / slug(name)).resolve().parent == tmp_path.resolve()
    folder = RunFolder(tmp_path / "run")
    for file in (folder.score_file(name), folder.per_image_file(name)):
        assert file.resolve().parent == (tmp_path / "run" / "scores").resolve()


@pytest.mark.parametrize("name", HOSTILE, ids=repr)
def test_no_run_has_a_folder_outside_of_the_artifacts(name, tmp_path):
    with pytest.raises(ValueError, match="run"):
        Artifacts(tmp_path / "artifacts").folder(name)


# Plain words, which are hostile to some systems as a file's name alone; what is registered names no file by itself.
WORDS = ("x" * 300, "lpt1")


@pytest.mark.parametrize("entry", [DatasetEntry, ModelEntry, MetricEntry])
def test_nothing_registers_under_a_hostile_name(entry):
    for name in (name for name in HOSTILE if name not in WORDS):
        with pytest.raises(EntryError):
            entry(name, "package.module:Thing")


def test_no_suite_has_a_hostile_name(tmp_path):
    # whatever stands before a slash is a folder, which the user names; an unusual word has no file
    for name in (name for name in HOSTILE if "/" not in name):
        with pytest.raises(SuiteError):
            Suite.read(tmp_path / f"{name}.toml")


def record(run="made-digits-s0-0123456789", **changes):
    spec = RunSpec(model="made", dataset="digits")
    content = {
        "run": run, "key": digest_of(run), "identity": identity_of(spec), "spec": spec, "hyperparameters": {},
        "provider": "p", "code": "c", "dataset_digest": "d", "status": "done",
    }  # fmt: skip
    return RunRecord(**{**content, **changes})


def harness(folder, *arguments):
    return CliRunner().invoke(app, ["--artifacts", str(folder), *arguments])


@pytest.mark.parametrize("command", ["show", "sample"])
def test_a_command_finds_no_run_by_a_hostile_name(command, tmp_path):
    Artifacts(tmp_path).store.put(record())
    for name in (name for name in HOSTILE if name and not name.startswith("-")):
        answer = harness(tmp_path, command, name)
        assert isinstance(answer.exception, ValueError)
        assert str(answer.exception).startswith(f"no run {name!r}")


@pytest.mark.parametrize("run", ["../precious", "../../precious", "/precious", ".", ".."])
def test_clean_removes_nothing_outside_of_the_runs(run, tmp_path):
    artifacts = tmp_path / "lab" / "artifacts"
    places = [artifacts / "precious", tmp_path / "lab" / "precious", artifacts / "runs" / "made-digits-s0-0123456789"]
    for place in places:
        place.mkdir(parents=True)
        (place / "file").write_text("precious")
    if run == "/precious":
        run = str(places[1])
    store = Artifacts(artifacts).store
    store.put(record(run))
    store.put(record())
    store.refer("suite", ["made-digits-s0-0123456789"])
    harness(artifacts, "clean", "--remove")
    assert all((place / "file").exists() for place in places)


ESCAPES = "\x1b[2J\x1b]0;owned\x07\r\x9b31m\u202e"


def is_quiet(text):
    """No character that a terminal obeys, but for line feeds."""
    return all(character == "\n" or printable(character) == character for character in text)


def test_printable_shows_what_a_terminal_would_obey_and_leaves_the_rest():
    assert printable(ESCAPES) == "\\x1b[2J\\x1b]0;owned\\x07\\x0d\\x9b31m\\u202e"
    assert printable("é ± ≤ 日本\n\tµ") == "é ± ≤ 日本\n\tµ"


def test_show_prints_no_escapes_of_a_record(tmp_path):
    failure = Failure(stage="fit", type=ESCAPES, message=ESCAPES, traceback=ESCAPES)
    score = ScoreRecord(metric="nll", key="k", value=1.0, unit=ESCAPES, protocol={ESCAPES: ESCAPES})
    hostile = record(
        provider=ESCAPES, hyperparameters={ESCAPES: ESCAPES}, status="failed", failure=failure, scores={"nll": score}
    )
    artifacts = Artifacts(tmp_path)
    artifacts.store.put(hostile)
    artifacts.folder(hostile.run).path.mkdir(parents=True)
    artifacts.folder(hostile.run).log.write_text(ESCAPES)
    answer = harness(tmp_path, "show", hostile.run)
    assert answer.exit_code == 0
    assert "owned" in answer.output
    assert is_quiet(answer.output)


@pytest.mark.parametrize("arguments", [["list"], ["plugins"], ["status"]], ids=" ".join)
def test_listings_print_no_escapes(arguments, tmp_path, install_plugin):
    install_plugin(
        "harness-evil",
        {
            "harness_evil.py": f"""
            import harness

            @harness.hookimpl
            def register_models():
                return [harness.ModelEntry("evil", "nowhere:X", summary={ESCAPES!r}, paper={ESCAPES!r})]
            """
        },
        entry_points={"evil": "harness_evil"},
    )
    Artifacts(tmp_path).store.put(
        record(status="failed", failure=Failure(stage="fit", type="Error", message=f"evil {ESCAPES}"))
    )
    answer = harness(tmp_path, *arguments)
    assert "evil" in answer.output
    assert is_quiet(answer.output)


def test_compare_and_merge_print_no_escapes(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for arguments in (["compare", ESCAPES, "b"], ["merge", "nothing", ESCAPES]):
        answer = harness(tmp_path, *arguments)
        assert is_quiet(f"{answer.output}{answer.exception}")


class _Server(http.server.BaseHTTPRequestHandler):
    """Redirects /to/ADDRESS to ADDRESS, and serves "content" elsewhere."""

    def do_GET(self):
        if self.path.startswith("/to/"):
            self.send_response(302)
            self.send_header("Location", self.path.removeprefix("/to/"))
            self.end_headers()
            return
        self.send_response(200)
        self.send_header("Content-Length", "7")
        self.end_headers()
        self.wfile.write(b"content")

    def log_message(self, *_):
        pass


@pytest.fixture(scope="module")
def address():
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Server)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    with pytest.MonkeyPatch.context() as patch:
        for variable in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
            patch.delenv(variable, raising=False)
        patch.setenv("no_proxy", "127.0.0.1")
        yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()
    thread.join()


def test_a_redirect_on_the_web_is_followed(address):
    assert download(f"{address}/to/{address}/x", timeout_seconds=5) == b"content"


@pytest.mark.parametrize(
    "target", ["file:///etc/hostname", "FILE:///etc/hostname", "ftp://127.0.0.1/x", "data:,x", "jar:x"]
)
def test_a_redirect_to_anything_else_is_refused(address, target):
    with pytest.raises(DownloadFailed):
        download(f"{address}/to/{target}", timeout_seconds=5)


@pytest.mark.parametrize("url", ["ftp://127.0.0.1/x", "data:,content", "x", "", "javascript:x", "file"])
def test_an_address_of_another_scheme_is_refused(url):
    with pytest.raises(DownloadFailed):
        download(url, timeout_seconds=5)


def test_content_of_another_digest_is_refused_and_nothing_is_left(address, tmp_path):
    folder = DataFolder(tmp_path / "data", fallback=tmp_path / "cache")
    remote = RemoteFile("mnist/x", (f"{address}/x",), sha256=hashlib.sha256(b"other").hexdigest())
    with pytest.raises(DataUnavailable, match=hashlib.sha256(b"content").hexdigest()):
        folder.read(remote)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_a_download_that_never_ends_is_given_up(address, monkeypatch):
    monkeypatch.setattr("harness.interface.data_folder._MAX_BYTES", 3)
    with pytest.raises(DownloadFailed, match="more than 3 bytes"):
        download(f"{address}/x", timeout_seconds=5)


def test_an_image_file_is_read_by_the_formats_that_are_listed_and_no_other(tmp_path):
    buffer = io.BytesIO()
    Image.new("L", (4, 4)).save(buffer, format="EPS")  # PostScript is a program
    (tmp_path / "x.png").write_bytes(buffer.getvalue())
    with pytest.raises(ValueError, match=r"x\.png is not an image"), contextlib.suppress(OSError):
        read_images(tmp_path)
