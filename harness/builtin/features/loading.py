"""From the name of a feature network, as in a metric's name, to the network for one evaluation."""

from __future__ import annotations

from pathlib import Path

import platformdirs
from torch import Tensor

from harness import Dataset, Evaluation, FeatureNetwork, ImageSpec
from harness.builtin.features.lenet import LeNetFeatures, stored_lenet
from harness.builtin.features.network import refuse_other_shape

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

    Args:
        name: ``pixels``, ``inception``, ``lenet`` (trained on the evaluation's own dataset) or ``lenet-<dataset>``.
        evaluation: says which images, on which device, and where networks are kept.

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
    data = _dataset(name.removeprefix(f"{LENET}-"), evaluation)
    refuse_other_shape(name, data.spec.shape, evaluation.data.spec)
    trained = stored_lenet(data, evaluation.feature_folder or default_feature_folder())
    return LeNetFeatures(data.name, trained, evaluation.device)


def _dataset(name: str, evaluation: Evaluation) -> Dataset:
    if name == evaluation.data.name:
        return evaluation.data
    if evaluation.load_dataset is None:
        raise ValueError(f"lenet-{name}: this evaluation has no load_dataset to load {name!r} with")
    return evaluation.load_dataset(name)
