"""A small classifier, trained once on a labelled dataset by a fixed recipe: features that know what the images show.

After LeNet-5 (LeCun, Bottou, Bengio & Haffner 1998), whose penultimate layer also has 84 units. A classifier is kept in
one safetensors file, shipped, or trained by whoever needs it first. Two machines that train the same one find weights
that differ in their last bits, and so do features and figures. The classifiers of the committed boards therefore lie
beside this module, and every machine uses those.
"""

import logging
import math
import re
from pathlib import Path

import platformdirs
import torch
from torch import Tensor, nn
from torch.nn import functional

import harness
from harness import CheckpointError, Dataset, Evaluation, ImageSpec, Unsupported
from harness.builtin.features.network import TorchFeatures, refuse_other_shape, scaled

log = logging.getLogger("harness")

SHIPPED = Path(__file__).parent / "weights"
# Names the architecture and the training below: another recipe needs another number, and gives other networks
RECIPE = "1"
_SIZES = range(8, 33)
_BATCH = 64
_LEARNING_RATE = 4e-3
_WEIGHT_DECAY = 1e-2
_IMAGES_SEEN = 100_000
_EPOCHS = range(2, 41)


class LeNet(nn.Module):
    """Two convolutions and two linear layers; the features are tanh units, none of which is ever dead.

    Images are scaled to [0, 1] by their number of levels: a network trained on 256 levels takes binary images.
    """

    test_accuracy: float  # the fraction of the test images that it names rightly

    def __init__(self, shape: tuple[int, int, int], num_classes: int) -> None:
        super().__init__()
        self.shape = channels, height, width = shape
        self.convolution1 = nn.Conv2d(channels, 8, 5, padding=2)
        self.convolution2 = nn.Conv2d(8, 16, 5, padding=2)
        self.penultimate = nn.Linear(16 * (height // 4) * (width // 4), 84)
        self.classes = nn.Linear(84, num_classes)

    def features(self, images: Tensor) -> Tensor:
        """Maps (N, C, H, W) in [0, 1] to (N, 84)."""
        hidden = functional.relu(functional.max_pool2d(self.convolution1(images), 2))  # (N, 8, H/2, W/2)
        hidden = functional.relu(functional.max_pool2d(self.convolution2(hidden), 2))  # (N, 16, H/4, W/4)
        return torch.tanh(self.penultimate(hidden.flatten(1)))

    def forward(self, images: Tensor) -> Tensor:
        """Maps (N, C, H, W) in [0, 1] to (N, num_classes) logits."""
        return torch.as_tensor(self.classes(functional.dropout(self.features(images), 0.2, self.training)))


class LeNetFeatures(TorchFeatures):
    """The penultimate activations, (N, 84) float32, of a classifier trained on ``dataset``."""

    num_features = 84
    batch_size = 500

    def __init__(self, dataset: str, net: LeNet, device: torch.device) -> None:
        super().__init__(net, device)
        self.name, self.lenet = f"lenet-{dataset}", net

    def features(self, images: Tensor, spec: ImageSpec) -> Tensor:
        """Maps (N, C, H, W) uint8 to (N, 84); the shape is that of the images that it was trained on."""
        refuse_other_shape(self.name, self.lenet.shape, spec)
        return self.lenet.features(scaled(images, spec))

    @torch.no_grad()
    def log_probabilities(self, features: Tensor) -> Tensor:
        """Maps (N, 84) to (N, K), on the CPU."""
        logits = self.lenet.classes(features.to(self.device, torch.float32))
        return functional.log_softmax(logits.double(), 1).cpu()

    def protocol(self) -> dict[str, str]:
        """Returns the accuracy as well."""
        return {**super().protocol(), "test accuracy": f"{100 * self.lenet.test_accuracy:.2f} %"}


def lenet(evaluation: Evaluation, dataset: str | None = None) -> LeNetFeatures:
    """Returns the classifier of a dataset, by default the evaluation's own, for images of that dataset's shape."""
    data = evaluation.data
    if dataset not in (None, data.name):
        if evaluation.load_dataset is None:
            raise ValueError(f"lenet-{dataset}: this evaluation has no load_dataset to load {dataset!r} with")
        data = evaluation.load_dataset(dataset)
    refuse_other_shape(f"lenet-{data.name}", data.spec.shape, evaluation.data.spec)
    folder = evaluation.feature_folder or default_feature_folder()
    return LeNetFeatures(data.name, stored_lenet(data, folder), evaluation.device)


def default_feature_folder() -> Path:
    """Returns where trained classifiers are kept if no folder is named: in the user's cache."""
    return platformdirs.user_cache_path("genharness") / "features"


def new_lenet(data: Dataset) -> LeNet:
    """Returns an untrained classifier of the right shapes; Unsupported says what the recipe is not for."""
    spec, name = data.spec, f"lenet-{data.name}"
    if spec.num_classes is None or data.train.labels is None or data.test.labels is None:
        raise Unsupported(f"{name}: dataset {data.name!r} has no labels to train a classifier on; name one that has")
    if spec.num_classes < 2:
        raise Unsupported(f"{name}: dataset {data.name!r} has a single class, a classifier needs two")
    if spec.height not in _SIZES or spec.width not in _SIZES:
        sizes = f"{_SIZES[0]}x{_SIZES[0]} to {_SIZES[-1]}x{_SIZES[-1]}, these are of {spec.height}x{spec.width}"
        raise Unsupported(f"{name}: the classifier is for images of {sizes}")
    return LeNet(spec.shape, spec.num_classes)


def train_lenet(data: Dataset) -> LeNet:
    """Trains a classifier on ``data.train`` by the fixed recipe: AdamW, one cycle of the learning rate, no choices.

    On the CPU, with one thread and seeds of its own, so that one machine always finds the same weights. The number of
    epochs shows the network about 100,000 images, at least 2 and at most 40 epochs.
    """
    epochs = min(max(round(_IMAGES_SEEN / len(data.train)), _EPOCHS[0]), _EPOCHS[-1])
    steps = epochs * math.ceil(len(data.train) / _BATCH)
    seed = harness.derive_seed(0, "lenet", RECIPE)
    with harness.on_threads(1), harness.isolated_rng(seed, torch.device("cpu")), torch.enable_grad():
        net = new_lenet(data)
        optimizer = torch.optim.AdamW(net.parameters(), lr=_LEARNING_RATE, weight_decay=_WEIGHT_DECAY, fused=True)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, _LEARNING_RATE, total_steps=steps)
        for epoch in range(epochs):
            split = data.train.draw(epoch)
            assert split.labels is not None
            order = torch.randperm(len(split), generator=harness.generator(0, "lenet order", epoch))
            for index in torch.split(order, _BATCH):
                logits = net(scaled(split.images[index].cpu(), data.spec))
                loss = functional.cross_entropy(logits, split.labels[index].cpu())
                optimizer.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]
                optimizer.step()
                schedule.step()
        net.eval()
        test = data.test.draw(0)
        assert test.labels is not None
        with torch.no_grad():
            named = [net(scaled(batch.cpu(), data.spec)).argmax(1) for batch in torch.split(test.images, 500)]
        net.test_accuracy = int((torch.cat(named) == test.labels.cpu()).sum()) / len(test)
        return net


def stored_lenet(data: Dataset, folder: Path) -> LeNet:
    """Returns the classifier of a dataset: the shipped one, else from its file in ``folder``, or trained now and kept.

    Processes that want the same one wait for the first. A file that is damaged, or that another recipe or other data
    made, is trained anew.
    """
    with harness.isolated_rng(0, torch.device("cpu")):  # its first weights are not used
        net = new_lenet(data)
    if (shipped := lenet_file(data, SHIPPED)).exists():
        return _read(shipped, net, data)
    file = lenet_file(data, folder)
    with harness.one_at_a_time(file.with_suffix(".lock"), f"the feature network lenet-{data.name}"):
        if file.exists():
            try:
                return _read(file, net, data)
            except CheckpointError as error:
                log.warning("%s; training it again", error)
        log.info("training the feature network lenet-%s, once: %s", data.name, file)
        net = train_lenet(data)
        harness.save_weights(file, net, _metadata(data) | {"test_accuracy": repr(net.test_accuracy)})
        return net


def lenet_file(data: Dataset, folder: Path) -> Path:
    """Returns the file of a dataset's classifier."""
    name = re.sub(r"[^A-Za-z0-9]+", "-", data.name).strip("-")[:40]
    return folder / f"lenet-{name}-{harness.digest_of(_metadata(data))[:12]}.safetensors"


def _metadata(data: Dataset) -> dict[str, str]:
    return {"recipe": RECIPE, "dataset": data.name, "dataset_digest": data.digest()}


def _read(file: Path, net: LeNet, data: Dataset) -> LeNet:
    tensors, metadata = harness.read_tensors(file)
    for key, expected in _metadata(data).items():
        if metadata.get(key) != expected:
            raise CheckpointError(f"{file}: its {key} is {metadata.get(key)!r}, expected {expected!r}")
    try:
        net.test_accuracy = float(metadata["test_accuracy"])
    except (KeyError, ValueError) as error:
        raise CheckpointError(f"{file}: its test_accuracy is missing or no number") from error
    harness.put_weights(tensors, net, source=str(file))
    return net.eval()
