"""Binary ``.amat``: one image a line, the values 0 or 1 separated by single blanks."""

from __future__ import annotations

import hashlib

import numpy as np
import numpy.typing as npt


def parse_amat(content: bytes, *, num_values: int, name: str) -> npt.NDArray[np.uint8]:
    """Returns (rows, num_values) uint8 of zeros and ones.

    Every row has the same length in bytes, so that the file is one array: reading the text number by number would
    take a hundred times as long.

    Raises:
        ValueError: a line is not ``num_values`` values of 0 or 1 separated by single blanks; names the first such line.
    """
    pitch = 2 * num_values
    if not content.endswith(b"\n"):
        content += b"\n"
    whole = len(content) // pitch
    table = np.frombuffer(content, dtype=np.uint8, count=whole * pitch).reshape(whole, pitch)
    # Against a row of zeros, bytes may differ in one place only: the lowest bit of a value.
    zeros = np.frombuffer(b"0 " * (num_values - 1) + b"0\n", dtype=np.uint8)
    allowed = np.frombuffer(b"\x01\x00" * num_values, dtype=np.uint8)
    difference = table ^ zeros
    wrong = (difference & ~allowed).any(1)
    if wrong.any() or len(content) != whole * pitch:
        line = int(np.argmax(wrong)) + 1 if wrong.any() else whole + 1
        raise ValueError(
            f"{name}: line {line} is not {num_values} values of 0 or 1 separated by single blanks: replace the file"
        )
    return difference[:, ::2]


def sorted_lines_sha256(content: bytes) -> str:
    """Returns the SHA-256 of the lines in byte order, what ``LC_ALL=C sort FILE | sha256sum`` prints.

    It accepts a copy of the file whose rows stand in another order, and nothing else.
    """
    lines = content.split(b"\n")
    if lines and not lines[-1]:
        lines.pop()
    return hashlib.sha256(b"".join(line + b"\n" for line in sorted(lines))).hexdigest()
