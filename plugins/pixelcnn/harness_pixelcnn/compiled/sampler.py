"""Raster samples of a gated stack by a compiled kernel: every activation once, a whole image in one call."""

from __future__ import annotations

import ctypes
import logging
import os
from functools import cache, lru_cache
from pathlib import Path

import torch
from torch import Tensor

from harness import ImageSpec, Noise, SamplingTrace
from harness_layers.gated_stack import GatedStack
from harness_layers.rowwise import check_known
from harness_pixelcnn.compiled.compilation import CACHE, SWITCH, CompilationError, load_library
from harness_pixelcnn.compiled.packing import NetworkStruct, checked, packed_for, pointer
from harness_pixelcnn.gated_pixelcnn import GatedPixelCNN
from harness_pixelcnn.gated_samplers import cached, labels_drawn

log = logging.getLogger("harness")

SOURCE = Path(__file__).with_name("gated.cpp")

_IMAGES_A_THREAD = 32  # more do not make it faster, and take more memory; between calls an interrupt gets through


class _Batch(ctypes.Structure):
    _fields_ = (
        ("images", ctypes.c_int64),
        *[(name, ctypes.c_void_p) for name in ("gumbel", "labels", "known", "mask", "drawn")],
    )


@torch.no_grad()
def compiled(model: GatedPixelCNN, num_samples: int, /, *, noise: Noise | None = None, known: Tensor | None = None,
             mask: Tensor | None = None, trace: SamplingTrace | None = None) -> Tensor:  # fmt: skip
    """Draws by the kernel, and by the sampler ``cached`` where it cannot be had; see ``harness.Sampler``."""
    noise = model.draw_noise(num_samples) if noise is None else noise
    drawn = draw_compiled(
        model.network, model.spec, noise, labels_drawn(model, noise), known=known, mask=mask, trace=trace
    )
    return cached(model, num_samples, noise=noise, known=known, mask=mask, trace=trace) if drawn is None else drawn


def draw_compiled(network: GatedStack, spec: ImageSpec, noise: Noise, labels: Tensor | None = None, *,
                  known: Tensor | None = None, mask: Tensor | None = None,
                  trace: SamplingTrace | None = None) -> Tensor | None:  # fmt: skip
    """Draws images in raster order, by x_k = argmax_v (logit_v + gumbel_v), as the raster sampler does.

    The kernel runs on as many threads as torch does; a thread draws images of its own.

    Args:
        network: the stack.
        spec: the sample space.
        noise: the randomness of N images.
        labels: (N,) int64 for a class-conditional stack.
        known, mask: pixels to clamp, see ``harness.Sampler``.
        trace: gets D network evaluations, each for one entry alone, and a sequential depth of D.

    Returns:
        (N, C, H, W) uint8; None where the kernel cannot be had, of which the log says why, once for each reason.

    Raises:
        ValueError: one of ``known`` and ``mask`` without the other, noise for other images, or a label out of range.
        MemoryError: there is not enough memory.
    """
    check_known(known, mask)
    weight = network.layers[0].vertical.weight
    reason = checked([("weights", weight), ("noise", noise.gumbel)])
    if reason is not None:
        _say(reason)
        return None
    library = _library(*(os.environ.get(name) for name in (SWITCH, CACHE, "CXX")))
    if isinstance(library, str):
        _say(library)
        return None
    shape = (len(noise.gumbel), *spec.shape)
    gumbel, labels = _checked(network, spec, noise, labels)
    packed = packed_for(network, spec, library.harness_panel(), given=labels is not None)
    images = torch.empty(shape, dtype=torch.uint8)
    if known is not None and mask is not None:
        known = known.to("cpu", torch.uint8).expand(shape).contiguous()
        mask = mask.to("cpu", torch.uint8).expand(shape).contiguous()
    threads = torch.get_num_threads()
    step = _IMAGES_A_THREAD * threads
    for start in range(0, len(images), step):
        part = slice(start, min(start + step, len(images)))
        pieces = [None if whole is None else whole[part] for whole in (gumbel, labels, known, mask, images)]
        batch = _Batch(part.stop - start, *[pointer(piece) for piece in pieces])
        if library.harness_draw(ctypes.byref(packed.struct), ctypes.byref(batch), threads):
            raise MemoryError(f"not enough memory to draw {part.stop - start} images at once")
    if trace is not None:
        trace.network_evaluations += spec.num_dimensions
        trace.sequential_depth += spec.num_dimensions
    return images


def _checked(network: GatedStack, spec: ImageSpec, noise: Noise, labels: Tensor | None) -> tuple[Tensor, Tensor | None]:
    """Returns the noise and the labels as the kernel reads them, without looking at what it is given."""
    gumbel, expected = noise.gumbel, (spec.levels, *spec.shape)
    if tuple(gumbel.shape[1:]) != expected:
        raise ValueError(f"noise has the shape {tuple(gumbel.shape)}, not (N, {', '.join(map(str, expected))})")
    if labels is None or network.classes is None:
        return gumbel.contiguous(), None
    labels = labels.to("cpu", torch.int64).contiguous()
    if tuple(labels.shape) != (len(gumbel),):
        raise ValueError(f"labels have the shape {tuple(labels.shape)}, not ({len(gumbel)},)")
    outside = (labels < 0) | (labels >= len(network.classes))
    if outside.any():
        raise ValueError(f"labels must be below {len(network.classes)}, not {labels[outside][0].item()}")
    return gumbel.contiguous(), labels


@lru_cache(maxsize=8)
def _library(*_settings: str | None) -> ctypes.CDLL | str:
    """Returns the kernel under the environment's settings, or why there is none: found out once for each."""
    try:
        library = load_library(SOURCE)
    except CompilationError as error:
        return str(error)
    library.harness_panel.restype = ctypes.c_int64
    library.harness_panel.argtypes = []
    library.harness_draw.restype = ctypes.c_int
    library.harness_draw.argtypes = [ctypes.POINTER(NetworkStruct), ctypes.POINTER(_Batch), ctypes.c_int64]
    return library


@cache
def _say(reason: str) -> None:
    """Logs a reason, the first time that there is one."""
    log.warning("no compiled sampler: %s; images are drawn by the cached sampler", reason)
