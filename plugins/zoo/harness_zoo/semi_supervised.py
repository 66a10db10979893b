"""Learning from few labels: an unlabelled image has the label -1."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor
from torch.nn import functional as F

from harness import Split
from harness_zoo.conditional import needed

_UNLABELLED = -1


def keep_labels(split: Split, labels_per_class: int) -> Split:
    """Returns the split with the labels of its first ``labels_per_class`` images of each class alone."""
    labels = needed(split.labels)
    kept = torch.full_like(labels, _UNLABELLED)
    for label in range(int(labels.max()) + 1):
        places = (labels == label).nonzero().flatten()[:labels_per_class]
        kept[places] = label
    return replace(split, labels=kept)


def cross_entropy_of_labelled(logits: Tensor, labels: Tensor | None) -> Tensor:
    """Maps logits (N, K) and labels (N,) to the mean of -log p(label) over labelled images, in nats; 0 without any."""
    labels = needed(labels)
    total = F.cross_entropy(logits, labels, ignore_index=_UNLABELLED, reduction="sum")
    return total / (labels != _UNLABELLED).sum().clamp_min(1)
