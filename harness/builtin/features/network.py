"""Feature networks by name, as in a metric's name, and what all of them need."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

import platformdirs
from torch import Tensor

from harness import Evaluation, FeatureNetwork, ImageSpec, Unsupported

LENET = "lenet"


class Pixels(FeatureNetwork):
    """Images scaled to [0, 1], flattened: the distance of distributions of pixels, blind to what the pixels show."""

    name = "pixels"
    digest = "none"

    def __init__(self, spec: ImageSpec) -> None:
        self.num_features = spec.num_dimensions

    def __call__(self, images: Tensor, spec: ImageSpec) -> Tensor:
        """Maps (N, C, H, W) uint8 to (N, C H W) float64, value / (levels - 1)."""
        return images.flatten(1).double() / (spec.levels - 1)


def default_feature_folder() -> Path:
    """Returns where trained networks are kept if no folder is named: in the user's cache."""
    return platformdirs.user_cache_path("genharness") / "features"


def load_network(name: str, evaluation: Evaluation) -> FeatureNetwork:
    """Returns a network, made at its first use: trained, read or downloaded.

    It is ``pixels``, ``inception``, ``lenet`` (trained on the evaluation's own dataset) or ``lenet-<dataset>``.

    Raises:
        Unsupported: the network cannot be made, or is not for these images; the message says why.
        ValueError: no such network or dataset.
    """
    name = f"{LENET}-{evaluation.data.name}" if name == LENET else name
    if name == "pixels":
        return evaluation.network(name, lambda: Pixels(evaluation.data.spec))
    if name == "inception":
        return evaluation.network(name, lambda: _inception(evaluation))
    if name.startswith(f"{LENET}-"):
        return evaluation.network(name, lambda: _lenet(name, evaluation))
    raise ValueError(f"feature network {name!r} is none of pixels, inception, lenet and lenet-<dataset>")


def _inception(evaluation: Evaluation) -> FeatureNetwork:
    from harness.builtin.features.inception import InceptionFeatures, load_inception

    return InceptionFeatures(load_inception(evaluation.data_folder), evaluation.device)


def _lenet(name: str, evaluation: Evaluation) -> FeatureNetwork:
    from harness.builtin.features.lenet import LeNetFeatures, stored_lenet

    data, dataset = evaluation.data, name.removeprefix(f"{LENET}-")
    if dataset != data.name:
        if evaluation.load_dataset is None:
            raise ValueError(f"{name}: this evaluation has no load_dataset to load {dataset!r} with")
        data = evaluation.load_dataset(dataset)
    refuse_other_shape(name, data.spec.shape, evaluation.data.spec)
    folder = evaluation.feature_folder or default_feature_folder()
    return LeNetFeatures(data.name, stored_lenet(data, folder), evaluation.device)


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
