"""What is wrong with a value in a user's words: what would be right, instead of a validator's names for it."""

import types
from collections.abc import Collection, Mapping, Sequence
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from harness.support.names import did_you_mean

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
