"""Downloading one file into memory, and writing a file so that it is there whole or not at all."""

from __future__ import annotations

import http.client
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable
from http.client import HTTPMessage
from typing import IO

Progress = Callable[[int, int | None], None]

_CHUNK = 1 << 18
_MAX_BYTES = 1 << 33
_SCHEMES = ("https", "http", "file")


class DownloadFailed(OSError):
    """A download that did not succeed; the message says why in one line."""


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follows redirects within the web alone: a server may not point at this machine's files, nor from TLS to none."""

    def redirect_request(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: HTTPMessage, newurl: str
    ) -> urllib.request.Request | None:
        allowed = ("https",) if req.type == "https" else ("https", "http")
        scheme = urllib.parse.urlsplit(newurl).scheme
        if scheme not in allowed:
            raise urllib.error.URLError(f"the server redirects from {req.type}: to {scheme}:, which is not followed")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def download(url: str, *, timeout_seconds: float, progress: Progress | None = None) -> bytes:
    """Returns the content at ``url``.

    It is held in memory until it is complete: a download that is killed leaves nothing behind.

    Args:
        url: ``https:``, ``http:`` or ``file:``.
        timeout_seconds: how long the connection may stay silent.
        progress: called as ``progress(bytes_done, total)``; ``total`` is None where the server does not say.

    Raises:
        DownloadFailed: no connection, an HTTP error, a redirect to anything but the web, silence beyond the timeout,
            fewer bytes than announced, or more than 8 GiB.
    """
    try:
        request = urllib.request.Request(url, headers={"User-Agent": "genharness"})
        if request.type not in _SCHEMES:
            raise DownloadFailed(f"{request.type}: addresses are not downloaded from, only {', '.join(_SCHEMES)}")
        with urllib.request.build_opener(_Redirects).open(request, timeout=timeout_seconds) as response:
            announced = response.headers.get("Content-Length")
            total = int(announced) if announced is not None and announced.isdecimal() else None
            content = bytearray()
            while chunk := response.read(_CHUNK):
                content += chunk
                if len(content) > _MAX_BYTES:
                    raise DownloadFailed(f"more than {_MAX_BYTES} bytes")
                if progress is not None:
                    progress(len(content), total)
    except (OSError, http.client.HTTPException, ValueError) as error:
        # One line whatever the library says; URLError hides the cause in `reason`.
        reason = " ".join(str(getattr(error, "reason", None) or error).split()) or type(error).__name__
        raise DownloadFailed(reason) from error
    if total is not None and len(content) != total:
        raise DownloadFailed(f"the connection broke off after {len(content)} of {total} bytes")
    return bytes(content)
