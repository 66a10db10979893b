"""A dataset that is made in no time and has something to learn: noisy templates on any sample space."""

from __future__ import annotations

import torch

from harness.interface.dataset import Dataset, Split
from harness.interface.spec import ImageSpec
from harness.support.randomness import generator

_TEMPLATES = 3
_NOISE = 0.15
_SIZES = {"train": 240, "valid": 40, "test": 60}


def tiny_dataset(spec: ImageSpec, *, seed: int = 0) -> Dataset:
    """Returns images that are copies of a few random templates, of which 15 % of the entries are drawn anew.

    Labels, where the space has any, name the template, as far as there are enough of them.
    """
    random = generator(seed, "templates")
    count = min(spec.num_classes or _TEMPLATES, 10)
    templates = torch.randint(spec.levels, (count, *spec.shape), generator=random, dtype=torch.uint8)
    splits = {}
    for name, size in _SIZES.items():
        random = generator(seed, name)
        which = torch.randint(count, (size,), generator=random)
        others = torch.randint(spec.levels, (size, *spec.shape), generator=random, dtype=torch.uint8)
        redrawn = torch.rand(size, *spec.shape, generator=random) < _NOISE
        splits[name] = Split(torch.where(redrawn, others, templates[which]), which if spec.num_classes else None)
    return Dataset("tiny", spec, **splits, split_protocol="independent draws")
