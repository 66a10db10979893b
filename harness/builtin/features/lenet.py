"""A small classifier, trained once on a labelled dataset by a fixed recipe: features that know what the images show.

After LeNet-5 (LeCun, Bottou, Bengio & Haffner 1998), whose penultimate layer also has 84 units. A classifier is kept in
one safetensors file, shipped, or trained by whoever needs it first. Two machines that train the same one find weights
that differ in their last bits, and so do features and figures. The classifiers of the committed boards therefore lie
beside this module, and every machine uses those.
"""

from __future__ import annotations

import logging
import math
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from filelock import FileLock
from safetensors.torch import save
from torch import Tensor, nn
from torch.nn import functional

from harness import (
    CheckpointError,
    Dataset,
    FeatureNetwork,
    ImageSpec,
    Split,
    Unsupported,
    derive_seed,
    digest_of,
    generator,
    isolated_rng,
    put_weights,
    read_tensors,
    write_atomically,
)
from harness.builtin.features.network import refuse_other_shape, weights_digest

log = logging.getLogger("harness")

SHIPPED = Path(__file__).parent / "weights"
NUM_FEATURES = 84
RECIPE = "1"
"""Names the architecture and the training below: another recipe needs another number, and gives other networks."""

_SIZES = range(8, 33)
_BATCH = 64
_LEARNING_RATE = 4e-3
_WEIGHT_DECAY = 1e-2
_IMAGES_SEEN = 100_000
_EPOCHS = range(2, 41)
_FEATURE_BATCH = 500


class LeNet(nn.Module):
    """Two convolutions and two linear layers; the features are tanh units, none of which is ever dead.

    Images are scaled to [0, 1] by their number of levels: a network trained on 256 levels takes binary images.
    """

    def __init__(self, channels: int, height: int, width: int, num_classes: int) -> None:
        super().__init__()
        self.convolution1 = nn.Conv2d(channels, 8, 5, padding=2)
        self.convolution2 = nn.Conv2d(8, 16, 5, padding=2)
        self.penultimate = nn.Linear(16 * (height // 4) * (width // 4), NUM_FEATURES)
        self.classes = nn.Linear(NUM_FEATURES, num_classes)

    def features(self, images: Tensor) -> Tensor:
        """Maps (N, C, H, W) in [0, 1] to (N, 84)."""
        hidden = functional.relu(functional.max_pool2d(self.convolution1(images), 2))  # (N, 8, H/2, W/2)
        hidden = functional.relu(functional.max_pool2d(self.convolution2(hidden), 2))  # (N, 16, H/4, W/4)
        return torch.tanh(self.penultimate(hidden.flatten(1)))

    def forward(self, images: Tensor) -> Tensor:
        """Maps (N, C, H, W) in [0, 1] to (N, num_classes) logits."""
        return torch.as_tensor(self.classes(functional.dropout(self.features(images), 0.2, self.training)))


@dataclass(frozen=True)
class TrainedLeNet:
    """A classifier on the CPU, the (C, H, W) of the images that it is for, and the fraction that it names rightly."""

    net: LeNet
    shape: tuple[int, int, int]
    test_accuracy: float


class LeNetFeatures(FeatureNetwork):
    """The penultimate activations, (N, 84) float32, of a classifier trained on ``dataset``."""

    num_features = NUM_FEATURES

    def __init__(self, dataset: str, trained: TrainedLeNet, device: torch.device) -> None:
        self.name = f"lenet-{dataset}"
        self.digest = weights_digest(trained.net.state_dict())
        self._trained, self._net, self._device = trained, trained.net.to(device).eval(), device

    def __call__(self, images: Tensor, spec: ImageSpec) -> Tensor:
        """Maps (N, C, H, W) uint8 to (N, 84) float32."""
        refuse_other_shape(self.name, self._trained.shape, spec)
        with torch.no_grad():
            batches = [_scaled(batch.to(self._device), spec) for batch in torch.split(images, _FEATURE_BATCH)]
            return torch.cat([self._net.features(batch).cpu() for batch in batches])

    def protocol(self) -> dict[str, str]:
        """Returns the accuracy as well."""
        return {**super().protocol(), "test accuracy": f"{100 * self._trained.test_accuracy:.2f} %"}


def _scaled(images: Tensor, spec: ImageSpec) -> Tensor:
    return images.to(torch.float32) / (spec.levels - 1)


def check_trainable(data: Dataset) -> int:
    """Returns the number of classes.

    Raises:
        Unsupported: no labels, a single class, or images that the recipe is not for.
    """
    spec, name = data.spec, f"lenet-{data.name}"
    labelled = data.train.labels is not None and data.test.labels is not None
    if spec.num_classes is None or not labelled:
        raise Unsupported(f"{name}: dataset {data.name!r} has no labels to train a classifier on; name one that has")
    if spec.num_classes < 2:
        raise Unsupported(f"{name}: dataset {data.name!r} has a single class, a classifier needs two")
    if spec.height not in _SIZES or spec.width not in _SIZES:
        raise Unsupported(
            f"{name}: the classifier is for images of {_SIZES[0]}x{_SIZES[0]} to {_SIZES[-1]}x{_SIZES[-1]}, "
            f"these are of {spec.height}x{spec.width}"
        )
    return spec.num_classes


def new_lenet(data: Dataset) -> LeNet:
    """Returns an untrained classifier of the right shapes."""
    return LeNet(*data.spec.shape, check_trainable(data))


def train_lenet(data: Dataset) -> TrainedLeNet:
    """Trains a classifier on ``data.train`` by the fixed recipe: AdamW, one cycle of the learning rate, no choices.

    On the CPU, with one thread and seeds of its own, so that one machine always finds the same weights. The number of
    epochs shows the network about 100,000 images, at least 2 and at most 40 epochs.

    Raises:
        Unsupported: as ``check_trainable``.
    """
    check_trainable(data)
    epochs = min(max(round(_IMAGES_SEEN / len(data.train)), _EPOCHS[0]), _EPOCHS[-1])
    steps = epochs * math.ceil(len(data.train) / _BATCH)
    with one_thread(), isolated_rng(derive_seed(0, "lenet", RECIPE), torch.device("cpu")), torch.enable_grad():
        net = new_lenet(data)
        optimizer = torch.optim.AdamW(net.parameters(), lr=_LEARNING_RATE, weight_decay=_WEIGHT_DECAY, fused=True)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, _LEARNING_RATE, total_steps=steps)
        net.train()
        for epoch in range(epochs):
            split = data.train.draw(epoch)
            assert split.labels is not None
            order = torch.randperm(len(split), generator=generator(0, "lenet order", epoch))
            for index in torch.split(order, _BATCH):
                logits = net(_scaled(split.images[index].cpu(), data.spec))
                loss = functional.cross_entropy(logits, split.labels[index].cpu())
                optimizer.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]
                optimizer.step()
                schedule.step()
        net.eval()
        return TrainedLeNet(net, data.spec.shape, _accuracy(net, data.test.draw(0), data.spec))


@torch.no_grad()
def _accuracy(net: LeNet, split: Split, spec: ImageSpec) -> float:
    assert split.labels is not None
    right = 0
    for index in torch.split(torch.arange(len(split)), _FEATURE_BATCH):
        logits = net(_scaled(split.images[index].cpu(), spec))
        right += int((logits.argmax(1) == split.labels[index].cpu()).sum())
    return right / len(split)


@contextmanager
def one_thread() -> Iterator[None]:
    """Runs its body on one thread: sums are added up in one order, whatever the run's number of threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


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
    tensors, metadata = read_tensors(file)
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
