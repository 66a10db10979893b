"""Keeping passwords out of all that is written down: command lines, error texts, the names of databases."""

from __future__ import annotations

import re
from urllib.parse import quote, quote_plus, unquote, unquote_plus

HIDDEN = "***"

_KEYS = r"(?P<head>{before}(?:(?:ssl)?password|passwd|passphrase|pwd|oauth_client_secret)=)"
# An unescaped "@", "/" or "?" in a password is a mistake that must not show it: all up to the last "@" is hidden.
_USER_INFO = re.compile(r"(?P<head>[A-Za-z][\w+.-]*://[^/:]*:)(?P<password>.+)(?=@)", re.DOTALL)
_QUERY = re.compile(_KEYS.format(before="[?&]") + "(?P<password>[^&]+)", re.IGNORECASE)
_KEYWORD = re.compile(_KEYS.format(before=r"(?:^|\s)") + r"(?P<password>'(?:[^'\\]|\\.)*'|\S+)", re.IGNORECASE)
_ALL = (_QUERY, _USER_INFO, _KEYWORD)
_SHORT = 4


def redact(text: str) -> str:
    """Returns a text, such as one argument of a command, with the passwords of the URL in it hidden."""
    for pattern in _ALL:
        text = pattern.sub(rf"\g<head>{HIDDEN}", text)
    return text


def secrets_of(url: str) -> list[str]:
    """Returns the passwords in a URL, in all ways in which a library may spell them, the longest first."""
    found = [match["password"] for pattern in _ALL for match in pattern.finditer(url)]
    # a library that parts the URL at an unescaped delimiter quotes a piece of the password
    pieces = [piece for secret in found for piece in re.split(r"[@/?:]", secret) if len(piece) > 1]
    spelled = set()
    for secret in (*found, *pieces):
        for plain in (secret, unquote(secret), unquote_plus(secret)):
            spelled |= {plain, quote(plain), quote(plain, safe=""), quote_plus(plain), repr(plain)[1:-1]}
    return sorted((secret for secret in spelled if secret), key=lambda secret: (-len(secret), secret))


def without(text: str, secrets: list[str]) -> str:
    """Returns a text in which none of some passwords stands, nor any that a URL in it holds."""
    text = redact(text)
    for secret in secrets:
        # one of a letter or two stands in every word
        around = (r"(?<!\w)", r"(?!\w)") if len(secret) < _SHORT else ("", "")
        text = re.sub(re.escape(secret).join(around), HIDDEN, text)
    return text
