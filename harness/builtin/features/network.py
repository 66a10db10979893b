"""Feature networks by name, as in a metric's name, and what all of them need."""

import hashlib
from abc import abstractmethod
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from harness import Evaluation, FeatureNetwork, ImageSpec, Unsupported
from harness.builtin.features import ENTRIES


class Pixels(FeatureNetwork):
    """Images scaled to [0, 1], flattened: the distance of distributions of pixels, blind to what the pixels show."""

    name = "pixels"
    digest = "none"

    def __init__(self, spec: ImageSpec) -> None:
        self.num_features = spec.num_dimensions

    def __call__(self, images: Tensor, spec: ImageSpec) -> Tensor:
        """Maps (N, C, H, W) uint8 to (N, C H W) float64, value / (levels - 1)."""
        return images.flatten(1).double() / (spec.levels - 1)


class TorchFeatures(FeatureNetwork):
    """What a torch network on a device makes of images, some at a time. A subclass gives ``features``.

    Class attributes:
        batch_size: how many images go through at a time.

    Args:
        net: the network with its weights, of whose ``state_dict`` the digest is.
        device: where it computes.
    """

    batch_size: int

    def __init__(self, net: nn.Module, device: torch.device) -> None:
        self.digest = weights_digest(net.state_dict())
        self.net, self.device = net.to(device).eval(), device

    @torch.no_grad()
    def __call__(self, images: Tensor, spec: ImageSpec) -> Tensor:
        """Maps (N, C, H, W) uint8 to (N, D) float32; images of a shape that the network is not for are Unsupported."""
        batches = torch.split(images, self.batch_size)
        return torch.cat([self.features(batch.to(self.device), spec).cpu() for batch in batches])

    @abstractmethod
    def features(self, images: Tensor, spec: ImageSpec) -> Tensor:
        """Maps (N, C, H, W) uint8 to (N, D), both on the device; Unsupported if the network is not for such images."""


def scaled(images: Tensor, spec: ImageSpec) -> Tensor:
    """Maps uint8 to float32 in [0, 1]."""
    return images.to(torch.float32) / (spec.levels - 1)


def pixels(evaluation: Evaluation) -> Pixels:
    """Returns the network for an evaluation's images."""
    return Pixels(evaluation.data.spec)


def load_network(name: str, evaluation: Evaluation) -> FeatureNetwork:
    """Returns a network, made at its first use: trained, read or downloaded; Unsupported says why that cannot be.

    It is ``pixels``, ``inception``, ``lenet`` (trained on the evaluation's own dataset), ``lenet-<dataset>``, or what a
    plugin registers.
    """
    name = f"lenet-{evaluation.data.name}" if name == "lenet" else name
    return evaluation.network(name, lambda: _make(name, evaluation))


def _make(name: str, evaluation: Evaluation) -> FeatureNetwork:
    for entry in ENTRIES:
        if (arguments := entry.match(name)) is not None:
            made: FeatureNetwork = entry.load()(evaluation, **arguments)
            return made
    if evaluation.load_network is None:
        known = ", ".join(entry.display_name for entry in ENTRIES)
        raise ValueError(f"feature network {name!r} is none of {known}, and this evaluation has no load_network")
    return evaluation.load_network(name, evaluation)


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
        wanted, given = (f"{h}x{w} and {c} channel{'s' if c > 1 else ''}" for c, h, w in (expected, spec.shape))
        raise Unsupported(f"{name} is for images of {wanted}, these are of {given}")
