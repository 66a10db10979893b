"""Autoregressive decoders: a gated stack of PixelCNN that is told, in every layer, of what it is to draw."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from harness import ImageSpec, Noise
from harness_layers.gated_rows import GatedRows
from harness_layers.gated_stack import GatedStack
from harness_layers.pixels import entry_log_probs, level_counts, num_outputs, scale, smoothed_outputs
from harness_layers.rowwise import draw_by_rows

_DRAWN_TOGETHER = 500
_SCORED_TOGETHER = 6272  # entries: 8 images of 28x28, whose activations stay in a processor's caches


def halved(spec: ImageSpec, times: int) -> tuple[int, int]:
    """Returns the height and the width of an image that was halved so many times, rounded up."""
    return -(-spec.height // 2**times), -(-spec.width // 2**times)


def blocks(num_samples: int) -> list[int]:
    """Returns how many images are drawn together, one block after another."""
    return [min(_DRAWN_TOGETHER, num_samples - start) for start in range(0, num_samples, _DRAWN_TOGETHER)]


def in_parts(score: Callable[[Tensor, Tensor], Tensor], images: Tensor, latents: Tensor) -> Tensor:
    """Maps images (N, C, H, W) and latents (N, ...) to (N,): in parts, on a processor without gradients."""
    if images.device.type != "cpu" or torch.is_grad_enabled():
        return score(images, latents)
    size = max(1, _SCORED_TOGETHER // images[0].numel())
    return torch.cat([score(*part) for part in zip(torch.split(images, size), torch.split(latents, size), strict=True)])


class ConditionedStack(GatedStack):
    """A gated stack whose layers add what is linear in a condition, (N, M, H, W) or (N, M, 1, 1), to both stacks.

    Args:
        condition: M.
        channels, outputs, features, layers, kernel, head: see ``GatedStack``.
    """

    def __init__(self, channels: int, outputs: int, *, condition: int, features: int, layers: int, kernel: int,
                 head: int) -> None:  # fmt: skip
        super().__init__(channels, outputs, features=features, layers=layers, kernel=kernel, head=head)
        self.told = nn.ModuleList(nn.Conv2d(condition, 2 * features, 1, bias=False) for _ in self.layers)

    def biases(self, labels: Tensor | None) -> list[Tensor | None]:
        """Maps the condition (N, M, H, W) to the bias of every layer, (N, 2P, H, W), or (N, 2P, 1, 1) where it is."""
        return [layer(labels) for layer in self.told]


class ConditionedRows(GatedRows):
    """The rows of N images under their conditions (N, M, H, W) or (N, M, 1, 1): a row's own biases in every row."""

    def __init__(self, network: ConditionedStack, spec: ImageSpec, condition: Tensor) -> None:
        super().__init__(network, spec, len(condition), condition[..., :1, :1])
        self.network = network
        self.condition = condition.expand(-1, -1, spec.height, spec.width)
        self.next = torch.zeros(1, dtype=torch.int64, device=condition.device)  # a tensor: on CUDA, rows are replayed
        self.double = torch.cat([condition.new_full((self.features,), 2), condition.new_ones(self.features)])

    def begin_row(self) -> None:
        """Takes the biases of the next row, and goes there."""
        biases = self.network.biases(self.condition.index_select(2, self.next))
        self.next += 1
        for depth, (layer, bias) in enumerate(zip(self.network.layers, biases, strict=True)):
            assert bias is not None
            self.vertical_bias[depth] = (bias[:, :, 0].permute(2, 0, 1) + layer.vertical.bias) * self.double
        super().begin_row()  # (W, N, 2P) each


class Upsampler(nn.Module):
    """Latents to a map of the image's size: a start of a quarter of its height and width, and two steps up.

    Args:
        inputs: D, the width of the latents; or their number of maps, where they are the start.
        spec: the sample space.
        widths: maps of the start, of half the size, and of the size itself.
        dense: whether latents are vectors (N, D); else they are maps (N, D, ceil(H / 4), ceil(W / 4)).
    """

    def __init__(self, inputs: int, spec: ImageSpec, widths: tuple[int, int, int], *, dense: bool = True) -> None:
        super().__init__()
        self.sizes = [halved(spec, 1), halved(spec, 0)]
        quarter = halved(spec, 2)
        self.start = (
            nn.Sequential(nn.Linear(inputs, widths[0] * math.prod(quarter)), nn.Unflatten(1, (widths[0], *quarter)))
            if dense
            else nn.Conv2d(inputs, widths[0], 3, padding=1)
        )
        self.steps = nn.ModuleList(nn.ConvTranspose2d(*pair, 4, stride=2, padding=1) for pair in pairwise(widths))

    def forward(self, latents: Tensor) -> Tensor:
        """Maps (N, D) or (N, D, h, w) to (N, widths[2], H, W)."""
        maps: Tensor = F.elu(self.start(latents)).contiguous(memory_format=torch.channels_last)
        for step, (height, width) in zip(self.steps, self.sizes, strict=True):
            maps = F.elu(step(maps)[..., :height, :width])
        return maps


class Downsampler(nn.Sequential):
    """Maps (N, C, H, W) to (N, widths[1], ceil(H / 4), ceil(W / 4)): two steps down and a convolution there."""

    def __init__(self, channels: int, widths: tuple[int, int]) -> None:
        super().__init__(
            nn.Conv2d(channels, widths[0], 5, stride=2, padding=2), nn.ELU(),
            nn.Conv2d(widths[0], widths[1], 3, stride=2, padding=1), nn.ELU(),
            nn.Conv2d(widths[1], widths[1], 3, padding=1), nn.ELU(),
        )  # fmt: skip


class PixelDecoder(nn.Module):
    """p(x | condition) of integer images, a product of conditionals in raster order.

    Args:
        spec: the sample space.
        condition: M, the number of maps of a condition.
        features, layers, kernel, head: see ``GatedStack``.
    """

    def __init__(self, spec: ImageSpec, *, condition: int, features: int, layers: int, kernel: int, head: int) -> None:
        super().__init__()
        self.spec = spec
        self.network = ConditionedStack(
            spec.channels, num_outputs(spec), condition=condition, features=features, layers=layers, kernel=kernel,
            head=head,
        )  # fmt: skip

    @torch.no_grad()
    def start_from(self, images: Tensor) -> None:
        """Sets the outputs' biases to the frequencies of levels in images (M, C, H, W) uint8."""
        counts = level_counts(images, self.spec.levels).sum((2, 3)).T
        assert self.network.output.bias is not None
        self.network.output.bias.copy_(smoothed_outputs(counts).flatten())

    def log_prob(self, images: Tensor, condition: Tensor) -> Tensor:
        """Maps (N, C, H, W) uint8 and conditions (N, M, H, W) or (N, M, 1, 1) to (N,) nats."""
        scaled = scale(images, self.spec.levels, condition.dtype).contiguous(memory_format=torch.channels_last)
        return entry_log_probs(self.network(scaled, condition), images, self.spec).flatten(1).sum(1)

    def draw(self, condition: Tensor, noise: Noise) -> Tensor:
        """Maps conditions of N images and their noise to (N, C, H, W) uint8, drawn entry by entry."""
        return draw_by_rows(ConditionedRows(self.network, self.spec, condition), self.spec, noise)
