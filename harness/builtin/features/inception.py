"""The Inception network by which FID is defined: the graph of 2015-12-05, as a port to torch computes it.

Szegedy, Vanhoucke, Ioffe, Shlens & Wojna 2016, arXiv 1512.00567. It differs from the network of the paper: it has 1008
outputs, its average pools leave padding out of the mean, and the last pooling branch takes the maximum. Layers are
called as the published weights call them.
"""

import io
import os
from collections import OrderedDict
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from harness import DataFolder, Evaluation, ImageSpec, RemoteFile, Unsupported, put_weights, read_tensors
from harness.builtin.features.network import TorchFeatures, scaled

SIDE = 299
VARIABLE = "HARNESS_INCEPTION"

OFFICIAL = RemoteFile(
    "inception/pt_inception-2015-12-05-6726825d.pth",
    (
        "https://github.com/mseitzer/pytorch-fid/releases/download/fid_weights/pt_inception-2015-12-05-6726825d.pth",
        "https://github.com/toshas/torch-fidelity/releases/download/v0.2.0/weights-inception-2015-12-05-6726825d.pth",
    ),
    sha256="6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2",
)
"""The published port of the TensorFlow graph of 2015-12-05; both projects serve the same file."""


_A = "1x1 64@1x1 | 5x5 48@1x1 64@5x5 | 3x3dbl 64@1x1 96@3x3 96@3x3"
_B = "3x3 384@3x3 | 3x3dbl 64@1x1 96@3x3 96@3x3"
_C = "1x1 192@1x1 | 7x7 N@1x1 N@1x7 192@7x1 | 7x7dbl N@1x1 N@7x1 N@1x7 N@7x1 192@1x7"
_D = "3x3 192@1x1 320@3x3 | 7x7x3 192@1x1 192@1x7 192@7x1 192@3x3"
# Branches of a block: the name of each, and the outputs and sizes of its convolutions, one after the other
_E = "1x1 320@1x1 | 3x3 384@1x1 384@1x3+3x1 | 3x3dbl 448@1x1 384@3x3 384@1x3+3x1"


class Convolution(nn.Module):
    """Convolution, batch normalisation, ReLU; padded so that the size stays, unless ``stride`` is 2 or padding off."""

    def __init__(self, inputs: int, outputs: int, size: str, stride: int = 1, *, padded: bool = True) -> None:
        super().__init__()
        height, width = map(int, size.split("x"))
        padding = (height // 2, width // 2) if padded and stride == 1 else (0, 0)
        self.conv = nn.Conv2d(inputs, outputs, (height, width), stride=stride, padding=padding, bias=False)
        self.bn = nn.BatchNorm2d(outputs, eps=0.001)

    def forward(self, x: Tensor) -> Tensor:
        """Maps (N, C, H, W) to (N, C', H', W')."""
        return functional.relu(self.bn(self.conv(x)))


_average = nn.AvgPool2d(3, stride=1, padding=1, count_include_pad=False)
_maximum, _halve = nn.MaxPool2d(3, stride=1, padding=1), nn.MaxPool2d(3, stride=2)


class Block(nn.Module):
    """Branches of convolutions side by side, and a pool; their channels are put together.

    The pool is followed by a convolution to ``pool_features`` channels. Where it halves the size, it is not, and the
    last convolution of each branch halves the size as well. What is published as ``branch3x3_2`` is the second of the
    branch ``3x3``; an only one has no number, and two side by side, which read the same, are ``a`` and ``b``.
    """

    def __init__(self, inputs: int, branches: str, pool: nn.Module = _halve, pool_features: int = 0) -> None:
        super().__init__()
        self.pool, self.branches = pool, list[list[list[str]]]()
        for branch in branches.split(" | "):
            name, *layers = branch.split()
            channels, steps = inputs, list[list[str]]()
            for number, (outputs, sizes) in enumerate((layer.split("@") for layer in layers), 1):
                step = f"branch{name}_{number}" if len(layers) > 1 else f"branch{name}"
                stride = 2 if pool is _halve and number == len(layers) else 1
                steps.append([f"{step}a", f"{step}b"] if "+" in sizes else [step])
                for module, size in zip(steps[-1], sizes.split("+"), strict=True):
                    self.add_module(module, Convolution(channels, int(outputs), size, stride))
                channels = int(outputs)
            self.branches.append(steps)
        self.branch_pool = Convolution(inputs, pool_features, "1x1") if pool_features else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """Maps (N, C, H, W) to (N, C', H', W')."""
        found = []
        for steps in self.branches:
            hidden = x
            for step in steps:
                hidden = torch.cat([self.get_submodule(module)(hidden) for module in step], 1)
            found.append(hidden)
        return torch.cat([*found, self.branch_pool(self.pool(x))], 1)


class Inception(nn.Sequential):
    """The whole network up to the last average pool; ``fc`` is not used, but part of the published weights."""

    def __init__(self) -> None:
        layers = OrderedDict[str, nn.Module](
            Conv2d_1a_3x3=Convolution(3, 32, "3x3", 2),
            Conv2d_2a_3x3=Convolution(32, 32, "3x3", padded=False),
            Conv2d_2b_3x3=Convolution(32, 64, "3x3"),
            pool1=nn.MaxPool2d(3, stride=2),
            Conv2d_3b_1x1=Convolution(64, 80, "1x1"),
            Conv2d_4a_3x3=Convolution(80, 192, "3x3", padded=False),
            pool2=nn.MaxPool2d(3, stride=2),
            Mixed_5b=Block(192, _A, _average, 32),
            Mixed_5c=Block(256, _A, _average, 64),
            Mixed_5d=Block(288, _A, _average, 64),
            Mixed_6a=Block(288, _B),
            Mixed_6b=Block(768, _C.replace("N", "128"), _average, 192),
            Mixed_6c=Block(768, _C.replace("N", "160"), _average, 192),
            Mixed_6d=Block(768, _C.replace("N", "160"), _average, 192),
            Mixed_6e=Block(768, _C.replace("N", "192"), _average, 192),
            Mixed_7a=Block(768, _D),
            Mixed_7b=Block(1280, _E, _average, 192),
            Mixed_7c=Block(2048, _E, _maximum, 192),
            fc=nn.Linear(2048, 1008),
        )
        super().__init__(layers)

    def forward(self, x: Tensor) -> Tensor:
        """Maps (N, 3, 299, 299) in [-1, 1] to (N, 2048): the means of the last 8x8 maps."""
        for name, layer in self.named_children():
            x = x if name == "fc" else layer(x)
        return x.mean((2, 3))


class InceptionFeatures(TorchFeatures):
    """The 2048 features of the published FID, for images of any size with one channel or three.

    Grey images are repeated to three channels. Values are scaled to [0, 1], resized to 299x299 by bilinear
    interpolation with half-pixel centres (``align_corners=False``) and no antialiasing, and scaled to [-1, 1].
    """

    name = "inception"
    num_features = 2048
    batch_size = 25

    def features(self, images: Tensor, spec: ImageSpec) -> Tensor:
        """Maps (N, C, H, W) uint8 to (N, 2048), C being 1 or 3."""
        if spec.channels not in (1, 3):
            raise Unsupported(f"inception is for images of 1 or 3 channels, these have {spec.channels}")
        return torch.as_tensor(self.net(preprocess(images, spec)))

    @torch.no_grad()
    def log_probabilities(self, features: Tensor) -> Tensor:
        """Maps (N, 2048) to (N, 1008), on the CPU: of the last layer without its bias, as published scores are."""
        return functional.log_softmax(features.double() @ self.net.get_parameter("fc.weight").cpu().double().T, 1)

    def protocol(self) -> dict[str, str]:
        """Returns how images are resized as well."""
        return {**super().protocol(), "resize": f"bilinear to {SIDE}x{SIDE}, half-pixel centres, no antialias"}


def inception(evaluation: Evaluation) -> InceptionFeatures:
    """Returns the network on the evaluation's device, with weights of its data folder."""
    return InceptionFeatures(load_inception(evaluation.data_folder), evaluation.device)


def preprocess(images: Tensor, spec: ImageSpec) -> Tensor:
    """Maps (N, C, H, W) uint8 to (N, 3, 299, 299) float32 in [-1, 1]."""
    colour = scaled(images, spec).expand(-1, 3, -1, -1)
    return 2 * functional.interpolate(colour, size=(SIDE, SIDE), mode="bilinear", align_corners=False) - 1


def load_inception(folder: DataFolder | None) -> Inception:
    """Returns the network with its weights.

    They are those of the file that ``HARNESS_INCEPTION`` names, ``.safetensors`` or the official ``.pth``, else of the
    data folder, which downloads the official one. A ``.pth`` is a pickle: it is looked at only if its SHA-256 is the
    official one, and then by torch's unpickler that knows tensors alone.
    """
    named = os.environ.get(VARIABLE)
    path = Path(named or OFFICIAL.path).expanduser()
    if named and (path.suffix not in (".safetensors", ".pth") or not path.is_file()):
        raise ValueError(f"{VARIABLE} is {named!r}: it must name a .safetensors or .pth file that is there")
    if path.suffix == ".safetensors":
        tensors, _ = read_tensors(path)
    else:
        content = path.read_bytes() if named else (folder or DataFolder.resolve()).read(OFFICIAL)
        OFFICIAL.verify(content, named or OFFICIAL.path)
        tensors = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    net = Inception()
    # how many batches the statistics were taken over is of no use, and some copies leave it out
    counters = {name: value for name, value in net.state_dict().items() if name.endswith("num_batches_tracked")}
    put_weights({**tensors, **counters}, net, source=named or OFFICIAL.path)
    return net
