"""The site of suites while they run: kept in memory, made anew when records change, served to this machine alone."""

import json
import mimetypes
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from http import HTTPStatus
from http.client import HTTP_PORT
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote

from harness.report.site.build import policy, site_files
from harness.report.site.suite import SuitePages
from harness.support.names import digest_of, printable

_ADDRESS = "127.0.0.1"
_REST = 4.0  # so many times as long as a look took there is no other: a suite that runs keeps its processor
_HEADERS = {
    "Content-Security-Policy": f"{policy(is_alone=False, is_live=True)}; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}


class SiteServer(ThreadingHTTPServer):
    """Serves the site of suites on this machine's loopback; port 0 is one that is free, a busy one an OSError.

    ``read`` gives the suites. Their files are made anew, if somebody looks, when the ``stamp`` is another; whoever asks
    in the meantime gets those before, and what goes wrong is said on the pages.
    """

    def __init__(self, read: Callable[[], Sequence[SuitePages]], stamp: Callable[[], str], port: int = 0) -> None:
        self._read, self._stamp, self._stamped, self._problem = read, stamp, "", ""
        self._suites: Sequence[SuitePages] = ()
        self.files: Mapping[str, bytes] = {}
        self._lock, self._not_before = threading.Lock(), 0.0
        super().__init__((_ADDRESS, port), _Handler)

    def make(self) -> None:
        """Makes the files, unless they are up to date."""
        if (stamp := digest_of(self._stamp())[:16]) != self._stamped:
            self._suites = self._read()
            self.files, self._stamped = dict(site_files(self._suites, live=stamp)), stamp

    def look(self, path: str) -> bytes:
        """Returns JSON: the ``stamp`` of the pages there are now, and ``lines`` on how far a page's suite is."""
        if time.monotonic() >= self._not_before and self._lock.acquire(blocking=False):
            began = time.monotonic()
            try:
                self.make()
                self._problem = ""
            except (ValueError, OSError) as error:
                self._problem = f"not up to date: {error}"
            finally:
                self._not_before = time.monotonic() + _REST * (time.monotonic() - began)
                self._lock.release()
        shown = [suite for suite in self._suites if path.startswith(f"{suite.id}/")] or self._suites
        lines = [*filter(None, [self._problem]), *(line for suite in shown for line in suite.progress())]
        return json.dumps({"stamp": self._stamped, "lines": list(map(printable, lines))}).encode()


class _Handler(BaseHTTPRequestHandler):
    server: SiteServer
    server_version, sys_version, timeout = "genharness", "", 30

    def do_GET(self) -> None:
        address, _, query = self.path.partition("?")
        path = unquote(address).removeprefix("/")
        path += "index.html" * (not path or path.endswith("/"))
        port = f":{self.server.server_port}" if self.server.server_port != HTTP_PORT else ""  # as browsers write it
        if self.headers.get("Host") not in [f"{name}{port}" for name in (_ADDRESS, "localhost")]:
            self.send_error(HTTPStatus.MISDIRECTED_REQUEST)  # a page of elsewhere, whose name leads here
        elif query == "live":
            self._send(self.server.look(path), "application/json")
        elif (content := self.server.files.get(path)) is not None:
            self._send(content, mimetypes.guess_type(path)[0] or "application/octet-stream")
        else:
            self.send_error(HTTPStatus.NOT_FOUND)

    do_HEAD = do_GET  # noqa: N815

    def _send(self, content: bytes, kind: str) -> None:
        self.send_response(HTTPStatus.OK)
        self.send_header("Content-Type", f"{kind}; charset=utf-8" if kind.startswith("text/") else kind)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(content)

    def end_headers(self) -> None:
        for item in _HEADERS.items():
            self.send_header(*item)
        super().end_headers()

    def handle(self) -> None:
        with suppress(OSError):  # who asked is gone
            super().handle()

    def log_message(self, *_: Any) -> None:
        pass
