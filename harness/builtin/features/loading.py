"""From the name of a feature network, as in a metric's name, to the network for one evaluation."""

from __future__ import annotations

from harness import Dataset, Evaluation, FeatureNetwork
from harness.builtin.features.lenet import LeNetFeatures
from harness.builtin.features.network import default_feature_folder, refuse_other_shape
from harness.builtin.features.pixels import Pixels

LENET = "lenet"


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
    from harness.builtin.features.inception import InceptionFeatures
    from harness.builtin.features.inception_weights import load_inception

    return InceptionFeatures(load_inception(evaluation.data_folder), evaluation.device)


def _lenet(name: str, evaluation: Evaluation) -> FeatureNetwork:
    from harness.builtin.features.store import stored_lenet

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
