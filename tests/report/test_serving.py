"""The site that is served while suites run: to this machine alone, never more than its pages, and up to date."""

from __future__ import annotations

import json
import threading
from http.client import HTTPConnection
from types import SimpleNamespace

import pytest

from harness.boards.leaderboard import Leaderboard
from harness.cli.context import Context
from harness.cli.report import _live_suite
from harness.interface.spec import RunSpec
from harness.records.archive import Archive, write_archive
from harness.records.record import RunRecord, ScoreRecord, identity_of
from harness.report.site.build import site_files
from harness.report.site.serving import SiteServer
from harness.report.site.suite import SuitePages


def record(seed, **changes):
    spec = RunSpec(dataset="digits", model="nade", seed=seed, metrics=("nll",))
    score = ScoreRecord(metric="nll", key="k", value=80.0 + seed, unit="nats", kind="exact")
    content = {
        "run": f"nade-digits-s{seed}-x", "key": "k", "identity": identity_of(spec), "spec": spec, "hyperparameters": {},
        "provider": "p 1", "code": "c", "dataset_digest": "d", "status": "done", "scores": {"nll": score},
        "image_shape": (1, 8, 8, 2),
    }  # fmt: skip
    return RunRecord(**{**content, **changes})


@pytest.fixture
def site(tmp_path):
    """A server in a thread, what its suite is made of, and ``get``: of a path the status, headers and body."""
    found = SimpleNamespace(records=[record(0)], lines=["1 of 2 runs"], folder=tmp_path, problem=None)

    def read():
        if found.problem:
            raise ValueError(found.problem)
        return [SuitePages("demo", Leaderboard(found.records), tmp_path, progress=lambda: found.lines)]

    def get(path, method="GET", **headers):
        connection = HTTPConnection("127.0.0.1", found.server.server_port, timeout=5)
        connection.request(method, path, headers=headers)
        answer = connection.getresponse()
        return answer.status, answer.headers, answer.read()

    found.server, found.get = SiteServer(read, lambda: f"{found.problem} {found.records}"), get
    found.live = lambda path="/demo/": json.loads(get(f"{path}?live")[2])
    found.server.make()
    threading.Thread(target=found.server.serve_forever, args=(0.01,), daemon=True).start()
    yield found
    found.server.shutdown()
    found.server.server_close()


def test_pages_are_served_on_loopback_with_a_policy_that_lets_them_ask_their_own_server_alone(site):
    assert site.server.server_address[0] == "127.0.0.1"
    for path, kind in (("/", "text/html"), ("/demo/", "text/html"), ("/site.js", "text/javascript")):
        status, headers, body = site.get(path)
        policy = headers["Content-Security-Policy"]
        assert (status, headers["Content-Type"]) == (200, f"{kind}; charset=utf-8")
        assert (headers["X-Content-Type-Options"], int(headers["Content-Length"])) == ("nosniff", len(body))
        assert policy.startswith("default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self' data:;")
        assert "connect-src 'self';" in policy
    assert site.get("/", "HEAD")[2] == b""


def test_a_page_that_is_a_file_asks_nobody(site):
    pages = [SuitePages("demo", Leaderboard(site.records), site.folder)]
    for content in dict(site_files(pages)).values():
        assert b"connect-src" not in content
        assert b'id="live"' not in content


def test_a_record_that_arrives_makes_a_new_stamp_and_page(site, monkeypatch):
    monkeypatch.setattr("harness.report.site.serving._REST", 0)
    before, page = site.live()["stamp"], site.get("/demo/")[2]
    assert before.encode() in page
    assert site.live()["stamp"] == before
    site.records.append(record(1, key="other"))
    after = site.live()["stamp"]
    assert after != before
    assert (b"1 trainings" in page, b"2 trainings" in site.get("/demo/")[2]) == (True, True)


def test_a_server_that_has_just_looked_rests(site):
    before = site.live()["stamp"]
    site.server._not_before = float("inf")
    site.records.append(record(1))
    assert site.live()["stamp"] == before


def test_what_goes_wrong_is_said_beside_the_pages_as_they_were(site, monkeypatch):
    monkeypatch.setattr("harness.report.site.serving._REST", 0)
    before, site.problem = site.live()["stamp"], "the store \x1b is away"
    assert site.live() == {"stamp": before, "lines": [r"not up to date: the store \x1b is away", "1 of 2 runs"]}
    assert site.get("/demo/")[0] == 200
    site.problem = None
    assert site.live()["lines"] == ["1 of 2 runs"]


@pytest.mark.parametrize("path", ["/", "/demo/?live", "/site.js"])
def test_a_name_of_elsewhere_that_leads_here_is_refused(site, path):
    own = f"localhost:{site.server.server_port}"
    hosts = {own: 200, "evil.example": 421, f"evil.example:{site.server.server_port}": 421, f"{own}.evil.example": 421}
    assert {host: site.get(path, Host=host)[0] for host in hosts} == hosts


def test_the_port_of_http_stands_in_no_name(site):
    port, site.server.server_port = site.server.server_port, 80
    hosts = {"localhost": 200, "127.0.0.1": 200, "evil.example": 421}
    found = {}
    for host in hosts:
        connection = HTTPConnection("127.0.0.1", port, timeout=5)
        connection.request("GET", "/", headers={"Host": host})
        found[host] = connection.getresponse().status
    assert found == hosts


def test_an_archive_that_holds_nothing_is_said_as_what_goes_wrong(tmp_path):
    suite = tmp_path / "demo.toml"
    suite.write_text('title = "t"\ndatasets = ["digits"]\nmetrics = ["nll"]\n[[models]]\nname = "nade"\n')
    write_archive(Archive((), {}), tmp_path / "demo")
    with pytest.raises(ValueError, match="there is no result of"):
        _live_suite(Context(tmp_path / "artifacts", None, ()), suite)


@pytest.mark.parametrize("path", ["/../secret", "/demo/../../secret", "/%2e%2e/secret", "/..%2fsecret", "//etc/passwd"])
def test_nothing_is_served_but_the_site(site, path):
    (site.folder / "secret").write_text("x")
    (site.folder.parent / "secret").write_text("x")
    assert site.get(path)[0] == 404
    assert site.get(f"{site.folder}/secret")[0] == 404


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS"])
def test_a_site_is_only_read(site, method):
    status, headers, _ = site.get("/", method)
    assert (status, headers["X-Content-Type-Options"]) == (501, "nosniff")


@pytest.mark.parametrize("option", ["--check", "--one-file", "-oelsewhere"])
def test_what_is_served_is_not_written(command_line, option):
    assert (
        f"--serve writes nothing: leave out {option[: 2 if option[1] != '-' else None]}"
        in command_line("report", "x", "--serve", option).complaint
    )
