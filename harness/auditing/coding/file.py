"""The file of coded images: a header of fixed size that says what is needed to decode it, and the coder's words."""

from __future__ import annotations

import hashlib
import struct
import zlib
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from harness.interface.model import Model
from harness.interface.spec import ImageSpec

_MAGIC, _VERSION = b"genhcode", 1
_FIELDS = struct.Struct("<8sHHHHHIII8sI")
_CHECK = struct.Struct("<I")  # of all the rest, header and words
HEADER_BYTES = _FIELDS.size + _CHECK.size
_WORD = 4

Words = NDArray[np.uint32]


class CodingError(ValueError):
    """A file that cannot be decoded: damaged, of another kind, or of another model; or a model that cannot code."""


@dataclass(frozen=True)
class CodedFile:
    """What a file holds.

    Attributes:
        shape: (C, H, W) of an image.
        levels: of its entries.
        num_images: how many.
        batch_size: how many were coded together, on which the last digit of a probability may depend.
        model_digest: eight bytes, of the class and the weights that coded them.
        images_check: CRC-32 of the images.
        words: (n,) uint32, the range coder's.
    """

    shape: tuple[int, int, int]
    levels: int
    num_images: int
    batch_size: int
    model_digest: bytes
    images_check: int
    words: Words

    def to_bytes(self) -> bytes:
        """Returns the file's content."""
        body = self.words.astype("<u4").tobytes()
        head = _FIELDS.pack(
            _MAGIC, _VERSION, *self.shape, self.levels, self.num_images, self.batch_size, len(self.words),
            self.model_digest, self.images_check,
        )  # fmt: skip
        return head + _CHECK.pack(zlib.crc32(head + body)) + body

    @classmethod
    def from_bytes(cls, content: bytes) -> CodedFile:
        """Reads a file's content.

        Raises:
            CodingError: it is of another kind, of another version, cut off, or damaged.
        """
        if content[: len(_MAGIC)] != _MAGIC:
            raise CodingError("not a file of coded images: it does not begin with genhcode")
        if len(content) < HEADER_BYTES:
            raise CodingError(f"the file of coded images is cut off: {len(content)} bytes, its header alone has more")
        head, body = content[: _FIELDS.size], content[HEADER_BYTES:]
        _, version, *numbers, num_words, digest, images_check = _FIELDS.unpack(head)
        if version != _VERSION:
            raise CodingError(f"the file of coded images has version {version}; this harness reads {_VERSION}")
        if len(body) < num_words * _WORD:
            raise CodingError(
                f"the file of coded images is cut off: it has {len(content)} bytes of "
                f"{HEADER_BYTES + num_words * _WORD}"
            )
        if len(body) != num_words * _WORD or (zlib.crc32(head + body),) != _CHECK.unpack_from(content, _FIELDS.size):
            raise CodingError("the file of coded images is damaged: its checksum does not agree with its content")
        channels, height, width, levels, num_images, batch_size = numbers
        words = np.frombuffer(body, dtype="<u4").astype(np.uint32)
        return cls((channels, height, width), levels, num_images, batch_size, digest, images_check, words)

    def check_model(self, model: Model) -> None:
        """Checks that a model is the one that coded the images.

        Raises:
            CodingError: another sample space, or other weights.
        """
        ours = (*model.spec.shape, model.spec.levels)
        if ours != (*self.shape, self.levels):
            raise CodingError(
                f"the file holds images of {_describe(self.shape, self.levels)}, "
                f"the model is of {_describe(model.spec.shape, model.spec.levels)}"
            )
        if digest_of_model(model) != self.model_digest:
            raise CodingError("the images were coded by another model, or by other weights of this one")


def _describe(shape: tuple[int, int, int], levels: int) -> str:
    return f"{'x'.join(map(str, shape))} entries of {levels} levels"


def digest_of_model(model: Model) -> bytes:
    """Returns eight bytes of the SHA-256 of a model's class name, precision and ``state_dict``."""
    sha = hashlib.sha256(f"{type(model).__qualname__} {model.dtype}".encode())
    for name, value in sorted(model.state_dict().items()):
        sha.update(f"{name} {tuple(value.shape)} {value.dtype}".encode())
        sha.update(value.detach().cpu().flatten().contiguous().view(torch.uint8).numpy().tobytes())
    return sha.digest()[:8]


def check_of_images(images: Tensor) -> int:
    """Returns the CRC-32 of the pixels, (N, C, H, W) uint8."""
    return zlib.crc32(images.cpu().contiguous().numpy().tobytes())


def check_images(images: Tensor, spec: ImageSpec) -> None:
    """Checks what is to be coded.

    Raises:
        CodingError: no images, or images of another sample space.
    """
    if images.ndim != 4 or tuple(images.shape[1:]) != spec.shape or images.dtype != torch.uint8:
        raise CodingError(f"images must be (N, {', '.join(map(str, spec.shape))}) uint8, not {tuple(images.shape)} "
                          f"{images.dtype}")  # fmt: skip
    if len(images) == 0:
        raise CodingError("there is no image to code")
    if int(images.max()) >= spec.levels:
        raise CodingError(f"an image holds the value {int(images.max())}, the model knows 0 to {spec.levels - 1}")
