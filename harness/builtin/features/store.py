"""Where trained classifiers are kept: one safetensors file each, shipped, or trained by whoever needs it first.

Two machines that train the same classifier find weights that differ in their last bits, and so do features and figures.
The classifiers of the committed boards therefore lie beside this module, and every machine uses those.
"""

from __future__ import annotations

import logging
import re
from pathlib import Path

from filelock import FileLock
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from harness import CheckpointError, Dataset, digest_of, put_weights, write_atomically
from harness.builtin.features.lenet import RECIPE, TrainedLeNet, check_trainable, new_lenet, train_lenet

log = logging.getLogger("harness")

SHIPPED = Path(__file__).parent / "weights"


def stored_lenet(data: Dataset, folder: Path) -> TrainedLeNet:
    """Returns the classifier of a dataset: the shipped one, else from its file in ``folder``, or trained now and kept.

    The file's name holds the dataset's name and a digest of the recipe and of the data. Processes that want the same
    one wait for the first. A file that is damaged, or that another recipe or other data made, is trained anew.

    Raises:
        Unsupported: no classifier can be trained on the dataset.
        CheckpointError: the shipped file is damaged.
        OSError: the folder cannot be written to.
    """
    check_trainable(data)
    if (shipped := lenet_file(data, SHIPPED)).exists():
        return _read(shipped, data)
    file = lenet_file(data, folder)
    file.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(file.with_suffix(".lock")):
        if file.exists():
            try:
                return _read(file, data)
            except CheckpointError as error:
                log.warning("%s; training it again", error)
        log.info("training the feature network lenet-%s, once: %s", data.name, file)
        trained = train_lenet(data)
        tensors = {name: value.detach().contiguous() for name, value in trained.net.state_dict().items()}
        write_atomically(file, save(tensors, metadata=_metadata(data) | {"test_accuracy": repr(trained.test_accuracy)}))
        return trained


def lenet_file(data: Dataset, folder: Path) -> Path:
    """Returns the file of a dataset's classifier."""
    name = re.sub(r"[^A-Za-z0-9]+", "-", data.name).strip("-")[:40]
    return folder / f"lenet-{name}-{digest_of(_metadata(data))[:12]}.safetensors"


def _metadata(data: Dataset) -> dict[str, str]:
    return {"recipe": RECIPE, "dataset": data.name, "dataset_digest": data.digest()}


def _read(file: Path, data: Dataset) -> TrainedLeNet:
    try:
        with safe_open(file, framework="pt") as opened:
            metadata = opened.metadata() or {}
            tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118 (not a mapping)
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{file}: not a readable safetensors file ({error})") from error
    for key, expected in _metadata(data).items():
        if metadata.get(key) != expected:
            raise CheckpointError(f"{file}: its {key} is {metadata.get(key)!r}, expected {expected!r}")
    try:
        accuracy = float(metadata["test_accuracy"])
    except (KeyError, ValueError) as error:
        raise CheckpointError(f"{file}: its test_accuracy is missing or no number") from error
    net = new_lenet(data)
    put_weights(tensors, net, source=str(file))
    return TrainedLeNet(net.eval(), data.spec.shape, accuracy)
