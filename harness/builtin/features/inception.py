"""The Inception network by which FID is defined: the graph of 2015-12-05, as a port to torch computes it.

Szegedy, Vanhoucke, Ioffe, Shlens & Wojna 2016, arXiv 1512.00567. It differs from the network of the paper: it has 1008
outputs, its average pools leave padding out of the mean, and the last pooling branch takes the maximum. Layers are
called as the published weights call them.
"""

from __future__ import annotations

import io
import os
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from harness import DataFolder, FeatureNetwork, ImageSpec, RemoteFile, Unsupported, put_weights, read_tensors
from harness.builtin.features.network import weights_digest

NUM_FEATURES = 2048
SIDE = 299
_NUM_CLASSES = 1008
_BATCH = 25

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


class Convolution(nn.Module):
    """Convolution, batch normalisation, ReLU; padded so that the size stays, unless ``stride`` is 2 or padding off."""

    def __init__(
        self, inputs: int, outputs: int, size: int | tuple[int, int], stride: int = 1, *, padded: bool = True
    ) -> None:
        super().__init__()
        height, width = (size, size) if isinstance(size, int) else size
        padding = (height // 2, width // 2) if padded and stride == 1 else (0, 0)
        self.conv = nn.Conv2d(inputs, outputs, (height, width), stride=stride, padding=padding, bias=False)
        self.bn = nn.BatchNorm2d(outputs, eps=0.001)

    def forward(self, x: Tensor) -> Tensor:
        """Maps (N, C, H, W) to (N, C', H', W')."""
        return functional.relu(self.bn(self.conv(x)))


def _average(x: Tensor) -> Tensor:
    return functional.avg_pool2d(x, 3, stride=1, padding=1, count_include_pad=False)


def _maximum(x: Tensor) -> Tensor:
    return functional.max_pool2d(x, 3, stride=1, padding=1)


def _halve(x: Tensor) -> Tensor:
    return functional.max_pool2d(x, 3, stride=2)


Layer = tuple[str, int, int | tuple[int, int]] | tuple[str, int, int | tuple[int, int], int]
"""What is published as ``branchNAME``: its name, outputs, size and, unless it is 1, stride."""


class Block(nn.Module):
    """Branches of convolutions side by side, and a pool; their channels are put together.

    The last branch is ``pool``, and a convolution to ``pool_features`` channels unless that is None. The others are
    layers one after the other; of a list of layers, at the end, each is applied to what is before.
    """

    def __init__(
        self,
        inputs: int,
        pool: Callable[[Tensor], Tensor],
        pool_features: int | None,
        *branches: tuple[Layer | list[Layer], ...],
    ) -> None:
        super().__init__()
        self.pool, self.branches = pool, list[list[list[str]]]()
        for branch in branches:
            channels, steps = inputs, [step if isinstance(step, list) else [step] for step in branch]
            for step in steps:
                for name, *shape in step:
                    self.add_module(f"branch{name}", Convolution(channels, *shape))  # type: ignore[arg-type]
                channels = step[0][1]
            self.branches.append([[f"branch{layer[0]}" for layer in step] for step in steps])
        self.branch_pool = Convolution(inputs, pool_features, 1) if pool_features else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """Maps (N, C, H, W) to (N, C', H', W')."""
        found = []
        for *steps, ends in self.branches:
            hidden = x
            for (name,) in steps:
                hidden = self.get_submodule(name)(hidden)
            found += [self.get_submodule(name)(hidden) for name in ends]
        return torch.cat([*found, self.branch_pool(self.pool(x))], 1)


def _block_a(inputs: int, pool_features: int) -> Block:
    """35x35."""
    double = (("3x3dbl_1", 64, 1), ("3x3dbl_2", 96, 3), ("3x3dbl_3", 96, 3))
    return Block(inputs, _average, pool_features, (("1x1", 64, 1),), (("5x5_1", 48, 1), ("5x5_2", 64, 5)), double)


def _block_b(inputs: int) -> Block:
    """35x35 to 17x17."""
    double = (("3x3dbl_1", 64, 1), ("3x3dbl_2", 96, 3), ("3x3dbl_3", 96, 3, 2))
    return Block(inputs, _halve, None, (("3x3", 384, 3, 2),), double)


def _block_c(inputs: int, width: int) -> Block:
    """17x17, with 7x7 convolutions as 1x7 and 7x1."""
    single = (("7x7_1", width, 1), ("7x7_2", width, (1, 7)), ("7x7_3", 192, (7, 1)))
    double = (
        ("7x7dbl_1", width, 1), ("7x7dbl_2", width, (7, 1)), ("7x7dbl_3", width, (1, 7)),
        ("7x7dbl_4", width, (7, 1)), ("7x7dbl_5", 192, (1, 7)),
    )  # fmt: skip
    return Block(inputs, _average, 192, (("1x1", 192, 1),), single, double)


def _block_d(inputs: int) -> Block:
    """17x17 to 8x8."""
    wide = (("7x7x3_1", 192, 1), ("7x7x3_2", 192, (1, 7)), ("7x7x3_3", 192, (7, 1)), ("7x7x3_4", 192, 3, 2))
    return Block(inputs, _halve, None, (("3x3_1", 192, 1), ("3x3_2", 320, 3, 2)), wide)


def _block_e(inputs: int, pool: Callable[[Tensor], Tensor]) -> Block:
    """8x8, with 1x3 beside 3x1."""
    single: tuple[Layer | list[Layer], ...] = (("3x3_1", 384, 1), [("3x3_2a", 384, (1, 3)), ("3x3_2b", 384, (3, 1))])
    ends: list[Layer] = [("3x3dbl_3a", 384, (1, 3)), ("3x3dbl_3b", 384, (3, 1))]
    return Block(inputs, pool, 192, (("1x1", 320, 1),), single, (("3x3dbl_1", 448, 1), ("3x3dbl_2", 384, 3), ends))


class Inception(nn.Module):
    """The whole network up to the last average pool."""

    def __init__(self) -> None:
        super().__init__()
        self.Conv2d_1a_3x3 = Convolution(3, 32, 3, 2)
        self.Conv2d_2a_3x3 = Convolution(32, 32, 3, padded=False)
        self.Conv2d_2b_3x3 = Convolution(32, 64, 3)
        self.Conv2d_3b_1x1 = Convolution(64, 80, 1)
        self.Conv2d_4a_3x3 = Convolution(80, 192, 3, padded=False)
        self.Mixed_5b = _block_a(192, 32)
        self.Mixed_5c = _block_a(256, 64)
        self.Mixed_5d = _block_a(288, 64)
        self.Mixed_6a = _block_b(288)
        self.Mixed_6b = _block_c(768, 128)
        self.Mixed_6c = _block_c(768, 160)
        self.Mixed_6d = _block_c(768, 160)
        self.Mixed_6e = _block_c(768, 192)
        self.Mixed_7a = _block_d(768)
        self.Mixed_7b = _block_e(1280, _average)
        self.Mixed_7c = _block_e(2048, _maximum)
        self.fc = nn.Linear(NUM_FEATURES, _NUM_CLASSES)  # not used here, but part of the published weights

    def forward(self, x: Tensor) -> Tensor:
        """Maps (N, 3, 299, 299) in [-1, 1] to (N, 2048): the means of the last 8x8 maps."""
        x = self.Conv2d_2b_3x3(self.Conv2d_2a_3x3(self.Conv2d_1a_3x3(x)))
        x = self.Conv2d_4a_3x3(self.Conv2d_3b_1x1(functional.max_pool2d(x, 3, stride=2)))
        x = self.Mixed_5d(self.Mixed_5c(self.Mixed_5b(functional.max_pool2d(x, 3, stride=2))))
        x = self.Mixed_6e(self.Mixed_6d(self.Mixed_6c(self.Mixed_6b(self.Mixed_6a(x)))))
        x = self.Mixed_7c(self.Mixed_7b(self.Mixed_7a(x)))
        return x.mean((2, 3))


class InceptionFeatures(FeatureNetwork):
    """The 2048 features of the published FID, for images of any size with one channel or three.

    Grey images are repeated to three channels. Values are scaled to [0, 1], resized to 299x299 by bilinear
    interpolation with half-pixel centres (``align_corners=False``) and no antialiasing, and scaled to [-1, 1].
    """

    name = "inception"
    num_features = NUM_FEATURES

    def __init__(self, net: Inception, device: torch.device) -> None:
        self.digest = weights_digest(net.state_dict())
        self._net, self._device = net.to(device).eval(), device

    def __call__(self, images: Tensor, spec: ImageSpec) -> Tensor:
        """Maps (N, C, H, W) uint8 to (N, 2048) float32.

        Raises:
            Unsupported: other than one or three channels.
        """
        if spec.channels not in (1, 3):
            raise Unsupported(f"inception is for images of 1 or 3 channels, these have {spec.channels}")
        with torch.no_grad():
            parts = [self._net(preprocess(batch.to(self._device), spec)).cpu() for batch in torch.split(images, _BATCH)]
        return torch.cat(parts)

    def protocol(self) -> dict[str, str]:
        """Returns how images are resized as well."""
        return {**super().protocol(), "resize": f"bilinear to {SIDE}x{SIDE}, half-pixel centres, no antialias"}


def preprocess(images: Tensor, spec: ImageSpec) -> Tensor:
    """Maps (N, C, H, W) uint8 to (N, 3, 299, 299) float32 in [-1, 1]."""
    scaled = images.to(torch.float32) / (spec.levels - 1)
    scaled = scaled.expand(-1, 3, -1, -1) if spec.channels == 1 else scaled
    resized = functional.interpolate(scaled, size=(SIDE, SIDE), mode="bilinear", align_corners=False)
    return 2 * resized - 1


def load_inception(folder: DataFolder | None) -> Inception:
    """Returns the network with its weights.

    They are taken from the file that ``HARNESS_INCEPTION`` names: a ``.safetensors`` file, whose content then names
    itself by the digest in each figure's protocol, or the official ``.pth``. Without that variable, from the data
    folder, which downloads the official file if need be. A ``.pth`` is a pickle: it is looked at only if its SHA-256
    is the official one, and then by torch's unpickler that knows tensors alone.

    Raises:
        ValueError: the named file is not there, or is of another kind.
        CheckpointError: its tensors are not those of the network.
        DataCorrupt: a ``.pth`` with another SHA-256.
        DataUnavailable: not in the data folder, and it cannot be downloaded.
    """
    named = os.environ.get(VARIABLE)
    path = Path(named or OFFICIAL.path).expanduser()
    if named and (path.suffix not in (".safetensors", ".pth") or not path.is_file()):
        raise ValueError(f"{VARIABLE} is {named!r}: it must name a .safetensors or .pth file that is there")
    source = named or OFFICIAL.path
    if path.suffix == ".safetensors":
        tensors, _ = read_tensors(path)
    else:
        if named:
            content = path.read_bytes()
            OFFICIAL.verify(content, named)
        else:
            content = (folder or DataFolder.resolve()).read(OFFICIAL)
        # only content whose digest was verified comes here
        tensors = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    net = Inception()
    counters = {name: value for name, value in net.state_dict().items() if name.endswith("num_batches_tracked")}
    # how many batches the statistics were taken over is of no use, and some copies leave it out
    put_weights({**tensors, **counters}, net, source=source)
    return net
