"""What a benchmark asks of a dataset: the same content every time, within its space, nothing shared between splits."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch

from harness.discovery.loading import load_dataset
from harness.discovery.manager import plugin_manager
from harness.interface.data_folder import DataFolder, DataUnavailable
from harness.interface.dataset import Dataset
from harness.testing.conformance import Broken, Inapplicable
from harness.testing.model_promises import check_entry

_SPLITS = ("train", "valid", "test")


def _fresh(name: str, folder: Path | None) -> Dataset:
    try:
        return load_dataset(plugin_manager(), name, DataFolder.resolve(folder))
    except DataUnavailable as reason:
        raise Inapplicable(str(reason)) from reason
    except (ValueError, OSError) as error:
        raise Broken(str(error)) from error


_load = lru_cache(maxsize=2)(_fresh)


def registered(name: str, folder: Path | None) -> None:
    """Exactly one plugin registers it, the entry resolves and has a summary."""
    check_entry("dataset", name)


def loads(name: str, folder: Path | None) -> None:
    """It loads, and says where its splits come from."""
    data = _load(name, folder)
    if not data.split_protocol.strip():
        raise Broken(f"dataset {name!r} has no split_protocol: say in a sentence where its splits come from")


def stable(name: str, folder: Path | None) -> None:
    """Loaded twice, it is the same: its digest is part of the key of every run."""
    data, again = _load(name, folder), _fresh(name, folder)
    if data.digest() != again.digest():
        different = [part for part in _SPLITS if getattr(data, part).digest() != getattr(again, part).digest()]
        raise Broken(f"loaded twice, {' and '.join(different) or 'the spec'} differ: seed what is random")


def in_range(name: str, folder: Path | None) -> None:
    """Every draw of every split holds values below ``levels``, and labels below ``num_classes``."""
    data = _load(name, folder)
    classes = data.spec.num_classes
    for part in _SPLITS:
        split = getattr(data, part)
        for draw in range(split.num_draws):
            images = split.draw(draw).images
            if int(images.max()) >= data.spec.levels:
                raise Broken(f"{part} holds the value {int(images.max())}, the spec allows 0 to {data.spec.levels - 1}")
            if not torch.equal(images, split.draw(draw).images):
                raise Broken(f"draw {draw} of {part} is another one every time: seed it by its index")
        if (split.labels is None) != (classes is None):
            raise Broken(f"{part} has {'no ' * (split.labels is None)}labels, the spec says num_classes={classes}")
        if split.labels is not None and not 0 <= int(split.labels.min()) <= int(split.labels.max()) < (classes or 0):
            low, high = int(split.labels.min()), int(split.labels.max())
            raise Broken(f"{part} has labels from {low} to {high}, the spec says num_classes={classes}")


def varied(name: str, folder: Path | None) -> None:
    """Its images use more than one level and are not all the same."""
    images = _load(name, folder).train.draw(0).images
    if bool((images == images[0]).all()):
        raise Broken(f"all {len(images)} training images are the same")


def disjoint(name: str, folder: Path | None) -> None:
    """No image of a split lies in another one."""
    data = _load(name, folder)
    digests = {part: getattr(data, part).image_digests() for part in _SPLITS}
    for first, second in (("train", "valid"), ("train", "test"), ("valid", "test")):
        shared = np.isin(digests[second], digests[first])
        if shared.any():
            raise Broken(
                f"{int(shared.sum())} of {len(shared)} images of {second} are in {first} as well, "
                f"the first is image {int(shared.argmax())} of {second}: a model may have learned them by heart"
            )


PROMISES: Mapping[str, Callable[[str, Path | None], None]] = {
    "registered": registered,
    "loads": loads,
    "stable": stable,
    "in-range": in_range,
    "varied": varied,
    "disjoint": disjoint,
}
