"""Gated PixelCNN for binary images: square kernels under masks, weight times mask at every forward pass, NCHW."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from harness_pixelcnn.gated_pixelcnn import GatedPixelCNN


class MaskedConv2d(nn.Conv2d):
    """A convolution that keeps the size of the image, under a mask (kernel height, kernel width)."""

    mask: Tensor

    def __init__(self, in_channels: int, out_channels: int, mask: Tensor, *, bias: bool = True) -> None:
        height, width = mask.shape
        super().__init__(in_channels, out_channels, (height, width), padding=(height // 2, width // 2), bias=bias)
        self.register_buffer("mask", mask)

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(x, self.weight * self.mask, self.bias, padding=self.padding)


def vertical_mask(kernel: int, *, first: bool) -> Tensor:
    """Rows above the pixel's own; in later layers, whose inputs know rows above alone, also its own row."""
    mask = torch.zeros(kernel, kernel)
    mask[: kernel // 2 + (not first)] = 1
    return mask


def horizontal_mask(kernel: int, *, first: bool) -> Tensor:
    """Columns to the left; in later layers also the pixel itself."""
    mask = torch.zeros(1, kernel)
    mask[:, : kernel // 2 + (not first)] = 1
    return mask


def gate(x: Tensor) -> Tensor:
    filtered, gates = x.chunk(2, dim=1)
    return torch.tanh(filtered) * torch.sigmoid(gates)


class GatedLayer(nn.Module):
    def __init__(self, in_channels: int, channels: int, kernel: int, *, first: bool) -> None:
        super().__init__()
        self.first = first
        self.vertical = MaskedConv2d(in_channels, 2 * channels, vertical_mask(kernel, first=first))
        self.link = nn.Conv2d(2 * channels, 2 * channels, 1)
        self.horizontal = MaskedConv2d(in_channels, 2 * channels, horizontal_mask(kernel, first=first), bias=False)
        self.output = nn.Conv2d(channels, channels, 1)

    def forward(self, vertical: Tensor, horizontal: Tensor) -> tuple[Tensor, Tensor]:
        above = self.vertical(vertical)
        new = self.output(gate(self.horizontal(horizontal) + self.link(above)))
        return gate(above), new if self.first else horizontal + new


class PlainGated(nn.Module):
    """The network of van den Oord et al. 2016, arXiv 1606.05328, two stacks; logits of binary images."""

    def __init__(self, *, channels: int, layers: int, kernel: int, head: int, first_kernel: int = 7) -> None:
        super().__init__()
        self.layers = nn.ModuleList([GatedLayer(1, channels, first_kernel, first=True)])
        self.layers.extend(GatedLayer(channels, channels, kernel, first=False) for _ in range(layers))
        self.hidden = nn.Conv2d(channels, head, 1)
        self.output = nn.Conv2d(head, 1, 1)

    def forward(self, images: Tensor) -> Tensor:
        """Maps (N, 1, H, W) float, zeros and ones, to logits (N, 1, H, W)."""
        vertical = horizontal = 2 * images - 1
        for layer in self.layers:
            vertical, horizontal = layer(vertical, horizontal)
        return self.output(F.relu(self.hidden(F.relu(horizontal))))

    def log_prob(self, images: Tensor) -> Tensor:
        """Maps (N, 1, H, W) uint8 to (N,) nats."""
        x = images.float()
        return -F.binary_cross_entropy_with_logits(self(x), x, reduction="none").sum((1, 2, 3))


def corresponding(model: GatedPixelCNN, plain: PlainGated) -> list[tuple[nn.Parameter, nn.Parameter]]:
    """Returns ours and theirs, parameter by parameter; a kernel of ours is the part of theirs that its mask leaves."""
    network = model.network
    modules = [(network.hidden, plain.hidden), (network.output, plain.output)]
    for ours, theirs in zip(network.layers, plain.layers, strict=True):
        modules += [
            (getattr(ours, name), getattr(theirs, name)) for name in ("vertical", "link", "horizontal", "output")
        ]
    pairs = []
    for ours, theirs in modules:
        pairs.append((ours.weight, theirs.weight))
        if ours.bias is not None:
            pairs.append((ours.bias, theirs.bias))
    return pairs


def part_of(theirs: Tensor, ours: Tensor) -> Tensor:
    """Returns the part of a masked kernel that a cropped one has: its first rows and columns."""
    return theirs if theirs.ndim == 1 else theirs[:, :, : ours.shape[2], : ours.shape[3]]


def plain_of(model: GatedPixelCNN) -> PlainGated:
    """Returns the plain formulation of a model of binary images with one channel, with its weights."""
    network = model.network
    assert model.spec.channels == 1
    assert model.spec.levels == 2
    plain = PlainGated(
        channels=len(network.layers[0].output.weight), layers=len(network.layers) - 1,
        kernel=network.layers[-1].vertical.weight.shape[-1], head=len(network.hidden.weight),
        first_kernel=network.layers[0].vertical.weight.shape[-1],
    )  # fmt: skip
    with torch.no_grad():
        for ours, theirs in corresponding(model, plain):
            part_of(theirs, ours).copy_(ours)
    return plain.eval()
