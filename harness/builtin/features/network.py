"""What all feature networks need."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

from torch import Tensor

from harness import ImageSpec, Unsupported


def weights_digest(tensors: Mapping[str, Tensor]) -> str:
    """Returns the SHA-256 of names, types, shapes and content, in hexadecimal; the order does not matter."""
    sha = hashlib.sha256()
    for name in sorted(tensors):
        value = tensors[name].detach().cpu().contiguous()
        sha.update(f"{name} {value.dtype} {tuple(value.shape)}\n".encode())
        sha.update(value.numpy().tobytes())
    return sha.hexdigest()


def refuse_other_shape(name: str, expected: tuple[int, int, int], spec: ImageSpec) -> None:
    """Raises Unsupported unless images of ``spec`` have the shape ``expected``, (C, H, W)."""
    if spec.shape != expected:
        raise Unsupported(f"{name} is for images of {_text(expected)}, these are of {_text(spec.shape)}")


def _text(shape: tuple[int, int, int]) -> str:
    channels, height, width = shape
    return f"{height}x{width} and {channels} channel{'s' if channels > 1 else ''}"
