"""What a name may be, what one that is not there may have meant, and how text from elsewhere is printed."""

from __future__ import annotations

import difflib
import re
import unicodedata
from collections.abc import Iterable

MAX_LENGTH = 200
BOARD_NAME = re.compile(r"([a-z0-9]+(-[a-z0-9]+)*)?")  # of a metric; it names files, and none is no board

_PLAIN = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9@._-]*[A-Za-z0-9@_])?")
# Windows opens devices under these names, whatever follows the first dot.
_RESERVED = re.compile(r"(?:con|prn|aux|nul|com[0-9]|lpt[0-9])(?:\..*)?", re.IGNORECASE | re.DOTALL)


def is_plain_name(name: str) -> bool:
    """Tells whether a text is one file or folder name on every system, and stays where it is put.

    ASCII letters, digits, ``@``, ``.``, ``_`` and ``-``, at most 200 of them, beginning with a letter or digit, ending
    in no dot or hyphen, and no device name of Windows.
    """
    return len(name) <= MAX_LENGTH and _PLAIN.fullmatch(name) is not None and _RESERVED.fullmatch(name) is None


def slug(name: str) -> str:
    """Returns a name as a file name: letters, digits, dot, hyphen, at-sign; nothing that leaves the folder."""
    return re.sub(r"[^A-Za-z0-9@._-]+", "-", name).strip("-.") or "x"


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Returns `` (did you mean ...?)`` or the list of what there is, to be put behind a message about ``name``."""
    names = sorted(set(known))
    close = difflib.get_close_matches(name, names, n=3, cutoff=0.5)
    if close:
        return f" (did you mean {' or '.join(repr(item) for item in close)}?)"
    return f" (there are: {', '.join(names)})" if names else " (none is installed)"


def printable(text: str) -> str:
    r"""Returns a text without what a terminal obeys: control characters, and those that change the reading direction.

    Line feeds and tabs stay. What is taken out is shown, ``\x1b`` for an escape, so that nothing is hidden.
    """
    return "".join(_shown(character) for character in text)


def _shown(character: str) -> str:
    if character in "\n\t" or (character.isascii() and character.isprintable()):
        return character
    if unicodedata.category(character) in ("Cc", "Cf", "Cs", "Zl", "Zp"):
        code = ord(character)
        return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
    return character


def heading(name: str) -> str:
    """Returns a registered name in words, as it heads a column: ``ink-difference`` becomes ``Ink difference``."""
    words = name.replace("-", " ")
    return words[:1].upper() + words[1:]
