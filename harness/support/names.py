"""Names and texts: what a name may be, what one that is not there may have meant, the digest that a run is named by.

And how text from elsewhere is printed: without what a terminal obeys, and without passwords; and what is wrong with a
value in a user's words: what would be right, instead of a validator's names for it.
"""

import difflib
import hashlib
import json
import re
import types
import unicodedata
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Annotated, Any, Literal, Union, get_args, get_origin
from urllib.parse import quote, quote_plus, unquote, unquote_plus

MAX_LENGTH = 200
BOARD_NAME = re.compile(r"([a-z0-9]+(-[a-z0-9]+)*)?")  # of a metric; it names files, and none is no board
HIDDEN = "***"

_PLAIN = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9@._-]*[A-Za-z0-9@_])?")
# Windows opens devices under these names, whatever follows the first dot.
_RESERVED = re.compile(r"(?:con|prn|aux|nul|com[0-9]|lpt[0-9])(?:\..*)?", re.IGNORECASE | re.DOTALL)

_KEYS = r"(?P<head>{before}(?:(?:ssl)?password|passwd|passphrase|pwd|oauth_client_secret)=)"
_PASSWORDS = (
    re.compile(_KEYS.format(before="[?&]") + "(?P<password>[^&]+)", re.IGNORECASE),
    # An unescaped "@", "/" or "?" in a password is a mistake that must not show it: all up to the last "@" is hidden.
    re.compile(r"(?P<head>[A-Za-z][\w+.-]*://[^/:]*:)(?P<password>.+)(?=@)", re.DOTALL),
    re.compile(_KEYS.format(before=r"(?:^|\s)") + r"(?P<password>'(?:[^'\\]|\\.)*'|\S+)", re.IGNORECASE),
)
_MOST_NAMED = 20  # in a message


def is_plain_name(name: str) -> bool:
    """Tells whether a text is a file name on every system, and stays where it is put: no path, no device of Windows."""
    return len(name) <= MAX_LENGTH and _PLAIN.fullmatch(name) is not None and _RESERVED.fullmatch(name) is None


def slug(name: str) -> str:
    """Returns a name as a file name: letters, digits, dot, hyphen, at-sign; nothing that leaves the folder."""
    return re.sub(r"[^A-Za-z0-9@._-]+", "-", name).strip("-.") or "x"


def distinct(names: Iterable[str]) -> list[str]:
    """Returns names of which no two are one, in upper or lower case: those that come again are numbered, ``name@2``."""
    found, taken, copies = list[str](), set[str](), Counter[str]()
    for name in names:
        copies[name.lower()] += 1
        made = name if copies[name.lower()] == 1 else f"{name}@{copies[name.lower()]}"
        while made.lower() in taken:
            copies[name.lower()] += 1
            made = f"{name}@{copies[name.lower()]}"
        taken.add(made.lower())
        found.append(made)
    return found


def heading(name: str) -> str:
    """Returns a registered name in words, as it heads a column: ``ink-difference`` becomes ``Ink difference``."""
    words = name.replace("-", " ")
    return words[:1].upper() + words[1:]


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Returns `` (did you mean ...?)``, or twenty of what there is, to be put behind a message about ``name``."""
    names = sorted(set(known))
    close = difflib.get_close_matches(name, names, n=3, cutoff=0.5)
    if close:
        return f" (did you mean {' or '.join(repr(item) for item in close)}?)"
    others = f" and {len(names) - _MOST_NAMED} others" if len(names) > _MOST_NAMED else ""
    return f" (there are: {', '.join(names[:_MOST_NAMED])}{others})" if names else " (none is installed)"


def digest_of(value: Any) -> str:
    """Returns the SHA-256 of a JSON value in canonical form, in hexadecimal: what keys and fingerprints are made of."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def in_texts(value: Any, change: Callable[[str], str]) -> Any:
    """Returns a JSON value in which every text, also the name of an entry, is what ``change`` makes of it."""
    if isinstance(value, dict):
        return {in_texts(name, change): in_texts(item, change) for name, item in value.items()}
    if isinstance(value, list):
        return [in_texts(item, change) for item in value]
    return change(value) if isinstance(value, str) else value


def printable(text: str) -> str:
    r"""Returns a text without what a terminal obeys: control characters, and those that change the reading direction.

    Line feeds and tabs stay. What is taken out is shown, ``\x1b`` for an escape, so that nothing is hidden.
    """
    return text if text.isprintable() else "".join(_shown(character) for character in text)


def _shown(character: str) -> str:
    if character in "\n\t" or unicodedata.category(character) not in ("Cc", "Cf", "Cs", "Zl", "Zp"):
        return character
    code = ord(character)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def redact(text: str) -> str:
    """Returns a text, such as one argument of a command, with the passwords of the URL in it hidden."""
    for pattern in _PASSWORDS:
        text = pattern.sub(rf"\g<head>{HIDDEN}", text)
    return text


def secrets_of(url: str) -> list[str]:
    """Returns the passwords in a URL, in all ways in which a library may spell them, the longest first."""
    found = [match["password"] for pattern in _PASSWORDS for match in pattern.finditer(url)]
    # a library that parts the URL at an unescaped delimiter quotes a piece of the password
    pieces = [piece for secret in found for piece in re.split(r"[@/?:]", secret) if len(piece) > 1]
    spelled = set()
    for secret in (*found, *pieces):
        for plain in (secret, unquote(secret), unquote_plus(secret)):
            spelled |= {plain, quote(plain), quote(plain, safe=""), quote_plus(plain), repr(plain)[1:-1]}
    return sorted(filter(None, spelled), key=lambda secret: (-len(secret), secret))


def without(text: str, secrets: list[str]) -> str:
    """Returns a text in which none of some passwords stands, nor any that a URL in it holds."""
    text = redact(text)
    for secret in secrets:
        around = (r"(?<!\w)", r"(?!\w)") if len(secret) < 4 else ("", "")  # one of a letter or two is in every word
        text = re.sub(re.escape(secret).join(around), HIDDEN, text)
    return text


_RIGHT = {  # by the head of pydantic's type of error
    "missing": "is missing",
    "string_pattern": "has to match {pattern}",
    "string_too_short": "must not be empty",
    "string": "has to be text, in quotation marks",
    "int": "has to be a whole number",
    "float": "has to be a number",
    "bool": "has to be true or false",
    "tuple": "has to be a list, in brackets",
    "list": "has to be a list, in brackets",
    "dict": "has to be a table",
    "model": "has to be a table",
    "too_short": "has to hold at least {min_length}",
    "literal": "has to be {expected}",
    "finite": "has to be finite",
    "greater_than_equal": "has to be at least {ge}",
    "greater_than": "has to be above {gt}",
    "less_than_equal": "has to be at most {le}",
    "less_than": "has to be below {lt}",
}
_ONE = {int: "a whole number", float: "a number", bool: "true or false", str: "text", type(None): "nothing"}
_MANY = {int: "whole numbers", float: "numbers", str: "texts"}


def what_is_wrong(error: Mapping[str, Any], keys: Collection[str] = ()) -> str:
    """Returns where, what, and what it is, of one of a pydantic ValidationError's ``errors()``; ``keys`` are known."""
    where, kind = ".".join(map(str, error["loc"])), error["type"]
    if keys and kind == "extra_forbidden":
        return f"unknown key {where!r}{did_you_mean(str(error['loc'][-1]), keys)}"
    said = next((words for head, words in _RIGHT.items() if kind.startswith(head)), None)
    if said is None:
        return ": ".join(filter(None, [where, error["msg"].removeprefix("Value error, ")]))
    value = "" if kind == "missing" else f", not {error['input']!r:.60}"
    return f"{where} {said.format(**error.get('ctx', {}))}{value}".strip()


def type_in_words(kind: Any, *, many: bool = False) -> str:
    """Returns a type as a message says it.

    >>> type_in_words(Sequence[int]), type_in_words(float | None), type_in_words(Literal["a", "b"])
    ('a list of whole numbers', 'a number or nothing', "'a' or 'b'")
    """
    origin, of = get_origin(kind), get_args(kind)
    if origin is Literal:
        return " or ".join(map(repr, of))
    if origin in (Annotated, Union, types.UnionType):
        return " or ".join(type_in_words(item, many=many) for item in (of[:1] if origin is Annotated else of))
    if isinstance(origin, type) and issubclass(origin, Sequence):
        items = [type_in_words(item, many=True) for item in dict.fromkeys(of) if item is not ...]
        return f"{'lists' if many else 'a list'} of {' and '.join(items)}"
    return (_MANY if many else _ONE).get(kind, getattr(kind, "__name__", str(kind)))
