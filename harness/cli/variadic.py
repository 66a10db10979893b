"""Options that take several values, ``--sizes 8 16 32``, beside commas, ``--sizes 8,16,32``, and repetition."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from typer.core import TyperCommand


def spread(arguments: Sequence[str], options: Sequence[str]) -> list[str]:
    """Returns a command line in which each of ``options`` stands before every one of the values that follow it.

    Values are words up to the next one that begins with a hyphen; what stands between commas is a value of its own.

    >>> spread(["a", "--sizes", "8", "16,32", "-n", "1"], ["--sizes"])
    ['a', '--sizes', '8', '--sizes', '16', '--sizes', '32', '-n', '1']
    """
    found: list[str] = []
    option = None
    for number, word in enumerate(arguments):
        name, equals, value = word.partition("=")
        if name in options:
            option = name
            if equals:
                found += _each(option, value)
            elif number + 1 == len(arguments) or arguments[number + 1].startswith("-"):
                found.append(word)  # without a value: the parser says so
            continue
        if word.startswith("-"):
            option = None
        found += [word] if option is None else _each(option, word)
    return found


def _each(option: str, values: str) -> list[str]:
    return [word for value in values.split(",") if value for word in (option, value)]


class VariadicCommand(TyperCommand):
    """A command some of whose options take several values."""

    options: ClassVar[tuple[str, ...]] = ()

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parses the command line."""
        parsed: Any = super().parse_args(ctx, spread(args, self.options))
        return list(parsed)
