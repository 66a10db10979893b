"""Downloading one file into memory, and writing a file so that it is there whole or not at all."""

from __future__ import annotations

import http.client
import urllib.request
from collections.abc import Callable

Progress = Callable[[int, int | None], None]

_CHUNK = 1 << 18


class DownloadFailed(OSError):
    """A download that did not succeed; the message says why in one line."""


def download(url: str, *, timeout_seconds: float, progress: Progress | None = None) -> bytes:
    """Returns the content at ``url``.

    It is held in memory until it is complete: a download that is killed leaves nothing behind.

    Args:
        url: ``https:``, ``http:`` or ``file:``.
        timeout_seconds: how long the connection may stay silent.
        progress: called as ``progress(bytes_done, total)``; ``total`` is None where the server does not say.

    Raises:
        DownloadFailed: no connection, an HTTP error, silence beyond the timeout, or fewer bytes than announced.
    """
    try:
        request = urllib.request.Request(url, headers={"User-Agent": "genharness"})
        with urllib.request.urlopen(request, timeout=timeout_seconds) as response:
            announced = response.headers.get("Content-Length")
            total = int(announced) if announced is not None and announced.isdecimal() else None
            content = bytearray()
            while chunk := response.read(_CHUNK):
                content += chunk
                if progress is not None:
                    progress(len(content), total)
    except (OSError, http.client.HTTPException, ValueError) as error:
        # One line whatever the library says; URLError hides the cause in `reason`.
        reason = " ".join(str(getattr(error, "reason", None) or error).split()) or type(error).__name__
        raise DownloadFailed(reason) from error
    if total is not None and len(content) != total:
        raise DownloadFailed(f"the connection broke off after {len(content)} of {total} bytes")
    return bytes(content)
