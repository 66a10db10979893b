"""Coding images with an autoregressive model and a range coder, and what the size of the file says of its likelihood.

The range coder (Martin 1979) is constriction's (Bamler 2022, arXiv 2201.01741), with words of 32 bits. Probabilities
are computed in float64 and rounded to integers of the unit ``UNIT``, at least one for every value, so that encoder and
decoder agree even where they round differently on the way. That costs some ``levels`` UNIT / ln 2 bits for each entry:
1e-5 bits for a binary one, 0.0014 for one of 256 levels. The coder's own overhead is at most 64 bits for each file, the
header's ``HEADER_BYTES``.
"""

from __future__ import annotations

import copy
import importlib
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from harness.auditing.coding.file import (
    HEADER_BYTES,
    CodedFile,
    CodingError,
    check_images,
    check_of_images,
    digest_of_model,
)
from harness.auditing.coding.walk import families, family_scores, walk_batches
from harness.interface.model import Autoregressive, Model, Unsupported

TOLERANCE = 0.01
"""A file agrees with the likelihood where their sizes differ by no more than this share."""

UNIT = 2.0**-18
"""Of probabilities: coarse beside the error of float64, so that a rounding hardly ever falls on another side."""

_CODER_BITS = 64
_MAX_LOGITS = 2**26  # of one batch: half a gigabyte of float64
_SCORE_BATCH = 250

Progress = Callable[[str, float], None]
"""Told ``encode`` or ``decode``, and which part of it is done."""


def _quiet(stage: str, fraction: float) -> None:
    pass


@dataclass(frozen=True)
class Receipt:
    """The size of a file beside the likelihood that it is to agree with.

    Attributes:
        model: the class's name.
        num_images: how many were coded.
        num_bytes: size of the whole file, its header included.
        nll: mean of -log_prob of the same images, nats an image.
        conditional_nats: mean of -log of the conditionals as they are before an entry is known, nats an image: what an
            ideal coder needs. Where ``log_prob`` is right it is ``nll``, or above it where the file is a bound.
        largest_difference: of the two, over single images, in nats.
        bound_slack: nats an image by which the file of a right model may exceed ``nll``: the logarithm of the number of
            different orders, where a mixture over such is coded by the best order of each image; else 0.
        decoded_equal: whether decoding the file gave the images.
        encode_seconds, decode_seconds: how long it took.
    """

    model: str
    num_images: int
    num_bytes: int
    nll: float
    conditional_nats: float
    largest_difference: float
    bound_slack: float
    decoded_equal: bool
    encode_seconds: float
    decode_seconds: float

    @property
    def bits_per_image(self) -> float:
        """Size of the file, in bits an image."""
        return 8 * self.num_bytes / self.num_images

    @property
    def nats_per_image(self) -> float:
        """Size of the file, in nats an image."""
        return self.bits_per_image * math.log(2)

    @property
    def overhead(self) -> float:
        """How much larger the file is than the likelihood says: size / nll - 1."""
        return self.nats_per_image / self.nll - 1 if self.nll > 0 else math.inf

    @property
    def is_upper_bound(self) -> bool:
        """Whether the file of a right model may be larger than its likelihood says."""
        return self.bound_slack > 0

    @property
    def holds(self) -> bool:
        """Whether the images came back, and the file is as long as the likelihood says.

        Allowed are ``TOLERANCE`` of the NLL, header and end of the coder, and ``bound_slack``.
        """
        fixed = (8 * HEADER_BYTES + _CODER_BITS) * math.log(2) / self.num_images
        excess = self.nats_per_image - self.nll
        allowed = TOLERANCE * self.nll + fixed
        return self.decoded_equal and math.isfinite(self.nll) and -allowed <= excess <= allowed + self.bound_slack


@torch.no_grad()
def code_images(
    model: Model, images: Tensor, *, batch_size: int | None = None, progress: Progress = _quiet
) -> tuple[Receipt, bytes]:
    """Codes images, decodes the file, and compares its size with the model's ``log_prob`` of the same images.

    Args:
        model: an autoregressive model.
        images: (N, C, H, W) uint8.
        batch_size: images coded together; None takes what half a gigabyte holds.
        progress: told how far it is.

    Returns:
        The receipt, and the content of the file.

    Raises:
        Unsupported: the model has no conditionals.
        CodingError: images of another sample space, conditionals that are NaN, or constriction is not installed.
    """
    coder = _coder_of(model)
    assert isinstance(model, Autoregressive)
    started = time.monotonic()
    content, nats = _encode(coder, images, digest_of_model(model), batch_size, progress)
    encoded = time.monotonic()
    try:
        returned = _decode(coder, CodedFile.from_bytes(content), progress)
    except CodingError:  # what came out of a wrong conditional fits no other
        returned = torch.empty(0)
    decoded = time.monotonic()
    scorer = copy.deepcopy(model).eval()
    parts = [scorer.log_prob(part.to(model.device)).cpu().double() for part in torch.split(images, _SCORE_BATCH)]
    nll = -torch.cat(parts)
    receipt = Receipt(
        model=type(model).__name__,
        num_images=len(images),
        num_bytes=len(content),
        nll=nll.mean().item(),
        conditional_nats=nats.mean().item(),
        largest_difference=(nll - nats).abs().max().item(),
        bound_slack=math.log(len(families(model))),
        decoded_equal=torch.equal(returned, images.cpu()),
        encode_seconds=round(encoded - started, 3),
        decode_seconds=round(decoded - encoded, 3),
    )
    return receipt, content


@torch.no_grad()
def encode(model: Model, images: Tensor, *, batch_size: int | None = None, progress: Progress = _quiet) -> bytes:
    """Returns the content of a file from which ``decode`` and the same model give back the images.

    Arguments and errors are those of ``code_images``.
    """
    return _encode(_coder_of(model), images, digest_of_model(model), batch_size, progress)[0]


@torch.no_grad()
def decode(model: Model, content: bytes, *, progress: Progress = _quiet) -> Tensor:
    """Returns (N, C, H, W) uint8, from the content of a file and the model alone.

    The conditionals are computed in float64 and rounded, so that another machine, or another number of threads, hardly
    ever makes a difference; where it does, that is an error, and never another image.

    Raises:
        Unsupported: the model has no conditionals.
        CodingError: the file is of another kind, damaged or of another model, the conditionals were not the encoder's,
            or constriction is not installed.
    """
    coder = _coder_of(model)
    file = CodedFile.from_bytes(content)
    file.check_model(model)
    images = _decode(coder, file, progress)
    if check_of_images(images) != file.images_check:
        raise CodingError(
            "other images came out than were coded: the model's conditionals are not those that coded them; "
            "do they differ from call to call?"
        )
    return images


def _coder_of(model: Model) -> Autoregressive:
    """Returns a copy of the model, in float64 and in evaluation mode."""
    if not isinstance(model, Autoregressive):
        raise Unsupported(f"{type(model).__name__} has no conditionals to code by: it is not Autoregressive")
    copied = copy.deepcopy(model)
    if model.device.type == "mps":  # which has no float64
        copied = copied.cpu()
    return copied.double().eval()


def _frequencies(log_probs: Tensor) -> NDArray[np.float64]:
    """Maps (N, levels) nats to integers that are proportional to the probabilities, none of them zero."""
    return (log_probs.exp() / UNIT).round().clamp_min(1).numpy()


def _encode(
    model: Autoregressive, images: Tensor, digest: bytes, batch_size: int | None, progress: Progress
) -> tuple[bytes, Tensor]:
    """Returns the file, and the ideal length of each image's code, (N,) nats."""
    coder = _constriction()
    check_images(images, model.spec)
    images, found = images.cpu(), families(model)
    an_image = model.spec.levels * model.spec.num_dimensions * max(map(len, found))
    size = min(len(images), batch_size or max(1, _MAX_LOGITS // an_image))
    if size < 1:
        raise CodingError(f"batch_size must be at least 1, not {batch_size}")
    encoder = coder.stream.queue.RangeEncoder()
    family = coder.stream.model.Categorical(perfect=False)
    nats, flat = torch.zeros(len(images), dtype=torch.float64), images.flatten(1).long()

    def put(index: Tensor, values: Tensor, log_probs: Tensor) -> Tensor:
        encoder.encode(values.int().numpy(), family, _frequencies(log_probs))
        nats[index] -= log_probs.gather(1, values[:, None]).squeeze(1)
        return values

    def choose(index: Tensor, log_probs: Tensor) -> Tensor:
        parts = torch.split(images[index].to(model.device), _SCORE_BATCH)
        best = torch.cat([family_scores(model, part, found) for part in parts], 1).argmax(0)
        return put(index, best, log_probs)

    def exchange(index: Tensor, entry: int, log_probs: Tensor) -> Tensor:
        return put(index, flat[index, entry], log_probs)

    walk_batches(model, len(images), size, choose, exchange, partial(progress, "encode"))
    file = CodedFile(
        model.spec.shape, model.spec.levels, len(images), size, digest, check_of_images(images),
        encoder.get_compressed(),
    )  # fmt: skip
    return file.to_bytes(), nats


def _decode(model: Autoregressive, file: CodedFile, progress: Progress) -> Tensor:
    coder = _constriction()
    decoder = coder.stream.queue.RangeDecoder(file.words)
    family = coder.stream.model.Categorical(perfect=False)

    def get(log_probs: Tensor) -> Tensor:
        try:
            values = decoder.decode(family, _frequencies(log_probs))
        except AssertionError as error:
            raise CodingError("the file's words are none that the model's conditionals could have written") from error
        return torch.from_numpy(np.asarray(values)).long()

    return walk_batches(
        model, file.num_images, file.batch_size, lambda index, p: get(p), lambda index, entry, p: get(p),
        partial(progress, "decode"),
    )  # fmt: skip


def _constriction() -> Any:
    try:
        return importlib.import_module("constriction")
    except ImportError as error:
        raise CodingError("coding images needs a range coder: pip install 'genharness[coding]'") from error
