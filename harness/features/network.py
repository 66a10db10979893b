"""The interface of a feature network, and what all of them need."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path

import platformdirs
from torch import Tensor

from harness import ImageSpec, Unsupported


class FeatureNetwork(ABC):
    """A fixed map from images to vectors.

    Attributes:
        name: as in a metric's name, resolved: ``lenet-digits``, never plain ``lenet``.
        num_features: D.
        digest: names the map: networks of one digest give the same features. SHA-256 of the weights, in hexadecimal,
            or ``none`` where there are none.
    """

    name: str
    num_features: int
    digest: str

    @abstractmethod
    def __call__(self, images: Tensor, spec: ImageSpec) -> Tensor:
        """Maps (N, C, H, W) uint8, on any device, to (N, D) float32 or float64; images go through in batches.

        Raises:
            Unsupported: the network is for images of another shape than the spec's.
        """

    def protocol(self) -> dict[str, str]:
        """Returns what makes two figures with this network comparable."""
        return {
            "features": f"{self.name}, {self.num_features} dimensions",
            "network digest": self.digest[:16],
            "resize": "none",
        }


def weights_digest(tensors: Mapping[str, Tensor]) -> str:
    """Returns the SHA-256 of names, types, shapes and content, in hexadecimal; the order does not matter."""
    sha = hashlib.sha256()
    for name in sorted(tensors):
        value = tensors[name].detach().cpu().contiguous()
        sha.update(f"{name} {value.dtype} {tuple(value.shape)}\n".encode())
        sha.update(value.numpy().tobytes())
    return sha.hexdigest()


def default_feature_folder() -> Path:
    """Returns where trained networks are kept if no folder is named: in the user's cache."""
    return platformdirs.user_cache_path("genharness") / "features"


def refuse_other_shape(name: str, expected: tuple[int, int, int], spec: ImageSpec) -> None:
    """Raises Unsupported unless images of ``spec`` have the shape ``expected``, (C, H, W)."""
    if spec.shape != expected:
        raise Unsupported(f"{name} is for images of {_text(expected)}, these are of {_text(spec.shape)}")


def _text(shape: tuple[int, int, int]) -> str:
    channels, height, width = shape
    return f"{height}x{width} and {channels} channel{'s' if channels > 1 else ''}"
