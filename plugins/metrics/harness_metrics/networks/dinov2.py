"""DINOv2: vision transformers that learned from photographs without labels; patches of 14x14 pixels.

Oquab et al. 2023, arXiv 2304.07193. The class token after the last normalisation is what Stein et al. 2023, arXiv
2306.04675, compare samples by: of ``dinov2-vitl14`` there. Layers are called as the published weights call them.
"""

from __future__ import annotations

import io
from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

import harness
from harness_metrics.networks.preparation import WORDS, prepared

PATCH = 14
_MEAN, _SD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of the photographs that it was trained on


class Size(NamedTuple):
    """How large a transformer is, and the SHA-256 of its official weights."""

    width: int
    depth: int
    num_heads: int
    sha256: str


SIZES = {
    "vits14": Size(384, 12, 6, "b938bf1bc15cd2ec0feacfe3a1bb553fe8ea9ca46a7e1d8d00217f29aef60cd9"),
    "vitb14": Size(768, 12, 12, "0b8b82f85de91b424aded121c7e1dcc2b7bc6d0adeea651bf73a13307fad8c73"),
    "vitl14": Size(1024, 24, 16, "d5383ea8f4877b2472eb973e0fd72d557c7da5d3611bd527ceeb1d7162cbf428"),
}


class Block(nn.Module):
    """x + g1 Attention(Norm(x)), then x + g2 MLP(Norm(x)), with learned scales g of each channel."""

    def __init__(self, width: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.norm1, self.norm2 = nn.LayerNorm(width, eps=1e-6), nn.LayerNorm(width, eps=1e-6)
        self.attn = nn.ModuleDict({"qkv": nn.Linear(width, 3 * width), "proj": nn.Linear(width, width)})
        self.mlp = nn.ModuleDict({"fc1": nn.Linear(width, 4 * width), "fc2": nn.Linear(4 * width, width)})
        self.ls1, self.ls2 = (nn.ParameterDict({"gamma": torch.ones(width)}) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        """Maps (N, T, D) to (N, T, D)."""
        heads = self.attn["qkv"](self.norm1(x)).unflatten(2, (3, self.num_heads, -1))  # (N, T, 3, heads, D / heads)
        queries, keys, values = heads.permute(2, 0, 3, 1, 4)
        mixed = functional.scaled_dot_product_attention(queries, keys, values).transpose(1, 2).flatten(2)
        x = x + self.ls1["gamma"] * self.attn["proj"](mixed)
        hidden = functional.gelu(self.mlp["fc1"](self.norm2(x)))
        return torch.as_tensor(x + self.ls2["gamma"] * self.mlp["fc2"](hidden))


class VisionTransformer(nn.Module):
    """The network up to the normalised class token.

    Args:
        width, depth, num_heads: of the transformer.
        grid: of how many patches a side the position embeddings are; the published ones are of 37, for 518x518 pixels.
    """

    def __init__(self, width: int, depth: int, num_heads: int, grid: int = 37) -> None:
        super().__init__()
        self.grid = grid
        self.cls_token = nn.Parameter(torch.zeros(1, 1, width))
        self.pos_embed = nn.Parameter(torch.zeros(1, 1 + grid**2, width))
        self.patch_embed = nn.ModuleDict({"proj": nn.Conv2d(3, width, PATCH, stride=PATCH)})
        self.blocks = nn.Sequential(*(Block(width, num_heads) for _ in range(depth)))
        self.norm = nn.LayerNorm(width, eps=1e-6)

    def positions(self, side: int) -> Tensor:
        """Returns (1, 1 + side^2, D) for a square of patches: the learned ones, or interpolated between them.

        The published code asks for a tenth of a patch more than there is, and so its samples lie a little closer.
        """
        if side == self.grid:
            return self.pos_embed
        first, learned = self.pos_embed[:, :1], self.pos_embed[:, 1:].reshape(1, self.grid, self.grid, -1)
        scale = (side + 0.1) / self.grid
        between = functional.interpolate(learned.permute(0, 3, 1, 2), scale_factor=(scale, scale), mode="bicubic")
        return torch.cat([first, between.flatten(2).transpose(1, 2)], 1)

    def forward(self, x: Tensor) -> Tensor:
        """Maps (N, 3, S, S), normalised as photographs are, S a multiple of 14, to (N, D)."""
        patches = self.patch_embed["proj"](x).flatten(2).transpose(1, 2)  # (N, (S / 14)^2, D)
        tokens = torch.cat([self.cls_token.expand(len(x), -1, -1), patches], 1) + self.positions(x.shape[-1] // PATCH)
        return torch.as_tensor(self.norm(self.blocks(tokens)[:, 0]))


class DINOv2Features(harness.TorchFeatures):
    """The class token, for images of any size with one channel or three. It has no classes."""

    batch_size = 25

    def __init__(self, architecture: str, net: VisionTransformer, device: torch.device) -> None:
        super().__init__(net, device)
        self.name, self.num_features = f"dinov2-{architecture}", net.norm.normalized_shape[0]
        self.mean, self.sd = (torch.tensor(values, device=device).view(1, 3, 1, 1) for values in (_MEAN, _SD))

    def features(self, images: Tensor, spec: harness.ImageSpec) -> Tensor:
        """Maps (N, C, H, W) uint8 to (N, D), C being 1 or 3."""
        return torch.as_tensor(self.net((prepared(images, spec, self.name) - self.mean) / self.sd))

    def protocol(self) -> dict[str, str]:
        """Returns how images are resized as well."""
        return {**super().protocol(), "resize": WORDS}


def dinov2(evaluation: harness.Evaluation, architecture: str = "vits14") -> DINOv2Features:
    """Returns the network on the evaluation's device, with weights of its data folder."""
    folder = evaluation.data_folder or harness.DataFolder.resolve()
    return DINOv2Features(architecture, load_dinov2(architecture, folder), evaluation.device)


def official(architecture: str) -> harness.RemoteFile:
    """Returns the file of the official weights: where it belongs, where it comes from."""
    model = f"dinov2_{architecture}"
    address = f"https://dl.fbaipublicfiles.com/dinov2/{model}/{model}_pretrain.pth"
    return harness.RemoteFile(f"dinov2/{model}_pretrain.pth", (address,), sha256=SIZES[architecture].sha256)


def load_dinov2(architecture: str, folder: harness.DataFolder) -> VisionTransformer:
    """Returns the network with the official weights of a data folder, which are never downloaded.

    ``DataUnavailable`` says where to put them. The file is a pickle: it is looked at only if its SHA-256 is the
    official one, and then by torch's unpickler that knows tensors alone.
    """
    file = official(architecture)
    content = replace(folder, offline=True).read(file)
    tensors = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    del tensors["mask_token"]  # of the training alone
    width, depth, num_heads, _ = SIZES[architecture]
    net = VisionTransformer(width, depth, num_heads)
    harness.put_weights(tensors, net, source=file.path)
    return net
