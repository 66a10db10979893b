"""A coding receipt: images losslessly coded by a model's own conditionals. Nobody can argue with a file size.

The range coder (Martin 1979) is constriction's (Bamler 2022, arXiv 2201.01741), with words of 32 bits. Probabilities
are computed in float64 and rounded to integers of the unit ``UNIT``, at least one for every value, so that encoder and
decoder agree even where they round differently on the way. That costs some ``levels`` UNIT / ln 2 bits for each entry:
1e-5 bits for a binary one, 0.0014 for one of 256 levels. The coder's own overhead is at most 64 bits for each file, the
header's ``HEADER_BYTES``.
"""

import copy
import hashlib
import importlib
import math
import struct
import time
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from harness.interface.model import Autoregressive, Model, Unsupported

TOLERANCE = 0.01  # a file agrees with the likelihood where their sizes differ by no more than this share
# Of probabilities: coarse beside the error of float64, so that a rounding hardly ever falls on another side
UNIT = 2.0**-18
_MAGIC, _VERSION = b"genhcode", 1
# Magic, version, C, H, W, levels, how many images, how many at a time, how many words, digest, checksum of images
_FIELDS = struct.Struct("<8sHHHHHIII8sI")
_CHECK = struct.Struct("<I")  # of all the rest, header and words
HEADER_BYTES = _FIELDS.size + _CHECK.size
_CODER_BITS = 64
_MAX_LOGITS = 2**26  # of one batch: half a gigabyte of float64
_SCORE_BATCH = 250

Progress = Callable[[str, float], None]  # told ``encode`` or ``decode``, and which part of it is done
Exchange = Callable[[Tensor, int, Tensor], Tensor]
"""Maps the numbers of images (n,), a symbol's number and its log-probabilities (n, values) to its values (n,) int64.

Symbols are the entries of an image, and after them the family in whose steps it is coded.
"""


class CodingError(ValueError):
    """A file that cannot be decoded: damaged, of another kind, or of another model; or a model that cannot code."""


@dataclass(frozen=True)
class Receipt:
    """The size of a file beside the likelihood that it is to agree with.

    Attributes:
        num_bytes: size of the whole file, its header included.
        nll: mean of -log_prob of the same images, nats an image.
        conditional_nats: mean of -log of the conditionals as they are before an entry is known, nats an image: what an
            ideal coder needs. Where ``log_prob`` is right it is ``nll``, or above it where the file is a bound.
        largest_difference: of the two, over single images, in nats.
        bound_slack: nats an image by which the file of a right model may exceed ``nll``: the logarithm of the number of
            different orders, where a mixture over such is coded by the best order of each image; else 0.
        decoded_equal: whether decoding the file gave the images.
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
    model: Model, images: Tensor, *, batch_size: int | None = None, progress: Progress = lambda stage, fraction: None
) -> tuple[Receipt, bytes]:
    """Codes images, decodes the file, and compares its size with the model's ``log_prob`` of the same images.

    ``images`` are (N, C, H, W) uint8; ``batch_size`` are coded together, None takes what half a gigabyte holds;
    ``progress`` is told how far it is. Returns the receipt, and the content of the file. A ``model`` without
    conditionals is ``Unsupported``; images of another sample space, conditionals that are NaN, and constriction not
    installed are ``CodingError``.
    """
    started = time.monotonic()
    content, nats = encode(model, images, batch_size=batch_size, progress=progress)
    encoded = time.monotonic()
    try:
        returned = decode(model, content, progress=progress)
    except CodingError:  # what came out of a wrong conditional fits no other
        returned = torch.empty(0)
    decoded = time.monotonic()
    scorer = copy.deepcopy(model).eval()
    assert isinstance(scorer, Autoregressive)
    parts = [scorer.log_prob(part.to(model.device)).cpu().double() for part in torch.split(images, _SCORE_BATCH)]
    nll = -torch.cat(parts)
    receipt = Receipt(
        model=type(model).__name__, num_images=len(images), num_bytes=len(content), nll=nll.mean().item(),
        conditional_nats=nats.mean().item(), largest_difference=(nll - nats).abs().max().item(),
        bound_slack=math.log(len(families(scorer))), decoded_equal=torch.equal(returned, images.cpu()),
        encode_seconds=round(encoded - started, 3), decode_seconds=round(decoded - encoded, 3),
    )  # fmt: skip
    return receipt, content


@torch.no_grad()
def encode(
    model: Model, images: Tensor, *, batch_size: int | None = None, progress: Progress = lambda stage, fraction: None
) -> tuple[bytes, Tensor]:
    """Returns the content of a file, and the ideal length of each image's code, (N,) nats; see ``code_images``."""
    coder, stream, spec = _coder_of(model), _stream(), model.spec
    if images.ndim != 4 or tuple(images.shape[1:]) != spec.shape or images.dtype != torch.uint8:
        wanted = f"(N, {', '.join(map(str, spec.shape))}) uint8"
        raise CodingError(f"images must be {wanted}, not {tuple(images.shape)} {images.dtype}")
    if len(images) == 0:
        raise CodingError("there is no image to code")
    if int(images.max()) >= spec.levels:
        raise CodingError(f"an image holds the value {int(images.max())}, the model knows 0 to {spec.levels - 1}")
    images, found = images.cpu(), families(coder)
    an_image = spec.levels * spec.num_dimensions * max(map(len, found))
    size = min(len(images), batch_size or max(1, _MAX_LOGITS // an_image))
    if size < 1:
        raise CodingError(f"batch_size must be at least 1, not {batch_size}")
    best = torch.cat([_best_families(coder, part, found) for part in torch.split(images, _SCORE_BATCH)])
    symbols = torch.cat([images.flatten(1).long(), best[:, None]], 1)
    encoder, categorical = stream.queue.RangeEncoder(), stream.model.Categorical(perfect=False)
    nats = torch.zeros(len(images), dtype=torch.float64)

    def put(index: Tensor, symbol: int, log_probs: Tensor) -> Tensor:
        values = symbols[index, symbol]
        encoder.encode(values.int().numpy(), categorical, _frequencies(log_probs))
        nats[index] -= log_probs.gather(1, values[:, None]).squeeze(1)
        return values

    _walk(coder, len(images), size, put, partial(progress, "encode"))
    words = encoder.get_compressed()
    sums = _digest_of(model), zlib.crc32(images.numpy().tobytes())
    head = _FIELDS.pack(_MAGIC, _VERSION, *spec.shape, spec.levels, len(images), size, len(words), *sums)
    body = words.astype("<u4").tobytes()
    return head + _CHECK.pack(zlib.crc32(head + body)) + body, nats


@torch.no_grad()
def decode(model: Model, content: bytes, *, progress: Progress = lambda stage, fraction: None) -> Tensor:
    """Returns (N, C, H, W) uint8, from the content of a file and the model alone; see ``code_images``.

    The conditionals are computed in float64 and rounded, so that another machine, or another number of threads, hardly
    ever makes a difference; where it does, that is a ``CodingError``, and never another image.
    """
    coder, (fields, words) = _coder_of(model), _read(content)
    *space, num_images, batch_size, _, digest, check = fields
    held, known = (
        f"{'x'.join(map(str, of[:3]))} entries of {of[3]} levels"
        for of in (space, (*model.spec.shape, model.spec.levels))
    )
    if held != known:
        raise CodingError(f"the file holds images of {held}, the model is of {known}")
    if digest != _digest_of(model):
        raise CodingError("the images were coded by another model, or by other weights of this one")
    stream = _stream()
    decoder, categorical = stream.queue.RangeDecoder(words), stream.model.Categorical(perfect=False)

    def get(index: Tensor, symbol: int, log_probs: Tensor) -> Tensor:
        try:
            values = decoder.decode(categorical, _frequencies(log_probs))
        except AssertionError as error:
            raise CodingError("the file's words are none that the model's conditionals could have written") from error
        return torch.from_numpy(np.asarray(values)).long()

    images = _walk(coder, num_images, batch_size, get, partial(progress, "decode"))
    if zlib.crc32(images.numpy().tobytes()) != check:
        why = "the model's conditionals are not those that coded them; do they differ from call to call?"
        raise CodingError(f"other images came out than were coded: {why}")
    return images


def _coder_of(model: Model) -> Autoregressive:
    """Returns a copy of the model, in float64 and in evaluation mode."""
    if not isinstance(model, Autoregressive):
        raise Unsupported(f"{type(model).__name__} has no conditionals to code by: it is not Autoregressive")
    copied = copy.deepcopy(model)
    return (copied.cpu() if model.device.type == "mps" else copied).double().eval()  # MPS has no float64


def _stream() -> Any:
    try:
        return importlib.import_module("constriction").stream
    except ImportError as error:
        raise CodingError("coding images needs a range coder: pip install 'genharness[coding]'") from error


def _frequencies(log_probs: Tensor) -> NDArray[np.float64]:
    """Maps (N, levels) nats to integers that are proportional to the probabilities, none of them zero."""
    return (log_probs.exp() / UNIT).round().clamp_min(1).numpy()


def families(model: Autoregressive) -> list[list[int]]:
    """Returns the members of the mixture over orderings, those that draw their entries in the same steps together."""
    found: dict[bytes, list[int]] = {}
    for member in range(model.num_orderings):
        found.setdefault(model.generation_steps(member).cpu().numpy().tobytes(), []).append(member)
    return list(found.values())


def _best_families(model: Autoregressive, images: Tensor, found: Sequence[list[int]]) -> Tensor:
    """Returns the family of each image (N,) that has the largest part in the mixture's probability."""
    if len(found) == 1:
        return torch.zeros(len(images), dtype=torch.int64)
    orderings, images = range(model.num_orderings), images.to(model.device)
    scores = torch.stack([model.conditional_log_probs(images, member).flatten(1).sum(1) for member in orderings])
    return torch.stack([scores[members].double().logsumexp(0) for members in found]).cpu().argmax(0)


def _walk(
    model: Autoregressive, num_images: int, batch_size: int, exchange: Exchange, progress: Callable[[float], None]
) -> Tensor:
    """Walks images (N, C, H, W) in batches, each in the steps of a family; coders differ in ``exchange`` alone."""
    found, size = families(model), model.spec.num_dimensions
    prior = (torch.tensor([len(members) for members in found]).double() / model.num_orderings).log()
    images, done = torch.zeros(num_images, *model.spec.shape, dtype=torch.uint8), 0

    def told(index: Tensor, entry: int, log_probs: Tensor) -> Tensor:
        nonlocal done
        values = exchange(index, entry, log_probs)
        done += len(index)
        progress(done / (num_images * size))
        return values

    for batch in torch.split(torch.arange(num_images), batch_size):
        several = len(found) > 1
        chosen = exchange(batch, size, prior.expand(len(batch), -1)) if several else torch.zeros_like(batch)
        for number, members in enumerate(found):
            index = batch[chosen == number]
            if len(index):
                images[index] = _walk_family(model, members, len(index), partial(told, index))
    return images


def _walk_family(
    model: Autoregressive, members: Sequence[int], num_images: int, exchange: Callable[[int, Tensor], Tensor]
) -> Tensor:
    """Goes through ``num_images`` images in the order of ``members``, which draw their entries in the same steps.

    An entry's distribution is that of the equal mixture of the members, given all entries before it:

        p(x_k | x_<k) = sum_m w_m p_m(x_k | x_<k),   w_m ~ p_m(x_<k),

    so that the product over entries is the mean of the members' products, exactly. Entries of one step come one after
    another too: given the member they are independent, given the mixture they are not.

    The network sees the entries that are coded, and in place of the others a guess: zeros at first, then the likeliest
    values by the conditionals that it gave before. As long as the entries that are coded are those that it saw, it need
    not be asked again (forecasting, Wiggers & Hoogeboom 2020, arXiv 2002.09928). The image has no part in a guess.
    """
    images = torch.zeros(num_images, model.spec.num_dimensions, dtype=torch.uint8)  # what is coded, and a guess
    seen = torch.zeros_like(images)  # what the network saw
    logits: Tensor | None = None  # (members, N, levels, D)
    log_weights = torch.zeros(len(members), num_images, dtype=torch.float64)
    outdated = torch.ones(num_images, dtype=torch.bool)
    steps = model.generation_steps(members[0]).cpu().flatten()
    for step in torch.unique(steps, sorted=True).tolist():
        rows = outdated.nonzero().squeeze(1)
        if len(rows):
            seen[rows] = images[rows]
            inputs = images[rows].view(-1, *model.spec.shape).to(model.device)
            fresh = torch.stack([model.conditional_logits(inputs, member).flatten(2).cpu() for member in members])
            if logits is None:
                logits = torch.empty_like(fresh)
            logits[:, rows] = fresh
            images[rows] = torch.where(steps < step, images[rows], fresh[0].argmax(1).to(torch.uint8))
        assert logits is not None
        outdated[:] = False
        for entry in (steps == step).nonzero().squeeze(1).tolist():
            log_probs = logits[..., entry].double().log_softmax(2)  # (members, N, levels)
            posterior = log_weights.log_softmax(0)  # (members, N), NaN where no member gave an image any probability
            posterior = posterior.nan_to_num(-math.log(len(members)), neginf=-math.inf)
            mixed = (log_probs + posterior[..., None]).logsumexp(0)  # (N, levels)
            if bool(mixed.isnan().any()):
                raise CodingError(f"the conditional of entry {entry} is NaN: nothing can be coded by it")
            values = exchange(entry, mixed)  # (N,)
            log_weights += log_probs.gather(2, values.expand(len(members), -1)[..., None]).squeeze(2)
            images[:, entry] = values.to(torch.uint8)
            outdated |= images[:, entry] != seen[:, entry]
    return images.view(-1, *model.spec.shape)


def _read(content: bytes) -> tuple[list[Any], NDArray[np.uint32]]:
    """Returns the fields of a file's header behind the version, and the range coder's words (n,)."""
    if content[: len(_MAGIC)] != _MAGIC:
        raise CodingError("not a file of coded images: it does not begin with genhcode")
    if len(content) < HEADER_BYTES:
        raise CodingError(f"the file of coded images is cut off: {len(content)} bytes, its header alone has more")
    head, body = content[: _FIELDS.size], content[HEADER_BYTES:]
    _, version, *fields = _FIELDS.unpack(head)
    if version != _VERSION:
        raise CodingError(f"the file of coded images has version {version}; this harness reads {_VERSION}")
    expected = HEADER_BYTES + 4 * fields[6]
    if len(content) < expected:
        raise CodingError(f"the file of coded images is cut off: it has {len(content)} bytes of {expected}")
    if len(content) > expected or (zlib.crc32(head + body),) != _CHECK.unpack_from(content, _FIELDS.size):
        raise CodingError("the file of coded images is damaged: its checksum does not agree with its content")
    return fields, np.frombuffer(body, dtype="<u4").astype(np.uint32)


def _digest_of(model: Model) -> bytes:
    """Returns eight bytes of the SHA-256 of a model's class name, precision and ``state_dict``."""
    sha = hashlib.sha256(f"{type(model).__qualname__} {model.dtype}".encode())
    for name, value in sorted(model.state_dict().items()):
        sha.update(f"{name} {tuple(value.shape)} {value.dtype}".encode())
        sha.update(value.detach().cpu().flatten().contiguous().view(torch.uint8).numpy().tobytes())
    return sha.digest()[:8]
