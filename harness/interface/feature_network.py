"""The interface of a feature network: what turns images into the vectors that FID and its kin compare."""

from __future__ import annotations

from abc import ABC, abstractmethod

from torch import Tensor

from harness.interface.spec import ImageSpec


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
