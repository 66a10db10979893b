"""IDX, the file format of MNIST (LeCun et al. 1998): a magic number, the sizes, then the bytes."""

from __future__ import annotations

import math
import struct

import numpy as np
import numpy.typing as npt

_UNSIGNED_BYTE = 8


def parse_idx(content: bytes, *, num_axes: int, name: str) -> npt.NDArray[np.uint8]:
    """Returns the array of an IDX file of unsigned bytes; it is a read-only view of ``content``.

    Args:
        content: the unpacked file: bytes 0, 0, the type (8), the number of axes; a big-endian uint32 for each axis;
            data.
        num_axes: how many axes there must be: 3 for images, 1 for labels.
        name: the file's name, for messages.

    Raises:
        ValueError: another magic number, or more or fewer bytes than the sizes say.
    """
    header = 4 + 4 * num_axes
    if len(content) < header or content[:4] != bytes((0, 0, _UNSIGNED_BYTE, num_axes)):
        raise ValueError(
            f"{name} is not an IDX file of unsigned bytes with {num_axes} axes: it starts with {content[:4].hex()!r}, "
            f"expected '000008{num_axes:02x}': replace it"
        )
    shape: tuple[int, ...] = struct.unpack(f">{num_axes}I", content[4:header])
    if len(content) - header != math.prod(shape):
        raise ValueError(
            f"{name} holds {len(content) - header} bytes of data, its header says {math.prod(shape)}, {shape}: "
            "replace it"
        )
    return np.frombuffer(content, dtype=np.uint8, offset=header).reshape(shape)
