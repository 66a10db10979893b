"""Split and Dataset: images as integers, with the official split and a digest of the content."""

import hashlib
import itertools
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Self

import numpy as np
import torch
from torch import Tensor

from harness.interface.spec import ImageSpec


@dataclass(frozen=True)
class Split:
    """Images of one split: (N, C, H, W) uint8, values in {0, ..., levels - 1}; labels are (N,) int64, or None.

    ``num_draws`` fixed draws stand for this split when it is scored: 1 unless the data are random.
    """

    images: Tensor
    labels: Tensor | None = None
    num_draws: int = field(default=1, kw_only=True)

    def __post_init__(self) -> None:
        if self.images.ndim != 4 or self.images.dtype != torch.uint8:
            raise ValueError(f"images must be (N, C, H, W) uint8, not {tuple(self.images.shape)} {self.images.dtype}")
        if self.labels is not None and (self.labels.shape != self.images.shape[:1] or self.labels.dtype != torch.int64):
            found = f"{tuple(self.labels.shape)} {self.labels.dtype}"
            raise ValueError(f"labels must be ({len(self.images)},) int64, not {found}")

    def __len__(self) -> int:
        return len(self.images)

    def draw(self, index: int) -> "Split":
        """Returns the seeded draw number ``index`` of random data; a split of fixed images returns itself."""
        return self

    def take(self, index: Tensor) -> "Split":
        """Returns the images (and labels) at ``index``, (M,) int64, as a split of fixed images."""
        return Split(self.images[index], None if self.labels is None else self.labels[index])

    def to(self, device: torch.device | str) -> Self:
        """Returns the same split on another device."""
        if self.images.device == torch.device(device):
            return self
        labels = None if self.labels is None else self.labels.to(device)
        return replace(self, images=self.images.to(device), labels=labels)

    def digest(self) -> str:
        """Returns the SHA-256 of shapes and content, in hexadecimal."""
        sha = hashlib.sha256(repr((tuple(self.images.shape), self.num_draws)).encode())
        for tensor in (self.images, self.labels):
            if tensor is not None:
                sha.update(tensor.cpu().contiguous().numpy().data)
        return sha.hexdigest()

    def image_digests(self) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
        """Returns (N,) int64: eight bytes of each image's SHA-256, by which paired tests recognise an image."""
        rows = self.images.cpu().contiguous().flatten(1).numpy()
        heads = [hashlib.sha256(row.data).digest()[:8] for row in rows]
        return np.frombuffer(b"".join(heads), dtype="<i8").astype(np.int64)


@dataclass(frozen=True)
class BernoulliSplit(Split):
    """Grey images whose pixels are redrawn as zero or one at every draw (Salakhutdinov & Murray 2008).

    ``images`` holds the intensities, 0 to 255: the probability of a one is intensity / 255. Scoring code takes
    ``draw(k)`` for k in range(num_draws); training takes a new draw for each epoch.
    """

    seed: int = field(default=0, kw_only=True)

    def draw(self, index: int) -> Split:
        """Returns binary images: draw number ``index``, the same for the same seed and index, whatever the device."""
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + index)
        uniform = torch.rand(self.images.shape, generator=generator)
        images = (uniform < self.images.cpu().to(torch.float32) / 255).to(torch.uint8)
        return Split(images.to(self.images.device), self.labels)

    def digest(self) -> str:
        """Returns the SHA-256 of the intensities, the labels, the seed and the number of draws."""
        return hashlib.sha256(f"{super().digest()} {self.seed}".encode()).hexdigest()


@dataclass(frozen=True)
class Dataset:
    """A dataset; its preprocessing is part of its name: ``mnist-static``, ``mnist-dynamic`` and ``mnist`` are three.

    ``train`` is to learn from, choices are made on ``valid``, ``test`` is scored: the official split where there is
    one. ``split_protocol`` is one sentence on where the splits come from.
    """

    name: str
    spec: ImageSpec
    train: Split
    valid: Split
    test: Split
    split_protocol: str = ""

    def __post_init__(self) -> None:
        for name in ("train", "valid", "test"):
            split, where = getattr(self, name), f"dataset {self.name!r}"
            shape, highest = tuple(split.images.shape[1:]), self.spec.levels - 1
            if shape != self.spec.shape:
                raise ValueError(f"{where}: {name} images are {shape}, the spec says {self.spec.shape}")
            if len(split) == 0:
                raise ValueError(f"{where}: the {name} split is empty")
            if not isinstance(split, BernoulliSplit) and (value := int(split.images.max())) > highest:
                raise ValueError(f"{where}: {name} holds the value {value}, the spec allows 0 to {highest}")

    def digest(self) -> str:
        """Returns the SHA-256 of the spec and of the content of all three splits, in hexadecimal."""
        parts = [repr(self.spec), self.train.digest(), self.valid.digest(), self.test.digest()]
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()

    def caveats(self, others: Mapping[str, Split] | None = None) -> dict[str, int]:
        """Counts what no figure should be read without: ``test in train``, images of one split that are in another too.

        Of ``others``, samples that somebody else made, it counts those that are in a split. A twentieth is left unsaid:
        simple images repeat by chance. ``levels used`` is 1 or 2, where training images have no more of many: then they
        were scaled, or the number of levels is wrong.
        """
        splits, others = {"train": self.train, "valid": self.valid, "test": self.test}, others or {}
        digests = {name: split.image_digests() for name, split in {**splits, **others}.items()}
        pairs = [("test", "train"), ("test", "valid"), ("valid", "train"), *itertools.product(others, splits)]
        found = dict[str, int]()
        for one, other in pairs:
            count = int(np.isin(digests[one], digests[other]).sum())
            if count > len(digests[one]) / 20:
                found[f"{one} in {other}"] = count
        if self.spec.levels > 2 and not isinstance(self.train, BernoulliSplit):
            used = int(torch.bincount(self.train.images.flatten()).count_nonzero())
            found |= {"levels used": used} if used <= 2 else {}
        return found


class KnownDistribution(ABC):
    """A distribution of images whose log-probability can be computed."""

    spec: ImageSpec

    @abstractmethod
    def log_prob(self, images: Tensor) -> Tensor:
        """Maps (N, C, H, W) uint8 on the CPU to (N,) float64 nats, exactly."""

    @abstractmethod
    def sample(self, num_images: int, generator: torch.Generator) -> Tensor:
        """Draws (num_images, C, H, W) uint8."""

    @property
    def entropy(self) -> float | None:
        """In nats an image, exactly; None where that sum is too long: then it is the mean of -log p, with an error."""
        return None


@dataclass(frozen=True)
class KnownDataset(Dataset):
    """A dataset whose images were drawn, independently, from a known distribution."""

    distribution: KnownDistribution = field(kw_only=True)

    def log_prob(self, images: Tensor) -> Tensor:
        """Maps (N, C, H, W) uint8 to (N,) float64 nats, on the CPU: log p_true(image)."""
        return self.distribution.log_prob(images.cpu())

    @property
    def entropy(self) -> float | None:
        """Of the distribution, in nats an image; None where it is not known exactly."""
        return self.distribution.entropy

    def caveats(self, others: Mapping[str, Split] | None = None) -> dict[str, int]:
        """Counts the same, but for images that its own splits share: independent draws repeat by chance alone."""
        own = ("test in train", "test in valid", "valid in train")
        return {what: count for what, count in super().caveats(others).items() if what not in own}

    @classmethod
    def draw(cls, name: str, distribution: KnownDistribution, *, sizes: tuple[int, int, int], seed: int) -> Self:
        """Draws the splits of a dataset; ``sizes`` are the numbers of training, validation and test images."""
        generator = torch.Generator().manual_seed(seed)
        train, valid, test = (Split(distribution.sample(size, generator)) for size in sizes)
        counts = f"{sizes[0]:,} train, then {sizes[1]:,} valid, then {sizes[2]:,} test"
        protocol = f"independent draws from a known distribution, seed {seed}: {counts}"
        return cls(name, distribution.spec, train, valid, test, protocol, distribution=distribution)
