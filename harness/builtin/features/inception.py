"""The Inception network by which FID is defined: the graph of 2015-12-05, as a port to torch computes it.

Szegedy, Vanhoucke, Ioffe, Shlens & Wojna 2016, arXiv 1512.00567. It differs from the network of the paper: it has 1008
outputs, its average pools leave padding out of the mean, and the last pooling branch takes the maximum. Layers are
called as the published weights call them.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional

from harness import FeatureNetwork, ImageSpec, Unsupported
from harness.builtin.features.network import weights_digest

NUM_FEATURES = 2048
SIDE = 299
_NUM_CLASSES = 1008
_BATCH = 25


class Convolution(nn.Module):
    """Convolution, batch normalisation, ReLU."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        size: int | tuple[int, int],
        *,
        stride: int = 1,
        padding: int | tuple[int, int] = 0,
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, size, stride=stride, padding=padding, bias=False)
        self.bn = nn.BatchNorm2d(outputs, eps=0.001)

    def forward(self, x: Tensor) -> Tensor:
        """Maps (N, C, H, W) to (N, C', H', W')."""
        return functional.relu(self.bn(self.conv(x)))


def _average(x: Tensor) -> Tensor:
    return functional.avg_pool2d(x, 3, stride=1, padding=1, count_include_pad=False)


def _maximum(x: Tensor) -> Tensor:
    return functional.max_pool2d(x, 3, stride=1, padding=1)


class InceptionA(nn.Module):
    """35x35: 1x1, 5x5, two 3x3, pool."""

    def __init__(self, inputs: int, pool_features: int) -> None:
        super().__init__()
        self.branch1x1 = Convolution(inputs, 64, 1)
        self.branch5x5_1 = Convolution(inputs, 48, 1)
        self.branch5x5_2 = Convolution(48, 64, 5, padding=2)
        self.branch3x3dbl_1 = Convolution(inputs, 64, 1)
        self.branch3x3dbl_2 = Convolution(64, 96, 3, padding=1)
        self.branch3x3dbl_3 = Convolution(96, 96, 3, padding=1)
        self.branch_pool = Convolution(inputs, pool_features, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Maps (N, C, H, W) to (N, C', H', W')."""
        double = self.branch3x3dbl_3(self.branch3x3dbl_2(self.branch3x3dbl_1(x)))
        return torch.cat(
            [self.branch1x1(x), self.branch5x5_2(self.branch5x5_1(x)), double, self.branch_pool(_average(x))], 1
        )


class InceptionB(nn.Module):
    """35x35 to 17x17."""

    def __init__(self, inputs: int) -> None:
        super().__init__()
        self.branch3x3 = Convolution(inputs, 384, 3, stride=2)
        self.branch3x3dbl_1 = Convolution(inputs, 64, 1)
        self.branch3x3dbl_2 = Convolution(64, 96, 3, padding=1)
        self.branch3x3dbl_3 = Convolution(96, 96, 3, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        """Maps (N, C, H, W) to (N, C', H', W')."""
        double = self.branch3x3dbl_3(self.branch3x3dbl_2(self.branch3x3dbl_1(x)))
        return torch.cat([self.branch3x3(x), double, functional.max_pool2d(x, 3, stride=2)], 1)


class InceptionC(nn.Module):
    """17x17: 1x1, 7x7 as 1x7 and 7x1, twice that, pool."""

    def __init__(self, inputs: int, width: int) -> None:
        super().__init__()
        self.branch1x1 = Convolution(inputs, 192, 1)
        self.branch7x7_1 = Convolution(inputs, width, 1)
        self.branch7x7_2 = Convolution(width, width, (1, 7), padding=(0, 3))
        self.branch7x7_3 = Convolution(width, 192, (7, 1), padding=(3, 0))
        self.branch7x7dbl_1 = Convolution(inputs, width, 1)
        self.branch7x7dbl_2 = Convolution(width, width, (7, 1), padding=(3, 0))
        self.branch7x7dbl_3 = Convolution(width, width, (1, 7), padding=(0, 3))
        self.branch7x7dbl_4 = Convolution(width, width, (7, 1), padding=(3, 0))
        self.branch7x7dbl_5 = Convolution(width, 192, (1, 7), padding=(0, 3))
        self.branch_pool = Convolution(inputs, 192, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Maps (N, C, H, W) to (N, C', H', W')."""
        single = self.branch7x7_3(self.branch7x7_2(self.branch7x7_1(x)))
        double = self.branch7x7dbl_3(self.branch7x7dbl_2(self.branch7x7dbl_1(x)))
        double = self.branch7x7dbl_5(self.branch7x7dbl_4(double))
        return torch.cat([self.branch1x1(x), single, double, self.branch_pool(_average(x))], 1)


class InceptionD(nn.Module):
    """17x17 to 8x8."""

    def __init__(self, inputs: int) -> None:
        super().__init__()
        self.branch3x3_1 = Convolution(inputs, 192, 1)
        self.branch3x3_2 = Convolution(192, 320, 3, stride=2)
        self.branch7x7x3_1 = Convolution(inputs, 192, 1)
        self.branch7x7x3_2 = Convolution(192, 192, (1, 7), padding=(0, 3))
        self.branch7x7x3_3 = Convolution(192, 192, (7, 1), padding=(3, 0))
        self.branch7x7x3_4 = Convolution(192, 192, 3, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        """Maps (N, C, H, W) to (N, C', H', W')."""
        wide = self.branch7x7x3_4(self.branch7x7x3_3(self.branch7x7x3_2(self.branch7x7x3_1(x))))
        return torch.cat([self.branch3x3_2(self.branch3x3_1(x)), wide, functional.max_pool2d(x, 3, stride=2)], 1)


class InceptionE(nn.Module):
    """8x8: 1x1, 3x3 as 1x3 beside 3x1, 3x3 before that, pool."""

    def __init__(self, inputs: int, pool: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.pool = pool
        self.branch1x1 = Convolution(inputs, 320, 1)
        self.branch3x3_1 = Convolution(inputs, 384, 1)
        self.branch3x3_2a = Convolution(384, 384, (1, 3), padding=(0, 1))
        self.branch3x3_2b = Convolution(384, 384, (3, 1), padding=(1, 0))
        self.branch3x3dbl_1 = Convolution(inputs, 448, 1)
        self.branch3x3dbl_2 = Convolution(448, 384, 3, padding=1)
        self.branch3x3dbl_3a = Convolution(384, 384, (1, 3), padding=(0, 1))
        self.branch3x3dbl_3b = Convolution(384, 384, (3, 1), padding=(1, 0))
        self.branch_pool = Convolution(inputs, 192, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Maps (N, C, H, W) to (N, C', H', W')."""
        single = self.branch3x3_1(x)
        double = self.branch3x3dbl_2(self.branch3x3dbl_1(x))
        parts = [
            self.branch1x1(x),
            self.branch3x3_2a(single),
            self.branch3x3_2b(single),
            self.branch3x3dbl_3a(double),
            self.branch3x3dbl_3b(double),
            self.branch_pool(self.pool(x)),
        ]
        return torch.cat(parts, 1)


class Inception(nn.Module):
    """The whole network up to the last average pool."""

    def __init__(self) -> None:
        super().__init__()
        self.Conv2d_1a_3x3 = Convolution(3, 32, 3, stride=2)
        self.Conv2d_2a_3x3 = Convolution(32, 32, 3)
        self.Conv2d_2b_3x3 = Convolution(32, 64, 3, padding=1)
        self.Conv2d_3b_1x1 = Convolution(64, 80, 1)
        self.Conv2d_4a_3x3 = Convolution(80, 192, 3)
        self.Mixed_5b = InceptionA(192, pool_features=32)
        self.Mixed_5c = InceptionA(256, pool_features=64)
        self.Mixed_5d = InceptionA(288, pool_features=64)
        self.Mixed_6a = InceptionB(288)
        self.Mixed_6b = InceptionC(768, 128)
        self.Mixed_6c = InceptionC(768, 160)
        self.Mixed_6d = InceptionC(768, 160)
        self.Mixed_6e = InceptionC(768, 192)
        self.Mixed_7a = InceptionD(768)
        self.Mixed_7b = InceptionE(1280, _average)
        self.Mixed_7c = InceptionE(2048, _maximum)
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
