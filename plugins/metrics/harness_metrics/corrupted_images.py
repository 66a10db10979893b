"""Real images, damaged by a known amount: what a metric of samples should say of them is known beforehand.

After the disturbances of Heusel et al. 2017, arXiv 1706.08500, and the dropped and invented modes of Sajjadi et al.
2018, arXiv 1806.00035.
"""

from __future__ import annotations

import math
from typing import ClassVar, Literal

import torch
from torch import Tensor
from torch.nn import functional

from harness import Dataset, ImageSpec, Model, Trainer, Unsupported

Damage = Literal[
    "none", "noise", "speckle", "blur", "saturation", "rotation", "mode-dropping", "mode-invention", "memorisation"
]
_MID = 0.5
_LEAST = 1e-9  # what is left of the range of grey at full saturation


class CorruptedImages(Model):
    """Draws validation images without replacement, and damages them: no model, but one whose faults are known.

    Neither the test split nor the training split holds them, so that undamaged they are what a perfect model draws. If
    more are asked for than there are, training images follow; no image is drawn twice, and more than both have, or
    have of the classes that are kept, is ``Unsupported``. Which images are drawn depends on the seed alone. A share is
    that of independent coins. A ``strength`` of 0 leaves images as they are, and 1 is the most:

    - ``noise``: a share of entries is uniform over the levels; at 1 nothing is left of the image.
    - ``speckle``: a share of entries is that of training images of its class, for each entry another; at 1 entries are
      independent given the class. Without labels, of any training image.
    - ``blur``: a Gaussian, of a standard deviation that is a quarter of the shorter side at 1; edges are repeated.
    - ``saturation``: contrast about mid grey; at 1 entries are black or white, but for mid grey itself.
    - ``rotation``: by up to 90 degrees to the left about the centre, bilinear; what was outside is 0.
    - ``mode-dropping``: classes that are not drawn, the last ones; at 1 all but the first. It needs labels.
    - ``mode-invention``: a share of images has another one's lower half, of another class if there are labels.
    - ``memorisation``: a share of images are training images.
    """

    default_budget: ClassVar[str] = "1 epoch"
    draws_jointly: ClassVar[bool] = True  # without replacement

    images: Tensor  # (V + T, C, H, W) uint8 once fitted: V validation images, then T training images
    labels: Tensor  # (V + T,) int64, 0 without labels
    num_fresh: Tensor  # V

    def __init__(self, spec: ImageSpec, *, damage: Damage = "none", strength: float = 0.0) -> None:
        super().__init__(spec)
        if not 0 <= strength <= 1:
            raise ValueError(f"strength must be from 0, the images as they are, to 1, not {strength}")
        if damage == "mode-dropping" and spec.num_classes is None:
            raise Unsupported("mode-dropping needs labels, that say which mode an image is of")
        self.damage, self.strength = damage, strength
        self.register_buffer("images", torch.empty(0, dtype=torch.uint8))
        self.register_buffer("labels", torch.empty(0, dtype=torch.int64))
        self.register_buffer("num_fresh", torch.zeros((), dtype=torch.int64))

    def fit(self, data: Dataset, trainer: Trainer) -> None:
        """Keeps the validation and training images."""
        splits = data.valid.draw(0), data.train.draw(0)
        labels = [torch.zeros(len(it), dtype=torch.int64) if it.labels is None else it.labels for it in splits]
        self.images = torch.cat([it.images for it in splits]).to(self.device)
        self.labels = torch.cat(labels).to(self.device)
        self.num_fresh = torch.tensor(len(data.valid), device=self.device)

    def sample(self, num_samples: int) -> Tensor:
        """Returns (num_samples, C, H, W) uint8, drawn with torch's global CPU generator."""
        if len(self.images) == 0:
            raise ValueError("CorruptedImages holds no images: fit it, or load its weights, first")
        fresh, total = int(self.num_fresh), len(self.images)
        order = torch.cat([torch.randperm(fresh), fresh + torch.randperm(total - fresh)]).to(self.device)
        order = order[self.labels[order] < self._num_kept()]
        if len(order) < num_samples:
            left = " of the classes that are kept" if self.damage == "mode-dropping" else ""
            raise Unsupported(f"{num_samples:,} samples are asked for, there are {len(order):,} images{left}")
        damage = getattr(self, f"_{self.damage.replace('-', '_')}", None)
        chosen = order[:num_samples]
        return self.images[chosen] if damage is None or self.strength == 0 else damage(chosen, order[num_samples:])

    def _num_kept(self) -> int:
        """The number of classes that are drawn."""
        classes = self.spec.num_classes or 1
        return classes - round(self.strength * (classes - 1)) if self.damage == "mode-dropping" else classes

    def _chosen(self, *shape: int) -> Tensor:
        """A boolean tensor, of which a share of ``strength`` is True."""
        return (torch.rand(shape) < self.strength).to(self.device)

    def _noise(self, chosen: Tensor, left: Tensor) -> Tensor:
        images = self.images[chosen]
        noise = torch.randint(self.spec.levels, images.shape, dtype=torch.uint8).to(self.device)
        return torch.where(self._chosen(*images.shape), noise, images)

    def _speckle(self, chosen: Tensor, left: Tensor) -> Tensor:
        images, labels, fresh = self.images[chosen], self.labels[chosen], int(self.num_fresh)
        found = images.flatten(1).clone()  # (N, D)
        for label in torch.unique(labels):
            rows, givers = labels == label, self.images[fresh:][self.labels[fresh:] == label].flatten(1)
            if len(givers) == 0:
                raise Unsupported(f"no training image is of class {int(label)}: its speckle has nothing to be made of")
            found[rows] = givers.gather(0, torch.randint(len(givers), found[rows].shape).to(self.device))
        return torch.where(self._chosen(*images.shape), found.view_as(images), images)

    def _blur(self, chosen: Tensor, left: Tensor) -> Tensor:
        deviation = self.strength * min(self.spec.height, self.spec.width) / 4
        reach = max(1, math.ceil(3 * deviation))
        places = torch.arange(-reach, reach + 1, dtype=torch.float64, device=self.device)
        kernel = (-(places**2) / (2 * deviation**2)).softmax(0)
        blurred = self.images[chosen].flatten(0, 1)[:, None].double()  # (N C, 1, H, W)
        for shape, padding in (((1, 1, -1, 1), (0, 0, reach, reach)), ((1, 1, 1, -1), (reach, reach, 0, 0))):
            blurred = functional.conv2d(functional.pad(blurred, padding, mode="replicate"), kernel.view(shape))
        return self._rounded(blurred.view(len(chosen), *self.spec.shape))

    def _saturation(self, chosen: Tensor, left: Tensor) -> Tensor:
        top = self.spec.levels - 1
        contrast = (self.images[chosen] / top - _MID).double() / max(1 - self.strength, _LEAST)
        return self._rounded(top * (_MID + contrast))

    def _rotation(self, chosen: Tensor, left: Tensor) -> Tensor:
        angle, (_, height, width) = self.strength * math.pi / 2, self.spec.shape
        cos, sin = math.cos(angle), math.sin(angle)
        turn = torch.tensor([[cos, -sin * height / width, 0], [sin * width / height, cos, 0]], dtype=torch.float64)
        images = self.images[chosen].double()
        turns = turn.expand(len(images), 2, 3).to(self.device)
        grid = functional.affine_grid(turns, list(images.shape), align_corners=False)
        return self._rounded(functional.grid_sample(images, grid, align_corners=False))

    def _mode_invention(self, chosen: Tensor, left: Tensor) -> Tensor:
        images, half = self.images[chosen], self.spec.height // 2
        may_give = self.labels[left] != self.labels[chosen][:, None]  # (N, L)
        may_give = may_give if self.spec.num_classes else torch.ones_like(may_give)
        if not bool(may_give.any(1).all()):
            raise Unsupported(f"{len(chosen):,} samples leave no image of another class to take a half of")
        givers = left[may_give.double().cpu().multinomial(1).squeeze(1).to(self.device)]
        joined = torch.cat([images[:, :, :half], self.images[givers][:, :, half:]], 2)
        return torch.where(self._chosen(len(images), 1, 1, 1), joined, images)

    def _memorisation(self, chosen: Tensor, left: Tensor) -> Tensor:
        copies = left[left >= int(self.num_fresh)][: len(chosen)]
        if len(copies) < len(chosen):
            raise Unsupported(f"{len(chosen):,} samples leave {len(copies):,} training images that can be copied")
        return torch.where(self._chosen(len(chosen), 1, 1, 1), self.images[copies], self.images[chosen])

    def _rounded(self, images: Tensor) -> Tensor:
        return images.round().clamp(0, self.spec.levels - 1).to(torch.uint8)
